"""The figures of an experiment in sentences: shares in percent, times with units, probabilities without
exponents.

It knows the units of the product's own metrics; any other metric is a plain number.
"""

from __future__ import annotations

from gateway.core.results.comparison import Comparison
from gateway.model.metrics import Metric

_SHARES = frozenset((Metric.ERROR_RATE, Metric.ACCURACY, Metric.USER_SATISFACTION))
_LEAST_CHANCE = 0.001
"""Nobody believes more in a smaller one, and nobody can read it."""

_MANY = 1000.0
"""From here on no digit behind the point is told."""


def reading(comparison: Comparison, metric: str, control: str) -> str:
    """`accuracy 93.1 % against 90.2 % in control (+3.2 %, between +1.1 % and +5.3 %)`."""
    means = f"{amount(comparison.group_mean, metric)} against {amount(comparison.control_mean, metric)}"
    told = f"{metric} {means} in {control}"
    if comparison.lift is None or comparison.lift_interval is None:
        low, high = (difference(bound, metric) for bound in comparison.interval)
        return f"{told} ({difference(comparison.difference, metric)}, between {low} and {high})"
    low, high = (percent(bound) for bound in comparison.lift_interval)
    return f"{told} ({percent(comparison.lift)}, between {low} and {high})"


def chance(p_value: float) -> str:
    """`p = 0.012`, and `p < 0.001` for whatever is smaller."""
    told = probability(p_value)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def probability(p_value: float) -> str:
    """`0.012`, and `< 0.001` for whatever is smaller."""
    return f"{p_value:.2g}" if p_value >= _LEAST_CHANCE else f"< {_LEAST_CHANCE}"


def amount(value: float, metric: str) -> str:
    """A metric's value in its unit."""
    if metric in _SHARES:
        return f"{100.0 * value:.4g} %"
    if metric == Metric.RESPONSE_TIME:
        return f"{value:.3g} s" if value >= 1.0 else f"{1000.0 * value:.3g} ms"
    return _number(value)


def difference(value: float, metric: str) -> str:
    """A difference with its sign. Shares differ by points: a percentage of a percentage is read as either."""
    if metric in _SHARES:
        return f"{100.0 * value:+.3g} points"
    sign = "-" if value < 0.0 else "+"
    return sign + amount(abs(value), metric)


def _number(value: float) -> str:
    """To four digits; thousands are set apart, and nothing has an exponent before it must."""
    return f"{value:,.0f}" if _MANY <= abs(value) < 1e12 else f"{value:.4g}"


def percent(share: float) -> str:
    """A relative change with its sign: `+3.2 %`, and `+1,590 %` without an exponent."""
    change = 100.0 * share
    return f"{change:+,.0f} %" if abs(change) >= _MANY else f"{change:+.3g} %"
