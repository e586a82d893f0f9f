"""The Prometheus metrics of experiments: sizes of groups, and whether they match the declared weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class ExperimentGauge:
    """An experiment that was started: participants by group, the sample ratio's p-value."""

    id: str
    participants: Mapping[str, int]
    p_value: float


def families(gauges: Sequence[ExperimentGauge]) -> Iterable[Metric]:
    """The metric families of all experiments."""
    participants = GaugeMetricFamily(
        "gateway_experiment_participants",
        "Users whose requests were counted for an experiment",
        labels=("experiment", "group"),
    )
    ratio = GaugeMetricFamily(
        "gateway_experiment_srm_p_value",
        "How likely groups as uneven as these are; at or under 0.001 the results are invalid",
        labels=("experiment",),
    )
    for gauge in gauges:
        ratio.add_metric((gauge.id,), gauge.p_value)
        for group, count in gauge.participants.items():
            participants.add_metric((gauge.id, group), count)
    return participants, ratio
