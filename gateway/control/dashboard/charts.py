"""Charts as SVG inside HTML: lines over time with limits, bars, intervals around zero.

The drawing is stretched to the available space, with strokes of constant width. All text is
HTML beside it, so it stays readable from a phone to a wall screen. All styling is by class.
It knows values and times, not what they mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.control.dashboard.figures import Format, clock
from gateway.control.dashboard.markup import Markup, element

_WIDTH, _HEIGHT = 1000.0, 100.0
_GRID_LINES = 4
_CLOCKS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One line: values by time, None where there is nothing. `class_` says how it looks."""

    name: str
    class_: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Limit:
    """A level that means something."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Where values go: from `bottom` to `top`, straight or by the logarithm."""

    bottom: float
    top: float
    logarithmic: bool = False

    def height(self, value: float) -> float:
        """The y coordinate of a value, held within the drawing."""
        low, high, at = (self._place(number) for number in (self.bottom, self.top, value))
        return round(_HEIGHT * (1.0 - min(1.0, max(0.0, (at - low) / (high - low)))), 2)

    def ticks(self) -> list[float]:
        """Values at equal distances, the topmost first."""
        low, high = self._place(self.bottom), self._place(self.top)
        places = [high - (high - low) * step / _GRID_LINES for step in range(_GRID_LINES + 1)]
        return [10.0**place for place in places] if self.logarithmic else places

    def _place(self, value: float) -> float:
        return math.log10(max(value, self.bottom)) if self.logarithmic else value


_LEAST_TOP = 1e-300  # below, powers of ten are zero


def linear_scale(values: Iterable[float]) -> Scale:
    """From zero to a round number above every value."""
    top = max(values, default=0.0)
    return Scale(0.0, _round_up(top * 1.05) if top > _LEAST_TOP else 1.0)


def log_scale(values: Iterable[float], least: float = 1.0) -> Scale:
    """Whole decades around every value, four of them or a multiple, so that grid lines are powers."""
    known = [value for value in values if value > 0]
    bottom = math.floor(math.log10(min([*known, least])))
    top = math.ceil(math.log10(max([*known, least])) + 1e-9)
    decades = max(1, math.ceil((top - bottom) / _GRID_LINES)) * _GRID_LINES
    return Scale(10.0**bottom, 10.0 ** (bottom + decades), logarithmic=True)


def _round_up(value: float) -> float:
    """The next number that divides into four readable parts."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10, 12) if step * power >= value)


def time_chart(
    label: str,
    times: Sequence[float],
    lines: Sequence[Line],
    show: Format,
    *,
    limits: Sequence[Limit] = (),
    scale: Scale | None = None,
) -> Markup:
    """Lines over time. `label` names the chart; what it says is put into words for who cannot see it."""
    values = [value for line in lines for value in line.values if value is not None]
    if len(times) < 2 or not values:
        return element("p", "Nothing to draw yet.", class_="empty")
    scale = scale or linear_scale([*values, *(limit.value for limit in limits)])
    drawing = element(
        "svg",
        _grid(),
        [_level(scale, limit) for limit in limits],
        [_path(times, line, scale) for line in lines],
        _hits(times, lines, show),
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=_in_words(label, lines, limits, show),
    )
    return element(
        "div",
        element("div", [element("span", show(tick)) for tick in scale.ticks()], class_="axis-y"),
        element("div", drawing, class_="plot"),
        element("div", [element("span", text) for text in _clocks(times)], class_="axis-x"),
        class_="chart",
    )


def legend(lines: Iterable[tuple[str, str]]) -> Markup:
    """What the lines are: pairs of a name and a class."""
    entries = [
        element("li", element("span", class_=f"swatch {class_}", aria_hidden="true"), name)
        for name, class_ in lines
    ]
    return element("ul", entries, class_="legend")


def _in_words(label: str, lines: Sequence[Line], limits: Sequence[Limit], show: Format) -> str:
    newest = [(line.name, _newest(line.values)) for line in lines]
    said = [f"{name} {show(value)}" for name, value in newest if value is not None]
    said += [f"{limit.name} {show(limit.value)}" for limit in limits]
    return f"{label}: {', '.join(said)}"


def _newest(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _grid() -> list[Markup]:
    heights = [_HEIGHT * step / _GRID_LINES for step in range(_GRID_LINES + 1)]
    return [_segment((0.0, height), (_WIDTH, height), "grid") for height in heights]


def _level(scale: Scale, limit: Limit) -> Markup:
    height = scale.height(limit.value)
    return _segment((0.0, height), (_WIDTH, height), "limit")


def _segment(begin: tuple[float, float], end: tuple[float, float], class_: str) -> Markup:
    return element("line", x1=begin[0], y1=begin[1], x2=end[0], y2=end[1], class_=class_)


def _path(times: Sequence[float], line: Line, scale: Scale) -> Markup:
    """The line, broken where there is nothing; a value alone between gaps is a dot."""
    strokes, newest = [], None
    for piece in _pieces(times, line.values):
        points = [f"{_across(times, at):.1f},{scale.height(value):.2f}" for at, value in piece]
        strokes.append(f"M{' L'.join(points)}" if len(points) > 1 else f"M{points[0]}h0")
        newest = points[-1]
    dot = element("path", d=f"M{newest}h0", class_=f"dot {line.class_}") if newest else None
    return element("g", element("path", d="".join(strokes), class_=f"line {line.class_}"), dot)


def _pieces(times: Sequence[float], values: Sequence[float | None]) -> Iterator[list[tuple[float, float]]]:
    """Runs of neighbouring values that are there."""
    pairs = zip(times, values, strict=True)
    for there, run in itertools.groupby(pairs, key=lambda pair: pair[1] is not None):
        if there:
            yield [(at, value) for at, value in run if value is not None]


def _across(times: Sequence[float], at: float) -> float:
    span = times[-1] - times[0]
    return _WIDTH * (at - times[0]) / span if span > 0 else 0.0


def _hits(times: Sequence[float], lines: Sequence[Line], show: Format) -> list[Markup]:
    """Invisible columns that tell their values when pointed at."""
    places = [_across(times, at) for at in times]
    edges = [0.0, *((one + other) / 2 for one, other in itertools.pairwise(places)), _WIDTH]
    columns = []
    for index, (left, right) in enumerate(itertools.pairwise(edges)):
        told = [f"{line.name} {show(line.values[index])}" for line in lines]
        title = element("title", "\n".join([f"{clock(times[index])} UTC", *told]))
        columns.append(
            element(
                "rect",
                title,
                x=round(left, 1),
                y=0,
                width=round(right - left, 1),
                height=_HEIGHT,
                class_="hit",
            )
        )
    return columns


def _clocks(times: Sequence[float]) -> list[str]:
    """Times of day at equal distances, without seconds where the chart spans more than a few minutes."""
    span = times[-1] - times[0]
    letters = 8 if span < 600 else 5
    return [clock(times[0] + span * step / (_CLOCKS - 1))[:letters] for step in range(_CLOCKS)]


# --- figures in a row ---------------------------------------------------------------------------


def bars(label: str, values: Sequence[float], names: Sequence[str]) -> Markup:
    """Small bars, one a value."""
    top = max([*values, 1.0])
    width = _WIDTH / max(1, len(values))
    drawn = [
        element(
            "rect",
            element("title", f"{name}: {value:g}"),
            x=round(index * width + width * 0.15, 1),
            y=round(_HEIGHT * (1 - value / top), 1) if value else _HEIGHT - 2,
            width=round(width * 0.7, 1),
            height=round(_HEIGHT * value / top, 1) if value else 2,
            class_="bar" if value else "bar none",
        )
        for index, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    return element(
        "svg",
        drawn,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{label}: {', '.join(f'{value:g}' for value in values)}",
        class_="bars",
    )


def meter(label: str, value: float | None, limit: float, *, rises: bool) -> Markup:
    """A value against its limit: the mark in the middle is the limit. `rises`: it must come to reach it."""
    reach = (
        0.0 if value is None else _WIDTH * (min(2.0, value / limit) / 2.0 if limit > 0 else float(value > 0))
    )
    within = value is not None and (value >= limit if rises else value <= limit)
    return element(
        "svg",
        element("rect", x=0, y=30, width=_WIDTH, height=40, class_="track"),
        element(
            "rect",
            x=0,
            y=30,
            width=round(max(0.0, reach), 1),
            height=40,
            class_="fill in" if within else "fill out",
        ),
        _segment((_WIDTH / 2, 10.0), (_WIDTH / 2, 90.0), "mark"),
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="meter",
    )


def interval(label: str, low: float, middle: float, high: float, reach: float, class_: str) -> Markup:
    """A point with its interval on a line from -`reach` to +`reach`, zero in the middle."""

    def across(value: float) -> float:
        share = (value / reach + 1.0) / 2.0 if reach > 0 else 0.5
        return round(_WIDTH * min(1.0, max(0.0, share)), 1)

    centre = _HEIGHT / 2
    return element(
        "svg",
        _segment((_WIDTH / 2, 0.0), (_WIDTH / 2, _HEIGHT), "zero"),
        _segment((across(low), centre), (across(high), centre), f"span {class_}"),
        element("path", d=f"M{across(middle):.1f},{centre:g}h0", class_=f"dot {class_}"),
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="interval",
    )
