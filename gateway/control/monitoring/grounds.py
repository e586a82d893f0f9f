"""The numbers that a hold by evidence rests on, for the alert that it is.

The newest ones, not those that it began with: an alert says what is. Nothing is judged here.
"""

from __future__ import annotations

from gateway.control.monitoring.monitor import Monitor
from gateway.core.evidence.assessment import Assessment, Part
from gateway.model.alerts import Grounds
from gateway.model.metrics import Metric
from gateway.model.rollout import Cause, HoldKind, Rollout

_NONE = Grounds()


def grounds(kind: HoldKind, state: Rollout, monitor: Monitor, at: float) -> Grounds:
    """The numbers of a hold of `state` at `at` (Unix seconds); without any where it rests on none.

    Of errors they are the share of treatment's requests that failed and its limit. Of what has no limit of
    that sort they are the evidence and how much of it convicts.
    """
    found = monitor.assessment
    if found is None or not _is_by_evidence(kind, state):
        return _NONE
    part = _leading(found, against_limit=kind is HoldKind.SHARED_OUTAGE)
    dossier, limit = monitor.dossier, monitor.limits.get(Metric.ERROR_RATE)
    window = max(0.0, round(at - (dossier.state.began + dossier.anchor) / 1000, 1))
    if part.name == Metric.ERROR_RATE and limit is not None and part.requests:
        return Grounds(part.failures / part.requests, limit.value, part.requests, window)
    return Grounds(found.value, found.limit, part.requests, window)


def _is_by_evidence(kind: HoldKind, state: Rollout) -> bool:
    if kind is HoldKind.PENDING_ROLLBACK:
        return state.pending_rollback is not None and state.pending_rollback.cause is Cause.EVIDENCE
    return kind is HoldKind.SHARED_OUTAGE


def _leading(found: Assessment, *, against_limit: bool) -> Part:
    """The guardrail that says most, in the whole or with nothing to compare it with."""
    return max(
        found.parts,
        key=lambda part: part.weight * ((part.against_limit if against_limit else part.value) or 0.0),
    )
