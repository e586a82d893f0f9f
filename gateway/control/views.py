"""What the admin API shows, built from values: no I/O, no clock.

Each function returns a JSON-ready mapping in the contract's shape. Times are RFC 3339 in UTC, rates
are shares in [0, 1], latencies seconds; None means "not known yet", never zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.control.history import Event, EventType
from gateway.control.ledger import Totals, add_histograms, empty_histogram
from gateway.control.rollout.views import Document, timestamp
from gateway.control.rollout.views import rollout as rollout_view
from gateway.latch import LatchState
from gateway.model.observation import LATENCY_BOUNDS, Histogram, Observation, Outcome
from gateway.model.process import WorkerStatus
from gateway.model.rollout import Rollout, Rules
from gateway.model.snapshot import Arm

FAILURES = frozenset(
    outcome.label
    for outcome in (
        Outcome.UPSTREAM_ERROR,
        Outcome.CONNECT_ERROR,
        Outcome.RESET,
        Outcome.TIMEOUT,
        Outcome.TRUNCATED,
    )
)
"""Outcomes that an arm is to blame for."""
UNJUDGED = frozenset(outcome.label for outcome in (Outcome.CLIENT_CLOSED, Outcome.REJECTED))
"""Outcomes that say nothing about an arm: they count neither as failure nor as success."""
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class ConfigView:
    """The config in force and the newest attempt to replace it."""

    digest: str
    loaded_at: float
    error: str | None
    file_differs: bool


@dataclass(frozen=True, slots=True)
class StatusView:
    """What `status` is built from."""

    at: float
    """Now, in Unix seconds."""
    state: Rollout
    rules: Rules
    running_tests: Collection[str]
    """Ids of the gates whose tests run now."""
    snapshot: int
    latch: LatchState
    durable: bool
    config: ConfigView
    totals: Totals
    live: Mapping[int, Observation]
    workers: Sequence[WorkerStatus]
    worker_restarts: int
    control_restarts: int
    task_restarts: Mapping[str, int]
    failing_tasks: Sequence[str]
    """Background tasks that failed a moment ago: what they do is not done, or out of date."""
    started_at: float
    pid: int


def status(view: StatusView) -> Document:
    """The document of `GET /api/v1/status`."""
    return {
        **rollout_view(view.state, view.rules, view.at, view.running_tests),
        "latch": latch(view.latch, view.durable),
        "arms": arms(view.totals, tuple(view.live.values())),
        "workers": [_worker(worker, view.live.get(worker.pid)) for worker in view.workers],
        "config": {
            "digest": view.config.digest,
            "loaded_at": timestamp(view.config.loaded_at),
            "error": view.config.error,
            "file_differs": view.config.file_differs,
        },
        "gateway": {
            "pid": view.pid,
            "started_at": timestamp(view.started_at),
            "snapshot": view.snapshot,
            "worker_restarts": view.worker_restarts,
            "control_restarts": view.control_restarts,
            "task_restarts": {name: count for name, count in view.task_restarts.items() if count},
            "failing_tasks": list(view.failing_tasks),
        },
    }


def pause(state: Rollout, newest: Sequence[Event]) -> Document | None:
    """Who paused the rollout and why, by the newest events; None while it runs, or that is long forgotten."""
    paused = next((event for event in reversed(newest) if event.type is EventType.PAUSE), None)
    if not state.paused or paused is None:
        return None
    return {"operator": paused.operator, "reason": paused.reason, "since": timestamp(paused.at)}


def latch(state: LatchState, durable: bool) -> Document:
    """The latch; kind, reason, operator and since are None while it is not engaged."""
    engaged = state.engaged
    return {
        "engaged": engaged,
        "number": state.number,
        "kind": state.kind.value if engaged else None,
        "reason": state.reason if engaged else None,
        "operator": state.operator if engaged else None,
        "since": timestamp(state.since) if engaged else None,
        "durable": durable,
    }


def arms(totals: Totals, live: Sequence[Observation]) -> Document:
    """Both arms side by side: all traffic that each of them served since the gateway began."""
    return {arm.label: _arm(arm, totals, live) for arm in Arm}


def _arm(arm: Arm, totals: Totals, live: Iterable[Observation]) -> Document:
    outcomes: dict[str, int] = {}
    duration = first_byte = empty_histogram(LATENCY_BOUNDS)
    for counts in totals.routes:
        if counts.arm != arm.label or not counts.route:
            continue  # what no route took was refused here: it says nothing about an arm
        for _, outcome, count in counts.requests:
            outcomes[outcome] = outcomes.get(outcome, 0) + count
        duration = add_histograms(duration, counts.duration)
        first_byte = add_histograms(first_byte, counts.time_to_first_byte)
    judged = sum(count for outcome, count in outcomes.items() if outcome not in UNJUDGED)
    failures = sum(count for outcome, count in outcomes.items() if outcome in FAILURES)
    return {
        "requests": sum(outcomes.values()),
        "failures": failures,
        "error_rate": failures / judged if judged else None,
        "latency": latency(duration),
        "time_to_first_byte": latency(first_byte),
        "inflight": sum(report.inflight[arm] for report in live),
        "outcomes": outcomes,
    }


def latency(histogram: Histogram) -> Document:
    """Mean and quantiles in seconds."""
    count = sum(histogram.buckets)
    mean = histogram.total / count if count else None
    return {"mean": mean} | {name: quantile(histogram, share) for name, share in _QUANTILES.items()}


def quantile(histogram: Histogram, share: float) -> float | None:
    """The latency that `share` of the requests stayed under, straight lines within a bucket.

    The last bucket has no upper bound: there its lower bound is the answer. None without requests.
    """
    rank = share * sum(histogram.buckets)
    lower, below = 0.0, 0
    for upper, count in zip(LATENCY_BOUNDS, histogram.buckets, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        lower, below = upper, below + count
    return lower if any(histogram.buckets) else None


def _worker(worker: WorkerStatus, report: Observation | None) -> Document:
    return {
        "pid": worker.pid,
        "slot": worker.slot,
        "since": timestamp(worker.since),
        "snapshot": report.snapshot if report else None,
        "connections": report.connections if report else None,
        "inflight": sum(report.inflight) if report else None,
    }


def faults(found: Mapping[str, str]) -> list[Document]:
    """The gateway's own troubles, in the shape of alerts; when they began, and numbers, they have none of."""
    return [
        {
            "type": kind,
            "arm": None,
            "severity": "critical",
            "worst": "critical",
            "message": text,
            "since": None,
            "value": None,
            "threshold": None,
            "window": None,
            "samples": None,
            "calm_since": None,
            "calm_until": None,
        }
        for kind, text in found.items()
    ]


def history(events: Iterable[Event]) -> list[Document]:
    """The document of `GET /api/v1/history`, newest last."""
    return [
        {
            "at": timestamp(event.at),
            "type": event.type.value,
            "operator": event.operator,
            "reason": event.reason,
            "from": event.origin,
            "to": event.target,
            "evidence": dict(event.evidence),
            "digest": event.digest,
        }
        for event in events
    ]
