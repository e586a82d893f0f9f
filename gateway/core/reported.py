"""Which metrics upstreams may report: those that the config in force uses, and no others.

A proxy measures errors and latencies itself. Accuracy, cost, ratings and user-defined metrics must be
reported. It does not know what they are used for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.model.deployment import Deployment
from gateway.model.metrics import Metric
from gateway.model.phases import MetricsThreshold

SEEN = frozenset((Metric.ERROR_RATE, Metric.PERFORMANCE_DEGRADATION, Metric.RESPONSE_TIME))
"""What the gateway measures itself."""


def reported_metrics(deployment: Deployment, of_experiments: Iterable[str]) -> tuple[str, ...]:
    """The metrics of gates, criteria, alerts, limits and triggers, and those of experiments; sorted."""
    wanted = {*map(str, _of_rollout(deployment)), *of_experiments}
    return tuple(sorted(wanted - SEEN))


def _of_rollout(deployment: Deployment) -> Iterator[Metric]:
    for phase in deployment.phases.values():
        yield from phase.success_criteria.by_metric()
        yield from phase.rollback_threshold.by_metric()
    for gates in deployment.gates.values():
        for gate in gates:
            if isinstance(gate, MetricsThreshold):
                yield from gate.thresholds.by_metric()
    for metric, levels in deployment.monitoring.alerts.by_metric().items():
        if levels.warning is not None or levels.critical is not None:
            yield metric
    yield from (trigger.metric for trigger in deployment.rollback.automatic_triggers if trigger.metric)
