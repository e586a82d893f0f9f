"""The section on experiments: each with its groups, its intervals and its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.control.dashboard.charts import interval
from gateway.control.dashboard.figures import change, count, of_metric, plain, share, words
from gateway.control.dashboard.markup import Content, Markup, element
from gateway.control.dashboard.parts import Document, badge, empty, panel, table

_STATUS_TONES = {"running": "good", "paused": "calm", "concluded": "calm", "draft": "calm"}
_FALLS = frozenset(("response_time", "cost_per_request", "error_rate"))
"""Metrics that are better when they are lower, where the experiment does not say."""


def experiments(document: Document) -> Markup:
    """Every experiment."""
    found = document["experiments"]
    if not found:
        text = "No experiment yet. Write one under deployment.experiments, or post one to the API."
        return panel("experiments", "Experiments", empty(text))
    return panel("experiments", "Experiments", [_experiment(experiment) for experiment in found])


def _experiment(experiment: Document) -> Markup:
    results = experiment["results"]
    status = experiment["status"]
    groups = results.get("groups") or {}
    return element(
        "article",
        element(
            "header", element("h3", experiment["name"]), badge(status, _STATUS_TONES.get(status, "calm"))
        ),
        element("p", _summary(experiment), class_="note"),
        _ratio(results.get("sample_ratio") or {}),
        _groups(groups),
        [_metric(name, found) for name, found in (results.get("metrics") or {}).items()],
        _verdict(results),
        class_="experiment",
    )


def _summary(experiment: Document) -> list[Content]:
    significance = experiment["statistical_significance"]
    proof = None
    if significance is not None:
        sure = "significant" if significance["significant"] else "not significant"
        proof = f" · {words(significance['metric'])} p = {plain(significance['p_value'])}, {sure}"
    return [element("code", experiment["id"]), f" · {count(experiment['participants'])} participants", proof]


def _ratio(ratio: Document) -> Markup | None:
    if ratio.get("ok", True):
        return None
    text = (
        f" the groups' sizes contradict their weights (p = {plain(ratio.get('p_value'))}): no result counts"
    )
    return element("p", badge("invalid", "critical"), text, class_="invalid")


def _groups(groups: Document) -> Markup:
    weights = sum(group["weight"] for group in groups.values()) or 1
    rows = [
        (
            name,
            share(group["weight"] / weights),
            count(group.get("participants")),
            count(group.get("requests")),
        )
        for name, group in groups.items()
    ]
    return table("Groups", ("group", "weight", "participants", "requests"), rows)


def _metric(name: str, found: Document) -> Markup | None:
    groups = found.get("groups") or {}
    means = ", ".join(f"{group} {of_metric(name, mean.get('mean'))}" for group, mean in groups.items())
    compared = [one for one in found.get("comparisons") or () if one.get("interval")]
    if not groups and not compared:
        return None
    return element(
        "div",
        element("h4", words(name), " ", element("small", means)),
        [_comparison(name, one, found, compared) for one in compared],
        None if compared else element("p", "too few participants to say anything", class_="empty"),
        class_="effect",
    )


def _comparison(metric: str, one: Document, found: Document, compared: Sequence[Document]) -> Markup:
    control = ((found.get("groups") or {}).get("control") or {}).get("mean")
    low, high = one["interval"]
    middle = one["difference"]
    reach = max(abs(bound) for other in compared for bound in other["interval"]) * 1.15
    falls = found.get("direction", "down" if metric in _FALLS else "up") == "down"
    tone = _tone(low, high, falls=falls)
    relative = [change(value / control) if control else plain(value) for value in (middle, low, high)]
    said = f"{relative[0]} ({relative[1]} to {relative[2]})"
    verdict = {"better": "better", "worse": "worse", "open": "open"}[tone]
    return element(
        "div",
        element("span", one["group"], class_="group"),
        interval(f"{one['group']}: {said}, {verdict}", low, middle, high, reach, tone),
        element("span", said, " ", element("span", verdict, class_=f"tone-word {tone}"), class_="said"),
        class_="comparison",
    )


def _tone(low: float, high: float, *, falls: bool) -> str:
    """Better or worse where the interval leaves zero out; open else."""
    if low > 0:
        return "worse" if falls else "better"
    if high < 0:
        return "better" if falls else "worse"
    return "open"


def _verdict(results: Document) -> Markup | None:
    verdict, explanation = results.get("verdict"), results.get("explanation")
    if not verdict and not explanation:
        return None
    named = badge(words(str(verdict)), "calm") if verdict else None
    return element("p", named, " ", explanation, class_="explanation")
