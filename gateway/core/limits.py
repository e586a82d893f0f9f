"""The limits that decide an automatic rollback, and the config key that each one comes from.

Pure, from the config alone. If a metric has several limits, the strictest counts: the phase's own
`rollback_threshold`, or the `automatic_triggers` of every phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.model.deployment import Deployment
from gateway.model.metrics import Metric


@dataclass(frozen=True, slots=True)
class RollbackLimit:
    """The limit of one metric: a share for error_rate and user_satisfaction, a slowdown for the other.

    An upper limit, but for user_satisfaction, which may not fall below it. `source` is the key that it
    is written under.
    """

    metric: Metric
    value: float
    source: str


def rollback_limits(deployment: Deployment, phase: str) -> Mapping[Metric, RollbackLimit]:
    """The strictest limit of each metric in a phase; a metric without a limit is absent.

    Raises KeyError for a phase that the config has not.
    """
    strictest: dict[Metric, RollbackLimit] = {}
    for limit in _written(deployment, phase):
        standing = strictest.get(limit.metric)
        if standing is None or _stricter(limit, standing):
            strictest[limit.metric] = limit
    return strictest


def watches_system_failure(deployment: Deployment) -> bool:
    """True if a treatment without any healthy endpoint is rolled back after a while."""
    return any(trigger.is_system_failure for trigger in deployment.rollback.automatic_triggers)


def _written(deployment: Deployment, phase: str) -> Iterator[RollbackLimit]:
    for metric, value in deployment.phases[phase].rollback_threshold.by_metric().items():
        yield RollbackLimit(metric, value, f"phases.{phase}.rollback_threshold.{metric}")
    for trigger in deployment.rollback.automatic_triggers:
        if trigger.metric is not None and trigger.comparison is not None:
            source = f"rollback.automatic_triggers: {trigger}"
            yield RollbackLimit(trigger.metric, trigger.comparison.value, source)


def _stricter(one: RollbackLimit, other: RollbackLimit) -> bool:
    if one.metric.rises_when_better:
        return one.value > other.value
    return one.value < other.value
