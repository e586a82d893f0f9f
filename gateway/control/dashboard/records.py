"""The sections on history and machinery: alerts, history, workers, endpoints, config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.control.dashboard.charts import bars
from gateway.control.dashboard.figures import count, duration, of_metric, plain, unix, words
from gateway.control.dashboard.markup import Content, Markup, element
from gateway.control.dashboard.parts import Document, badge, empty, facts, moment, panel, table

_SEVERITY_TONES = {"critical": "critical", "high": "critical", "medium": "warning", "low": "calm"}
_EVENT_TONES = {
    "rollback": "critical",
    "emergency": "critical",
    "alert": "warning",
    "hold": "warning",
    "trial": "warning",
    "rejection": "warning",
    "drain": "warning",
    "release": "good",
    "approval": "good",
    "phase_transition": "good",
}


def _now(document: Document) -> float:
    return unix(document["at"]) or 0.0


# --- alerts -------------------------------------------------------------------------------------


def alerts(document: Document) -> Markup:
    """What is raised now, and how often something was raised lately."""
    found, now = document["alerts"], _now(document)
    active = found["active_alerts"]
    lines = [_alert(alert, now) for alert in active]
    trends = found["alert_trends"]
    return panel(
        "alerts",
        "Alerts",
        element("ul", lines, class_="lines") if lines else empty("No alert is active."),
        _trend(trends) if trends["last_day"] else _quiet(active),
    )


def _quiet(active: Sequence[Document]) -> Markup | None:
    """What stands was raised before, or a moment ago and is not among the events yet."""
    return None if active else empty("Nothing was raised in the last day.")


def _trend(trends: Document) -> Markup:
    names = [f"{hours} h ago" for hours in range(len(trends["by_hour"]) - 1, -1, -1)]
    return element(
        "div",
        element("h3", "Raised per hour, last day"),
        bars("Alerts raised per hour", trends["by_hour"], names),
        element("p", f"{trends['last_day']} in a day, {trends['direction']}", class_="note"),
        class_="trend",
    )


def _alert(alert: Document, now: float) -> Markup:
    severity = alert["severity"]
    value, threshold = alert.get("value"), alert.get("threshold")
    kind = str(alert.get("metric") or alert["type"])
    against = None
    if isinstance(value, int | float) and isinstance(threshold, int | float):
        against = f" {of_metric(kind, value)} against {of_metric(kind, threshold)}"
    since = alert.get("since")
    return element(
        "li",
        badge(severity, _SEVERITY_TONES.get(severity, "calm")),
        element(
            "strong", words(str(alert["type"])), f" ({alert['arm']})" if alert.get("arm") else None, against
        ),
        element("span", alert.get("message"), class_="note"),
        element("span", moment(since, now), class_="note") if since else None,
    )


# --- history ------------------------------------------------------------------------------------


def history(document: Document) -> Markup:
    """What happened, newest first: who, why, and with which evidence."""
    events = [_event(event, _now(document)) for event in reversed(document["history"])]
    if not events:
        return panel("history", "History", empty("Nothing has happened yet."))
    return panel("history", "History", element("ol", events, class_="lines events"))


def _event(event: Document, now: float) -> Markup:
    moved = event["to"] is not None and event["from"] != event["to"]
    places = f" {_place(event['from'])} → {_place(event['to'])}" if moved else _about(event["evidence"])
    return element(
        "li",
        moment(event["at"], now),
        badge(words(event["type"]), _EVENT_TONES.get(event["type"], "calm")),
        element("span", element("strong", event["operator"]), places),
        element("span", event["reason"], class_="reason") if event["reason"] else None,
        _evidence(event),
    )


def _about(evidence: Document) -> str | None:
    """Which gate and what it says, or which experiment and how it stands, where the event is about one."""
    if "experiment" in evidence:
        return f" {evidence['experiment']} {words(str(evidence.get('status', '')))}"
    if "gate" not in evidence:
        return None
    verdict = evidence.get("verdict", "")
    if "success" in evidence:
        verdict = "succeeded" if evidence["success"] else "failed"
    return f" {words(str(evidence['gate']).rpartition('.')[2])} {verdict}"


def _place(name: Any) -> str:
    """A phase as words, a digest shortened."""
    text = words(str(name or "nothing"))
    return text[:12] if text.startswith("sha") or len(text) > 40 else text


def _evidence(event: Document) -> Markup | None:
    evidence = event["evidence"]
    if not evidence:
        return None
    named = f"{event['at']}-{event['type']}-{evidence.get('version', '')}"
    lines = facts([(words(str(name)), _told(value)) for name, value in evidence.items()])
    return element("details", element("summary", "details"), lines, data_key=named)


def _told(value: Any) -> Content:
    """A value of the evidence, however it is nested."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int | float):
        return plain(value) if isinstance(value, float) else str(value)
    if isinstance(value, Mapping):
        return facts([(words(str(name)), _told(inner)) for name, inner in value.items()])
    if isinstance(value, list | tuple):
        return element("ul", [element("li", _told(inner)) for inner in value])
    return str(value)


# --- what runs ----------------------------------------------------------------------------------


def machine(document: Document) -> Markup:
    """Workers, endpoints, and the config in force."""
    now, config, gateway = _now(document), document["config"], document["gateway"]
    snapshot = gateway["snapshot"]
    workers = [
        (
            str(worker["pid"]),
            moment(worker["since"], now),
            count(worker["connections"]),
            count(worker["inflight"]),
            _served_by(worker["snapshot"], snapshot),
        )
        for worker in document["workers"]
    ]
    endpoints = [
        (
            element("code", endpoint["endpoint"]),
            name,
            count(endpoint["inflight"]),
            badge("usable", "good") if endpoint["usable"] else badge("not used", "critical"),
            _breaker(upstream["breaker"]),
        )
        for name, upstream in document["upstreams"].items()
        for endpoint in upstream["endpoints"]
    ]
    started = unix(gateway["started_at"])
    about = facts(
        [
            ("config", element("code", config["digest"][:19])),
            ("loaded", moment(config["loaded_at"], now)),
            ("up", duration(None if started is None else now - started)),
            ("restarts", f"{gateway['worker_restarts']} worker, {gateway['control_restarts']} control"),
        ]
    )
    return panel(
        "machine",
        "Workers and endpoints",
        table("Workers", ("worker", "since", "connections", "in flight", "serves by"), workers)
        if workers
        else empty("No worker is running."),
        table("Endpoints", ("endpoint", "upstream", "in flight", "state", "breaker"), endpoints),
        about,
        _refused(config),
    )


def _served_by(snapshot: int | None, newest: int) -> Content:
    if snapshot is None:
        return "–"
    return f"{snapshot}" if snapshot == newest else [f"{snapshot} ", badge("behind", "warning")]


def _breaker(breaker: Document | None) -> Content:
    """The circuit breaker of the endpoint's upstream, where it has one."""
    if breaker is None:
        return "–"
    return (
        badge("closed", "good")
        if breaker["state"] == "closed"
        else badge(words(breaker["state"]), "critical")
    )


def _refused(config: Document) -> Markup | None:
    """The newest config that was not taken."""
    if config["error"] is None:
        return None
    return element(
        "div",
        badge("config refused", "critical"),
        element("pre", config["error"]),
        class_="refused",
        role="alert",
    )
