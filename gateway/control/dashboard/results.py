"""The section on experiments: groups, intervals and verdict of each one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.control.dashboard.charts import interval
from gateway.control.dashboard.figures import (
    Format,
    chance,
    change,
    count,
    difference,
    of_metric,
    share,
    words,
)
from gateway.control.dashboard.markup import Content, Markup, element
from gateway.control.dashboard.parts import Document, badge, empty, panel, table, when

_STATUS_TONES = {"running": "good", "paused": "calm", "concluded": "calm", "draft": "calm"}
_RESTING = frozenset(("draft", "concluded"))
MOST_OPEN = 3
"""Experiments that are all shown whole; of more, those that measure nothing are folded."""


def experiments(document: Document) -> Markup:
    """Every experiment."""
    found = document["experiments"]
    if not found:
        text = "No experiment yet. Write one under deployment.experiments, or post one to the API."
        return panel("experiments", "Experiments", empty(text))
    resting = [one for one in found if one["status"] in _RESTING] if len(found) > MOST_OPEN else []
    shown = [one for one in found if one not in resting]
    return panel("experiments", "Experiments", [_experiment(one) for one in shown], _folded(resting))


def _folded(resting: Sequence[Document]) -> Markup | None:
    """Experiments that measure nothing now, one line each until somebody opens it."""
    if not resting:
        return None
    lines = [
        element(
            "details",
            element("summary", one["name"], " ", badge(one["status"], _STATUS_TONES[one["status"]])),
            _experiment(one),
            data_key=f"experiment-{one['id']}",
        )
        for one in resting
    ]
    return element("div", lines, class_="resting")


def _experiment(experiment: Document) -> Markup:
    results = experiment["results"]
    status = experiment["status"]
    return element(
        "article",
        element(
            "header", element("h3", experiment["name"]), badge(status, _STATUS_TONES.get(status, "calm"))
        ),
        element("p", _summary(experiment), class_="note"),
        _ratio(results["sample_ratio"]),
        _groups(results["groups"], results["minimum_sample_size"]),
        [_metric(name, found) for name, found in _ordered(results["metrics"])],
        _verdict(results),
        class_="experiment",
    )


def _summary(experiment: Document) -> list[Content]:
    significance, end = experiment["statistical_significance"], experiment["results"]["planned_end"]
    told: list[Content] = [element("code", experiment["id"])]
    if end is not None:
        told.append([" · planned until ", when(end)])
    if significance is not None:
        sure = "significant" if significance["significant"] else "not significant"
        told.append(f" · {words(significance['metric'])} {chance(significance['p_value'])}, {sure}")
    return told


def _ratio(ratio: Document) -> Markup | None:
    if ratio["ok"]:
        return None
    text = f" the groups' sizes contradict their weights ({chance(ratio['p_value'])}): no result counts"
    return element("p", badge("invalid", "critical"), text, class_="invalid")


def _groups(groups: Document, wanted: int) -> Markup:
    rows = [
        (
            name,
            share(group["share"]),
            _progress(group["participants"], wanted),
            count(group["requests"]),
        )
        for name, group in groups.items()
    ]
    return table("Groups", ("group", "weight", "participants", "requests"), rows)


def _progress(participants: int, wanted: int) -> Content:
    """How many users there are, and how many it takes until anything is shown."""
    if participants >= wanted:
        return count(participants)
    return [count(participants), element("small", f" of {count(wanted)}")]


# --- effects ------------------------------------------------------------------------------------


def _ordered(metrics: Document) -> list[tuple[str, Document]]:
    """The metrics that decide in front."""
    return sorted(metrics.items(), key=lambda item: not item[1]["success_metric"])


def _metric(name: str, found: Document) -> Markup | None:
    groups = found["groups"]
    if not any(group["n"] for group in groups.values()):
        return None
    means = ", ".join(f"{group} {of_metric(name, mean['mean'])}" for group, mean in groups.items())
    effects = [_effect(name, one) for one in found["comparisons"]]
    drawn = [effect for effect in effects if effect is not None]
    reach = max((abs(bound) for effect in drawn for bound in (effect.low, effect.high)), default=0.0) * 1.15
    return element(
        "div",
        element("h4", words(name), " ", element("small", means)),
        [_drawn(effect, reach, _direction(name, found)) for effect in drawn],
        None if drawn else element("p", "too few participants to say anything", class_="empty"),
        class_="effect",
    )


@dataclass(frozen=True, slots=True)
class _Effect:
    """A group against control, with its interval: relative where that is known."""

    group: str
    low: float
    middle: float
    high: float
    show: Format


def _effect(metric: str, one: Document) -> _Effect | None:
    """What can be drawn of a comparison: an interval with two ends."""
    for middle, interval_, show in (
        (one["lift"], one["lift_interval"], change),
        (one["difference"], one["interval"], difference(metric)),
    ):
        if middle is not None and interval_ and None not in interval_:
            return _Effect(one["group"], interval_[0], middle, interval_[1], show)
    return None


def _drawn(effect: _Effect, reach: float, direction: str | None) -> Markup:
    tone = _tone(effect, direction)
    show = effect.show
    said = f"{show(effect.middle)} ({show(effect.low)} to {show(effect.high)})"
    return element(
        "div",
        element("span", effect.group, class_="group"),
        interval(f"{effect.group}: {said}, {tone}", effect.low, effect.middle, effect.high, reach, tone),
        element("span", said, " ", element("span", tone, class_=f"tone-word {tone}"), class_="said"),
        class_="comparison",
    )


def _direction(metric: str, found: Document) -> str | None:
    """Which way is better: as the experiment has it; fewer failures are better whoever asks."""
    direction: str | None = found["direction"]
    return "down" if direction is None and metric == "error_rate" else direction


def _tone(effect: _Effect, direction: str | None) -> str:
    """Better or worse where the interval leaves zero out and a way is better; open else."""
    if direction is None or effect.low <= 0 <= effect.high:
        return "open"
    return "better" if (effect.low > 0) is (direction == "up") else "worse"


def _verdict(results: Document) -> Markup:
    verdict = results["verdict"]
    named = badge(words(verdict), "calm") if verdict else None
    return element("p", named, " ", results["explanation"], class_="explanation")
