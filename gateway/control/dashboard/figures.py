"""Numbers and times as text for people: one format for each unit, everywhere on the page.

None is shown as a dash: "not known yet" must never look like zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

Format: TypeAlias = Callable[[float | None], str]

NOTHING = "–"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_THIN = "\u202f"  # narrow no-break space


def count(value: float | None) -> str:
    """A whole number, thousands set apart; large ones to three digits with a letter."""
    if value is None:
        return NOTHING
    if value >= 999_950:
        return f"{value / 1e6:.3g}{_THIN}M"
    return f"{value / 1e3:.3g}{_THIN}k" if value >= 9_999.5 else _apart(value)


def share(value: float | None) -> str:
    """A share from 0 to 1 in percent, to three digits at most."""
    if value is None:
        return NOTHING
    percent = value * 100
    return f"{_short(percent)}{_THIN}%"


def percentage(value: float | None) -> str:
    """A number from 0 to 100 with its sign."""
    return NOTHING if value is None else f"{value:.4g}{_THIN}%"


def change(value: float | None) -> str:
    """A relative change in percent, always with its sign."""
    if value is None:
        return NOTHING
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{_short(abs(value) * 100)}{_THIN}%"


def points(value: float | None) -> str:
    """A difference of two shares, in percentage points and always with its sign."""
    if value is None:
        return NOTHING
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{_short(abs(value) * 100)} points"


def chance(p_value: float) -> str:
    """A p-value; nobody believes more in one that is smaller still."""
    return f"p = {p_value:.2g}" if p_value >= 0.0001 else "p < 0.0001"


def seconds(value: float | None) -> str:
    """A latency, in the unit that fits."""
    if value is None:
        return NOTHING
    if value < 1:
        return f"{_short(value * 1000)}{_THIN}ms"
    return f"{_short(value)}{_THIN}s"


def plain(value: float | None) -> str:
    """A number of no known unit, to three digits."""
    if value is None:
        return NOTHING
    if 999.5 <= abs(value) < 1e6:
        return _apart(value)
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        times = "" if mantissa == "1.0" else f"{mantissa}·"
        return f"{times}10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return f"{value:.3g}"


def outcome(value: float | None) -> str:
    """Of something that succeeds or fails: 1 or 0."""
    return NOTHING if value is None else "success" if value else "failure"


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def duration(value: float | None) -> str:
    """A stretch of time in its two largest units."""
    if value is None or not math.isfinite(value):
        return NOTHING
    left = max(0, int(value))
    days, left = divmod(left, _DAY)
    hours, left = divmod(left, _HOUR)
    minutes, left = divmod(left, _MINUTE)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    while len(units) > 1 and not units[0][0]:
        units.pop(0)
    return " ".join(f"{number}{_THIN}{unit}" for number, unit in units[:2] if number or unit == units[0][1])


def unix(text: Any) -> float | None:
    """Unix seconds of an RFC 3339 time; None where there is none."""
    return datetime.fromisoformat(str(text)).timestamp() if text else None


def clock(at: float) -> str:
    """The time of day in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def ago(at: float | None, now: float) -> str:
    """How long something is past, coarsely: the page is not drawn anew for every second."""
    if at is None:
        return NOTHING
    past = now - at
    if past < _MINUTE:
        return "just now"
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if past >= unit:
            return f"{int(past / unit)}{_THIN}{name} ago"
    return NOTHING


_SHARES = frozenset(("error_rate", "user_satisfaction", "accuracy"))
_BY_METRIC: dict[str, Format] = {
    "error_rate": share,
    "performance_degradation": share,
    "user_satisfaction": share,
    "accuracy": share,
    "sample_ratio": share,
    "response_time": seconds,
    "seconds_of_service": duration,
}


def of_metric(metric: str, value: float | None) -> str:
    """A metric's value in its unit."""
    return _BY_METRIC.get(metric, plain)(value)


def difference(metric: str) -> Format:
    """How a difference of a metric is written: shares differ by points, the rest in its unit."""
    return points if metric in _SHARES else lambda value: of_metric(metric, value).replace("-", "−")


def words(name: str) -> str:
    """A name of the API as words: `error_rate` is "error rate"."""
    return name.replace("_", " ")


def _apart(number: float) -> str:
    return f"{number:,.0f}".replace(",", _THIN)


def _short(number: float) -> str:
    """To three digits, without exponent and trailing zeros."""
    if number == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(number)))) if number else 0
    text = f"{number:.{min(digits, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
