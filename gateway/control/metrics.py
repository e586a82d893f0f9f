"""The gateway's metrics in the Prometheus exposition formats.

A collector that is asked at every scrape and holds no number itself: traffic comes from the ledger,
everything else from a `Gauges` value that the controller fills in. Names, labels and units are fixed
by the contract; label values are names from the config, never user ids or raw paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.control.alerting.notifier import ChannelView
from gateway.control.experiments.metrics import ExperimentGauge, families
from gateway.control.ledger import Ledger, Totals
from gateway.model.gates import GateResult, Verdict
from gateway.model.observation import LATENCY_BOUNDS, OVERHEAD_BOUNDS, BreakerState, Histogram, Observation
from gateway.model.snapshot import Arm


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the control process knows beside the traffic."""

    phase: str
    user_percentage: float
    transitions: Mapping[tuple[str, str, str], int]
    """Phase transitions by (from, to, reason)."""
    rollbacks: Mapping[str, int]
    """Rollbacks and emergencies by reason."""
    gates: Sequence[GateResult]
    """What the gates say now, the one before a rollback that waits for a person included."""
    cutover_engaged: bool
    reload_successful: bool
    reload_success_at: float
    """Unix time in seconds of the newest config that was accepted."""
    reloads: Mapping[str, int]
    """Reloads by result."""
    file_differs: bool
    """True while the file holds something else than what runs."""
    worker_restarts: int
    task_restarts: Mapping[str, int]
    state_bytes: int
    snapshot: int
    """Version of the newest snapshot."""
    experiments: Sequence[ExperimentGauge]
    breakers: Mapping[str, BreakerState]
    """Circuit breakers by treatment upstream."""
    alerts: Mapping[tuple[str, str], int]
    """Alerts that stand, by type and severity."""
    channels: Sequence[ChannelView]
    holds: Mapping[str, bool]
    """Why nothing advances, by kind of hold: whether it lasts."""
    evidence: float | None
    """How far the data speak against treatment; None before the first look."""
    evidence_limit: float | None
    """The evidence that rolls back."""


class Metrics:
    """Everything at `/metrics`."""

    def __init__(self, ledger: Ledger, gauges: Callable[[], Gauges]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Scrape(ledger, gauges))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type, in the format that the Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Scrape(Collector):
    """Builds every metric family anew for one scrape."""

    def __init__(self, ledger: Ledger, gauges: Callable[[], Gauges]) -> None:
        self._ledger = ledger
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        live = tuple(self._ledger.live.values())
        yield from _traffic(self._ledger.totals())
        yield from _workers(live)
        gauges = self._gauges()
        yield from _rollout(gauges)
        yield from _judgement(gauges)
        yield from _alerting(gauges)
        yield from _control(gauges)
        yield from families(gauges.experiments)


def _traffic(totals: Totals) -> Iterable[Metric]:
    requests = CounterMetricFamily(
        "gateway_requests", "Requests by how they ended", labels=("route", "arm", "code", "outcome")
    )
    duration = HistogramMetricFamily(
        "gateway_request_duration_seconds", "First byte in to last byte out", labels=("route", "arm")
    )
    first_byte = HistogramMetricFamily(
        "gateway_time_to_first_byte_seconds", "First byte in to first byte out", labels=("route", "arm")
    )
    for counts in totals.routes:
        for code, outcome, count in counts.requests:
            requests.add_metric((counts.route, counts.arm, str(code), outcome), count)
        _add_histogram(duration, (counts.route, counts.arm), counts.duration, LATENCY_BOUNDS)
        _add_histogram(first_byte, (counts.route, counts.arm), counts.time_to_first_byte, LATENCY_BOUNDS)
    overhead = HistogramMetricFamily("gateway_overhead_seconds", "The gateway's own share of a request")
    _add_histogram(overhead, (), totals.overhead, OVERHEAD_BOUNDS)
    failovers = CounterMetricFamily(
        "gateway_failovers", "Requests of treatment that control answered", labels=("route", "reason")
    )
    for route, reason, count in totals.failovers:
        failovers.add_metric((route, reason), count)
    dropped = CounterMetricFamily(
        "gateway_records_dropped", "Records lost to a full queue", value=totals.records_dropped
    )
    refused = CounterMetricFamily(
        "gateway_reported_values_refused",
        "Values in X-Gateway-Metric without sense",
        value=totals.reports_refused,
    )
    return requests, duration, first_byte, overhead, failovers, dropped, refused


def _add_histogram(
    family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram, bounds: Sequence[float]
) -> None:
    edges = [*(str(bound) for bound in bounds), "+Inf"]
    family.add_metric(
        labels, list(zip(edges, accumulate(histogram.buckets), strict=True)), sum_value=histogram.total
    )


def _workers(live: Sequence[Observation]) -> Iterable[Metric]:
    inflight = GaugeMetricFamily("gateway_inflight_requests", "Requests open now", labels=("arm",))
    for arm in Arm:
        inflight.add_metric((arm.label,), sum(report.inflight[arm] for report in live))
    connections = GaugeMetricFamily(
        "gateway_client_connections", "Client connections open now", value=sum(w.connections for w in live)
    )
    healthy: dict[tuple[str, str], bool] = {}
    for report in live:
        for endpoint in report.endpoints:
            key = endpoint.upstream, endpoint.endpoint
            healthy[key] = healthy.get(key, True) and endpoint.healthy
    endpoints = GaugeMetricFamily(
        "gateway_upstream_endpoint_healthy",
        "1 if every worker uses the endpoint",
        labels=("upstream", "endpoint"),
    )
    for key, value in sorted(healthy.items()):
        endpoints.add_metric(key, value)
    serving = GaugeMetricFamily("gateway_workers", "Workers that report", value=len(live))
    return inflight, connections, endpoints, serving


_GATE_STATUS = {Verdict.PENDING: 0, Verdict.PASS: 1, Verdict.FAIL: 2, Verdict.INCONCLUSIVE: 3}


def _rollout(gauges: Gauges) -> Iterable[Metric]:
    phase = GaugeMetricFamily("gateway_phase_info", "The current phase", labels=("phase",))
    phase.add_metric((gauges.phase,), 1)
    transitions = CounterMetricFamily(
        "gateway_phase_transitions", "Phases that were left for another", labels=("from", "to", "reason")
    )
    for labels, count in gauges.transitions.items():
        transitions.add_metric(labels, count)
    rollbacks = CounterMetricFamily("gateway_rollbacks", "Rollbacks and emergencies", labels=("reason",))
    for reason, count in gauges.rollbacks.items():
        rollbacks.add_metric((reason,), count)
    status = GaugeMetricFamily(
        "gateway_gate_status", "0 pending, 1 pass, 2 fail, 3 inconclusive", labels=("gate",)
    )
    value = GaugeMetricFamily("gateway_gate_value", "What a gate found", labels=("gate", "metric"))
    threshold = GaugeMetricFamily("gateway_gate_threshold", "A gate's limit", labels=("gate", "metric"))
    for gate in gauges.gates:
        status.add_metric((gate.id,), _GATE_STATUS[gate.verdict])
        for finding in gate.findings:
            threshold.add_metric((gate.id, finding.metric), finding.threshold.value)
            if finding.value is not None:
                value.add_metric((gate.id, finding.metric), finding.value)
    return phase, transitions, rollbacks, status, value, threshold


def _judgement(gauges: Gauges) -> Iterable[Metric]:
    holds = GaugeMetricFamily(
        "gateway_hold", "1 while nothing advances for this reason, however the gates stand", labels=("kind",)
    )
    for kind, lasts in gauges.holds.items():
        holds.add_metric((kind,), lasts)
    evidence = GaugeMetricFamily("gateway_rollback_evidence", "How far the data speak against treatment")
    limit = GaugeMetricFamily("gateway_rollback_evidence_limit", "The evidence that rolls back")
    for family, number in ((evidence, gauges.evidence), (limit, gauges.evidence_limit)):
        if number is not None:
            family.add_metric((), number)
    return holds, evidence, limit


def _alerting(gauges: Gauges) -> Iterable[Metric]:
    active = GaugeMetricFamily("gateway_alerts_active", "Alerts that stand", labels=("type", "severity"))
    for labels, count in gauges.alerts.items():
        active.add_metric(labels, count)
    told = CounterMetricFamily(
        "gateway_notifications", "Messages to people by what became of them", labels=("channel", "result")
    )
    waiting = GaugeMetricFamily(
        "gateway_notifications_waiting", "Messages that have not arrived yet", labels=("channel",)
    )
    for channel in gauges.channels:
        told.add_metric((channel.name, "sent"), channel.sent)
        told.add_metric((channel.name, "failed_try"), channel.failed)
        told.add_metric((channel.name, "dropped"), channel.dropped)
        waiting.add_metric((channel.name,), channel.waiting)
    return active, told, waiting


def _control(gauges: Gauges) -> Iterable[Metric]:
    build = GaugeMetricFamily("gateway_build_info", "The gateway's version", labels=("version",))
    build.add_metric((__version__,), 1)
    reloads = CounterMetricFamily("gateway_config_reloads", "Reloads by result", labels=("result",))
    for result, count in gauges.reloads.items():
        reloads.add_metric((result,), count)
    tasks = CounterMetricFamily(
        "gateway_control_task_restarts", "Background tasks that had to be started again", labels=("task",)
    )
    for task, count in gauges.task_restarts.items():
        tasks.add_metric((task,), count)
    breakers = GaugeMetricFamily(
        "gateway_circuit_breaker_state", "0 closed, 1 half-open, 2 open, in any worker", labels=("upstream",)
    )
    for upstream, state in gauges.breakers.items():
        breakers.add_metric((upstream,), state)
    yield from (build, reloads, tasks, breakers)
    yield CounterMetricFamily(
        "gateway_worker_restarts", "Workers that had to be started again", value=gauges.worker_restarts
    )
    plain = {
        "gateway_user_percentage": ("Share of users that take part, in percent", gauges.user_percentage),
        "gateway_cutover_engaged": ("1 while the latch sends everything to control", gauges.cutover_engaged),
        "gateway_config_last_reload_successful": (
            "1 if the newest config that was seen was accepted",
            gauges.reload_successful,
        ),
        "gateway_config_last_reload_success_timestamp_seconds": (
            "When a config was last accepted",
            gauges.reload_success_at,
        ),
        "gateway_config_file_differs": ("1 while the file is not what runs", gauges.file_differs),
        "gateway_state_bytes": ("Size of the state directory", gauges.state_bytes),
        "gateway_snapshot_version": ("Version of the newest snapshot", gauges.snapshot),
    }
    for name, (documentation, value) in plain.items():
        yield GaugeMetricFamily(name, documentation, value=float(value))
