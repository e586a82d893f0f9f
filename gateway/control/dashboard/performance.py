"""The sections on traffic: the overview's figures, both arms side by side, and over time."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.control.dashboard.charts import Limit, Line, legend, log_scale, time_chart
from gateway.control.dashboard.document import Reach
from gateway.control.dashboard.figures import (
    Format,
    change,
    count,
    duration,
    of_metric,
    plain,
    seconds,
    share,
    unix,
    words,
)
from gateway.control.dashboard.markup import Content, Markup, element
from gateway.control.dashboard.parts import Document, badge, empty, panel, table

_ARMS = (("control", "control"), ("treatment", "treatment"))
_QUANTILES = ("p50", "p90", "p99")
_SCORES = ("accuracy", "user_satisfaction", "cost_per_request")


# --- overview -----------------------------------------------------------------------------------


def overview(document: Document) -> Markup:
    """The figures that people ask for first."""
    seen, compared = document["overview"], document["performance"]["comparison"]
    effectiveness = document["performance"]["dspy_performance"]["optimization_effectiveness"]
    tiles = [
        _tile("requests", count(seen["total_executions"]), _both(seen)),
        _tile("success rate", share(seen["success_rate"]), _last(seen)),
        _tile("mean response", seconds(seen["average_response_time"]), _last(seen)),
        _tile("requests a second", plain(seen["requests_per_second"]), _last(seen)),
        _tile("speed", *_gain(compared["performance_improvement"], "treatment against control")),
        _tile("cost", *_cost(compared["cost_comparison"])),
        _tile("quality", *_gain(compared["quality_improvement"], "treatment against control")),
        _tile("optimisation", *_gain(effectiveness, "all of these together")),
    ]
    return panel("overview", "Overview", element("dl", tiles, class_="tiles"))


def _tile(name: str, value: Content, note: str) -> Markup:
    return element(
        "div",
        element("dt", name),
        element("dd", value, class_="figure"),
        element("dd", note, class_="note"),
        class_="tile",
    )


def _both(seen: Document) -> str:
    return f"{count(seen['dspy_executions'])} treatment, {count(seen['traditional_executions'])} control"


def _last(seen: Document) -> str:
    return f"last {duration(seen['window'])}"


def _gain(value: float | None, note: str) -> tuple[Content, str]:
    """A gain where more is better."""
    return _coloured(change(value), value), note


def _cost(compared: Document) -> tuple[Content, str]:
    value = compared["change"]
    return _coloured(change(value), None if value is None else -value), "treatment against control"


def _coloured(text: str, gain: float | None) -> Markup:
    tone = "" if gain is None or abs(gain) < 0.005 else "better" if gain > 0 else "worse"
    said = element("span", f" {tone}", class_="tone-word") if tone else None
    return element("span", text, said, class_=tone or None)


# --- both arms side by side ---------------------------------------------------------------------


def comparison(document: Document) -> Markup:
    """Both arms over the window, figure by figure."""
    performance = document["performance"]
    control, treatment = performance["traditional_performance"], performance["dspy_performance"]
    rows: list[Sequence[Content]] = [
        ("requests", count(control["requests"]), count(treatment["requests"]), ""),
        _row("success rate", control["success_rate"], treatment["success_rate"], share, 1),
        _row(
            "mean response", control["average_response_time"], treatment["average_response_time"], seconds, -1
        ),
        *(
            _row(f"response {name}", control["latency"][name], treatment["latency"][name], seconds, -1)
            for name in _QUANTILES
        ),
        *(
            _row(
                words(name),
                control["scores"].get(name),
                treatment["scores"].get(name),
                lambda value, name=name: of_metric(name, value),  # type: ignore[misc]
                -1 if name == "cost_per_request" else 1,
            )
            for name in _SCORES
            if name in control["scores"] or name in treatment["scores"]
        ),
    ]
    heads = ("", "control", "treatment", "difference")
    return panel(
        "comparison",
        "Side by side",
        table("Both arms over the window", heads, rows, "arms"),
        _routes(performance["routes"]),
        note=f"last {duration(performance['window'])}; a difference here is no proof, see evidence and gates",
    )


def _routes(routes: Document) -> Markup | None:
    """Both arms on each route; None where there is only one, which is all."""
    if len(routes) < 2:
        return None
    rows = [
        (
            route,
            " / ".join(count(arms[arm]["requests"]) for arm, _ in _ARMS),
            " / ".join(share(arms[arm]["error_rate"]) for arm, _ in _ARMS),
            " / ".join(seconds(arms[arm]["p90"]) for arm, _ in _ARMS),
        )
        for route, arms in routes.items()
    ]
    heads = ("route", "requests", "error rate", "response p90")
    return table("Each route over the window, control / treatment", heads, rows, "routes")


def _row(
    name: str, control: float | None, treatment: float | None, show: Format, better: int
) -> Sequence[Content]:
    difference = treatment / control - 1.0 if treatment is not None and control else None
    gain = None if difference is None else difference * better
    return name, show(control), show(treatment), _coloured(change(difference), gain)


# --- over time ----------------------------------------------------------------------------------


def charts(document: Document) -> Markup:
    """Requests, error rate with its limit, and latency of both arms over time."""
    performance = document["performance"]
    series, limits = performance["series"], performance["limits"]
    points, step = series["points"], series["step"]
    times = [unix(point["at"]) or 0.0 for point in points]
    if len(times) < 2:
        nothing = empty("Nothing to draw yet: that takes half a minute and a few requests.")
        return panel("charts", "Over time", _reaches(series["reach"]), nothing)
    limit = (limits.get("error_rate") or {}).get("value")
    levels = [] if limit is None else [Limit("rollback limit", limit)]
    rates = [Line(name, class_, [point[name]["served"] / step for point in points]) for name, class_ in _ARMS]
    figures = [
        _figure("Requests a second", time_chart("Requests a second", times, rates, plain)),
        _figure(
            "Error rate",
            time_chart("Error rate", times, _lines(points, "error_rate"), share, limits=levels),
            None if limit is None else f"rolls back on evidence beyond {share(limit)}",
        ),
        *(
            _figure(
                f"Response time {quantile}",
                time_chart(f"Response time {quantile}", times, _lines(points, quantile), seconds),
            )
            for quantile in _QUANTILES
        ),
    ]
    entries = [*_ARMS, *([("limit", "limit")] if levels else [])]
    return panel(
        "charts",
        "Over time",
        element("div", legend(entries), _reaches(series["reach"]), class_="above"),
        element("div", figures, class_="figures"),
        note=f"one point each {duration(step)}",
    )


def _reaches(chosen: str) -> Markup:
    """How far back: buttons that the page's script asks by."""
    buttons = [
        element(
            "button",
            reach.value,
            type="button",
            id=f"reach-{reach.value}",
            class_="reach",
            data_reach=reach.value,
            aria_pressed="true" if reach.value == chosen else "false",
        )
        for reach in Reach
    ]
    return element("div", buttons, class_="reaches", role="group", aria_label="How far back")


def _lines(points: Sequence[Document], name: str) -> list[Line]:
    return [Line(arm, class_, [point[arm][name] for point in points]) for arm, class_ in _ARMS]


def _figure(title: str, chart: Content, note: str | None = None) -> Markup:
    said = element("small", note) if note else None
    return element("figure", element("figcaption", element("h3", title), said), chart)


# --- evidence -----------------------------------------------------------------------------------


_MOST_DRAWN = 1000.0
"""Times the line: evidence beyond is drawn at the upper edge, so that the line stays in sight."""


def evidence(document: Document) -> Markup:
    """The evidence against treatment, by the logarithm, and the line at which it rolls back."""
    found = document["performance"]["evidence"]
    limit, points = found.get("limit"), found["points"]
    if limit is None:
        text = found.get("reason") or "nothing was looked at yet"
        return panel("evidence", "Evidence", empty(f"No evidence so far: {text}."))
    times = [unix(point["at"]) or 0.0 for point in points]
    values = [point["value"] for point in points]
    seen = [min(value, limit * _MOST_DRAWN) for value in values if value is not None]
    scale = log_scale([*seen, limit], least=0.1)
    chart = time_chart(
        "Evidence against treatment",
        times,
        [Line("evidence", "evidence", values)],
        plain,
        limits=[Limit("rollback line", limit)],
        scale=scale,
    )
    entries = [("evidence against treatment", "evidence"), ("rollback line", "limit")]
    return panel(
        "evidence",
        "Evidence",
        _weight(found, limit),
        legend(entries),
        element("div", element("figure", chart), class_="figures wide"),
        _parts(found.get("parts") or {}),
        _behind(document["performance"]["limits"], found.get("detection_in_words") or ()),
        note="how far the data speak against treatment; logarithmic",
    )


_VERDICTS = {"quiet": "good", "hold": "warning", "trial": "warning", "shared_outage": "warning"}


def _weight(found: Document, limit: float) -> Markup:
    verdict = found.get("verdict") or "quiet"
    counted = ""
    if found.get("failures"):
        users = f" of {count(found['users'])} users" if found["unit"] == "user" else ""
        counted = f" · {count(found['failures'])} failures{users}"
    return element(
        "p",
        element("span", plain(found.get("value")), class_="figure"),
        f" of {plain(limit)} to roll back ",
        badge(words(verdict), _VERDICTS.get(verdict, "critical")),
        element("span", f" {found.get('reason') or ''}{counted}", class_="note"),
    )


_PART_HEADS = ("part", "evidence", "weight", "to limit", "to control", "requests", "failures")


def _parts(parts: Document) -> Markup | None:
    rows = [
        (
            words(name),
            plain(part["value"]),
            share(part["weight"]),
            plain(part["against_limit"]),
            plain(part["against_control"]),
            count(part["requests"]),
            count(part["failures"]),
        )
        for name, part in parts.items()
    ]
    return table("Parts of the evidence", _PART_HEADS, rows, "parts") if rows else None


def _behind(limits: Document, detection: Sequence[str]) -> Markup | None:
    """Where the limits come from, and how soon a failure would be found out by the traffic of now."""
    lines: list[Content] = [
        [f"{words(metric)} {of_metric(metric, limit['value'])} ", element("small", limit["source"])]
        for metric, limit in limits.items()
    ]
    lines += detection
    if not lines:
        return None
    told = element("ul", [element("li", line) for line in lines])
    summary = element("summary", "limits, and how soon it would be found")
    return element("details", summary, told, data_key="behind")
