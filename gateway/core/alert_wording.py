"""Alerts in words: a metric of an arm, its value with its unit, and its levels.

Pure text. It does not know whether an alert is raised, nor who reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.model.alerts import Levels, Reading
from gateway.model.metrics import Metric
from gateway.model.units import format_duration, format_number

_NAMES = {
    Metric.ERROR_RATE: "error rate of {arm}",
    Metric.PERFORMANCE_DEGRADATION: "slowdown of {arm} against control",
    Metric.RESPONSE_TIME: "response time (p90) of {arm}",
    Metric.USER_SATISFACTION: "user satisfaction of {arm}",
    Metric.ACCURACY: "accuracy of {arm}",
    Metric.COST_PER_REQUEST: "cost per request of {arm}",
}


def amount(metric: Metric, value: float) -> str:
    """A value of a metric with its unit."""
    match metric:
        case Metric.ERROR_RATE | Metric.PERFORMANCE_DEGRADATION:
            return f"{value * 100:.3g} %"
        case Metric.RESPONSE_TIME:
            return f"{value * 1000:.0f} ms" if value < 1.0 else f"{value:.2f} s"
        case Metric.USER_SATISFACTION | Metric.ACCURACY | Metric.COST_PER_REQUEST:
            return format_number(float(f"{value:.6g}"))


def describe(reading: Reading, levels: Levels, window: float, *, worse_for: int = 0) -> str:
    """The reading in a sentence. `worse_for` is how many windows in a row it got worse, 0 for no trend."""
    metric = reading.metric
    limits = ", ".join(_limits(metric, levels))
    rises = f"has become worse for {worse_for} windows and " if worse_for else ""
    return (
        f"{_NAMES[metric].format(arm=reading.arm)} {rises}is {amount(metric, reading.value)} over "
        f"{format_duration(window)} ({reading.samples} samples); {limits}"
    )


def _limits(metric: Metric, levels: Levels) -> Iterator[str]:
    if levels.warning is not None:
        yield f"warning from {amount(metric, levels.warning)}"
    if levels.critical is not None:
        yield f"critical from {amount(metric, levels.critical)}"
