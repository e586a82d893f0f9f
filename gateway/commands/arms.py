"""How `status` shows the arms: recently, in this phase, in total; by route; and in the phases before.

Built from the status document, for a tired reader. Nothing is judged here. Every latency shown is of
successes and finely resolved, as alerts and gates see it; those of the totals, which are estimated from the
coarse buckets of `/metrics` and count failures too, are left to the JSON: nobody should compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gateway.commands.figures import ago, latency, percent
from gateway.commands.spans import span

Document: TypeAlias = Mapping[str, Any]

MOST_PAST_PHASES = 5
"""Stays in phases before this one that are shown, the newest; JSON has them all."""
MOST_ROUTES = 8
"""Routes that are shown where there are several: those on which treatment fails most. JSON has them all."""
_ARMS = ("control", "treatment")
_PADDING = (0, 2, 0, 0)
_LEAST_SHIFT = 0.005
"""A slowdown that rounds to less than a percent is none."""


def lines(document: Document, now: float) -> Iterator[RenderableType]:
    """Both arms side by side, how they compare, the routes, the phases before; `now` is Unix seconds."""
    *past, present = document["phases"] or [None]
    yield _side_by_side(document, present)
    if (shift := document["window"]["performance_degradation"]) is not None:
        yield Text(_compared(shift, _window(document)), style="dim")
    routes = document["window"]["routes"]
    if len(routes) > 1:
        yield Text()
        yield _by_route(_worst(routes), _window(document))
    past = [stay for stay in past if any(arm["requests"] for arm in stay["arms"].values())]
    if past:
        yield Text()
        yield _before(past[-MOST_PAST_PHASES:], now)


def _window(document: Document) -> str:
    return span(round(document["window"]["seconds"]))


def _compared(shift: float, window: str) -> str:
    if abs(shift) < _LEAST_SHIFT:
        return f"treatment is as fast as control beside it, over {window}"
    how = "slower" if shift > 0 else "faster"
    return f"treatment is {abs(shift) * 100:.0f} % {how} than control beside it, over {window}"


def _side_by_side(document: Document, present: Document | None) -> Table:
    """Columns for each span of time; there is none for a phase that nothing is known of."""
    spans = {_window(document): _flat(document["window"]["arms"])}
    if present is not None and present["phase"] == document["phase"]:
        spans["phase"] = _flat(present["arms"])
    spans["in all"] = _flat(document["arms"])
    table = Table(box=None, pad_edge=False, padding=_PADDING, header_style="bold")
    table.add_column()
    for title in spans:
        table.add_column(f"{title}\n{_ARMS[0]}", justify="right")
        table.add_column(f"\n{_ARMS[1]}", justify="right")
    columns = [arms[name] for arms in spans.values() for name in _ARMS]
    for label, (key, show) in _ROWS.items():
        cells = (show(arm[key]) if key in arm else "" for arm in columns)
        table.add_row(Text(label, style="dim"), *cells)
    return table


_ROWS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "requests": ("requests", lambda count: f"{count:,}"),
    "errors": ("error_rate", percent),
    "in flight": ("inflight", lambda count: f"{count:,}"),
    "latency, mean": ("mean", latency),
    "p50": ("p50", latency),
    "p90": ("p90", latency),
    "p99": ("p99", latency),
    "first byte": ("first_byte", lambda times: latency(times["p50"])),
}
"""What stands under which key, and how it is shown; not every span of time has everything."""


def _flat(arms: Document) -> dict[str, Document]:
    return {name: arms[name] for name in _ARMS}


def _worst(routes: Mapping[str, Document]) -> list[tuple[str, Document]]:
    """Those on which treatment fails most, first; where it fails on none, the busiest."""
    return sorted(
        routes.items(),
        key=lambda item: (-(item[1]["treatment"]["error_rate"] or 0.0), -item[1]["treatment"]["requests"]),
    )[:MOST_ROUTES]


def _by_route(routes: list[tuple[str, Document]], window: str) -> Table:
    """A line for each route over the window: control, then treatment."""
    table = _compact(f"routes, {window}")
    for route, arms in routes:
        table.add_row(route, *_pairs(arms))
    return table


def _before(stays: list[Document], now: float) -> Table:
    """A line for each stay in a phase, newest first: control, then treatment."""
    table = _compact("phases before", "ago")
    for stay in reversed(stays):
        table.add_row(stay["phase"], ago(stay["since"], now), *_pairs(stay["arms"]))
    return table


def _compact(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=_PADDING, header_style="bold")
    for heading in headings:
        table.add_column(heading)
    for heading in ("requests", "errors", "p90"):
        table.add_column(f"{heading}, c / t", justify="right")
    return table


def _pairs(arms: Document) -> tuple[str, str, str]:
    """Requests, errors and p90 of control and of treatment."""
    control, treatment = (arms[name] for name in _ARMS)
    return (
        f"{control['requests']:,} / {treatment['requests']:,}",
        f"{percent(control['error_rate'])} / {percent(treatment['error_rate'])}",
        f"{latency(control['p90'])} / {latency(treatment['p90'])}",
    )
