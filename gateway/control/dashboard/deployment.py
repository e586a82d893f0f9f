"""The sections on the rollout: the big state, the phases, the gates ahead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.control.dashboard.charts import meter
from gateway.control.dashboard.figures import duration, of_metric, outcome, percentage, unix, words
from gateway.control.dashboard.markup import Content, Markup, element
from gateway.control.dashboard.parts import (
    Document,
    badge,
    button,
    facts,
    icon,
    moment,
    panel,
    when,
)

_VERDICT_TONES = {"pass": "good", "fail": "critical", "inconclusive": "warning", "pending": "calm"}
_HEALTH_TONES = {"healthy": "good", "degraded": "warning", "unhealthy": "critical", "unknown": "calm"}
_COUNTED = {"service_seconds": ("healthy service", duration), "success": ("the test", outcome)}
"""What gates count beside metrics: a name for people, and how it is written."""


def state(document: Document) -> Markup:
    """The banner: one word that cannot be misread, what it means, who and why."""
    seen, now = document["state"], unix(document["at"]) or 0.0
    deployment = document["deployment"]
    why = element("p", _why(seen, now), class_="why") if seen["reason"] or seen["since"] else None
    word = element("p", icon(seen["condition"]), element("strong", seen["word"]), class_="word")
    told = element("div", word, element("p", seen["meaning"], class_="meaning"), why)
    key = facts(
        [
            ("phase", words(deployment["current_phase"])),
            ("users on rollout", percentage(deployment["rollout_percentage"])),
            ("treatment", _health(deployment["canary_health"])),
        ]
    )
    return element(
        "section",
        told,
        key,
        id="state",
        class_=f"state {seen['tone']}",
        data_condition=seen["condition"],
        aria_label="State",
    )


def _why(seen: Document, now: float) -> list[Content]:
    by = element("span", " — ", seen["operator"], class_="who") if seen["operator"] else None
    since = element("span", " since ", moment(seen["since"], now)) if seen["since"] else None
    return [seen["reason"], by, since]


def _health(health: Document) -> Markup:
    return element("span", badge(health["status"], _HEALTH_TONES[health["status"]]), title=health["reason"])


def rollout(document: Document) -> Markup:
    """The ladder, what may be done, and the gates towards the next phase."""
    deployment, now = document["deployment"], unix(document["at"]) or 0.0
    note: Content = ["in this phase since ", moment(deployment["phase_since"], now)]
    return panel(
        "rollout",
        "Rollout",
        _ladder(deployment),
        _actions(document),
        _notices(deployment, now),
        _gates(deployment, latched=document["latch"]["engaged"]),
        note=note,
    )


# --- the ladder ---------------------------------------------------------------------------------


def _ladder(deployment: Document) -> Markup:
    rungs = deployment["ladder"]
    names = [rung["name"] for rung in rungs]
    current = names.index(deployment["current_phase"]) if deployment["current_phase"] in names else -1
    return element(
        "ol",
        [_rung(rung, place - current, deployment) for place, rung in enumerate(rungs)],
        class_="ladder",
        aria_label="Phases",
    )


def _rung(rung: Document, distance: int, deployment: Document) -> Markup:
    place = "current" if distance == 0 else "passed" if distance < 0 else "ahead"
    said = {"current": "now", "passed": "passed", "ahead": "ahead"}[place]
    enrolled = deployment["rollout_percentage"] if distance == 0 else rung["percentage"]
    differs = distance == 0 and enrolled != rung["percentage"]
    return element(
        "li",
        element("span", words(rung["name"]), class_="rung-name"),
        element("span", percentage(enrolled), class_="rung-share"),
        element("span", f"of {percentage(rung['percentage'])}", class_="rung-of") if differs else None,
        element("span", said, class_="rung-place"),
        element("span", "by itself", class_="rung-place") if rung["advance"] == "automatic" else None,
        class_=place,
        aria_current="step" if distance == 0 else None,
    )


# --- what may be done ---------------------------------------------------------------------------


def _actions(document: Document) -> Markup:
    deployment, latched = document["deployment"], document["latch"]["engaged"]
    following = deployment["next_phase"]
    towards = f"Advance to {words(following)}" if following else "Advance"
    resting = deployment["paused"]
    return element(
        "div",
        button("Release", "release", tone="primary", number=str(document["latch"]["number"]))
        if latched
        else button(towards, "advance", tone="primary", enabled=following is not None, to=following),
        button("Resume", "resume") if resting else button("Pause", "pause", enabled=not latched),
        button("Roll back", "rollback", tone="danger", enabled=not latched),
        class_="actions",
        role="group",
        aria_label="Actions",
    )


def _notices(deployment: Document, now: float) -> Markup | None:
    """What holds everything, beyond the gates."""
    notices: list[Content] = [
        [
            badge("hold", "warning"),
            " ",
            words(hold["kind"]),
            ": ",
            hold["reason"],
            " since ",
            moment(hold["since"], now),
        ]
        for hold in deployment["holds"]
    ]
    if deployment["ceiling"] is not None:
        share = percentage(deployment["ceiling"])
        notices.append([badge("ceiling", "warning"), f" at most {share} of users until the next advance"])
    if deployment["percentage_after_release"] is not None:
        share = percentage(deployment["percentage_after_release"])
        notices.append([badge("latched", "critical"), f" a release comes back with {share} of users"])
    if deployment["automatic_off"]:
        phases = ", ".join(map(words, deployment["automatic_off"]))
        notices.append([badge("manual", "calm"), f" {phases}: entered by hand only, after a rollback"])
    if not notices:
        return None
    return element("ul", [element("li", notice) for notice in notices], class_="notices")


# --- the gates ----------------------------------------------------------------------------------


def _gates(deployment: Document, *, latched: bool) -> Markup:
    gates = deployment["gates"]
    if not gates:
        text = "No gate stands ahead." if deployment["next_phase"] else "This is the last phase."
        return element("p", text, class_="empty")
    earliest = {entry["gate"]: entry["earliest"] for entry in deployment["schedule"]}
    running = deployment["running_tests"]
    cards = [_gate(gate, earliest.get(gate["id"]), running, latched=latched) for gate in gates]
    return element("ul", cards, class_="gates", aria_label="Gates ahead")


def _gate(gate: Document, earliest: Any, running: Iterable[str], *, latched: bool) -> Markup:
    verdict = gate["verdict"]
    heading = element("h3", words(gate["type"]), " ", element("small", _towards(gate["transition"])))
    flag = element(
        "span", icon(verdict), element("span", verdict), class_=f"verdict {_VERDICT_TONES[verdict]}"
    )
    waits = verdict != "pass" and earliest is not None and gate["type"] != "manual_approval"
    return element(
        "li",
        element("header", heading, flag),
        [_finding(finding) for finding in gate["findings"]],
        element("p", "the test is running", class_="note") if gate["id"] in running else None,
        element("p", "earliest ", when(earliest), class_="note") if waits else None,
        _votes(gate, enabled=not latched) if gate["type"] == "manual_approval" else None,
        class_="gate",
    )


def _towards(transition: str) -> str:
    return words(transition).replace("->", "→")


def _finding(finding: Document) -> Markup:
    metric, value, limit = finding["metric"], finding["value"], finding["threshold"]
    name, show = _COUNTED.get(metric, (words(metric), lambda number: of_metric(metric, number)))
    measured, wanted = show(value), show(limit)
    operator = finding["comparison"].removeprefix(metric).split()[0]
    said = f"{name}: {measured}, wanted {operator} {wanted}"
    return element(
        "div",
        element(
            "p",
            element("span", name, class_="metric"),
            element("span", measured, class_="value"),
            element("span", f"{_SIGNS.get(operator, operator)} {wanted}", class_="wanted"),
        ),
        meter(said, value, limit, rises=operator.startswith(">")),
        element("p", finding["reason"], class_="reason"),
        class_=f"finding {_VERDICT_TONES[finding['verdict']]}",
    )


_SIGNS = {">=": "≥", "<=": "≤"}


def _votes(gate: Document, *, enabled: bool) -> Markup:
    return element(
        "div",
        button("Approve", "approve", tone="primary", enabled=enabled, gate=gate["id"]),
        button("Reject", "reject", enabled=enabled, gate=gate["id"]),
        class_="actions",
        role="group",
        aria_label=f"Decide on {gate['id']}",
    )
