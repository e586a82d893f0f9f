"""Evidence, limits and expected detection as the admin API shows them, built from values.

Nothing is judged here and no clock is read. Numbers that would be infinite are None, because JSON
has no infinity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from gateway.control.rollout.views import Document, timestamp
from gateway.core.evidence.assessment import Assessment, Part
from gateway.core.evidence.detection import Detection
from gateway.core.limits import RollbackLimit
from gateway.core.reactions import Conclusion
from gateway.core.system_failure import Absence, Obstacle
from gateway.model.metrics import Metric
from gateway.model.safety import RollbackDecision, Unit


def conclusion(found: Assessment) -> Conclusion:
    """An assessment as what follows from it is decided by."""
    return Conclusion(
        found.verdict,
        found.reason,
        strongest=max((part.value for part in found.parts if part.value is not None), default=0.0),
        caps_share=found.caps_share,
        evidence={
            "value": _plain(found.value),
            "limit": found.limit,
            "failures": found.failures,
            "users": found.users,
            "parts": {part.name: _plain(part.value) for part in found.parts if part.value is not None},
        },
    )


def evidence(found: Assessment | None, decision: RollbackDecision, unit: Unit, began: float) -> Document:
    """The status's evidence; `began` in Unix seconds. Before the first look the numbers are None."""
    parts: Iterable[Part] = () if found is None else found.parts
    return {
        "decision": decision.value,
        "unit": unit.value,
        "since": timestamp(began),
        "value": None if found is None else _plain(found.value),
        "limit": None if found is None else found.limit,
        "verdict": None if found is None else found.verdict.name.lower(),
        "failures": 0 if found is None else found.failures,
        "users": 0 if found is None else found.users,
        "reason": "nothing was looked at yet" if found is None else found.reason,
        "parts": {part.name: _part(part) for part in parts},
    }


def _part(part: Part) -> Document:
    return {
        "value": _plain(part.value),
        "weight": part.weight,
        "against_limit": _plain(part.against_limit),
        "against_control": _plain(part.against_control),
        "requests": part.requests,
        "failures": part.failures,
        "users": part.users,
    }


def limits(found: Mapping[Metric, RollbackLimit]) -> Document:
    """The status's limits, each with where it comes from."""
    return {metric.value: {"value": limit.value, "source": limit.source} for metric, limit in found.items()}


def absence(seen: Absence, after: float, obstacle: Obstacle | None, *, control_healthy: bool) -> Document:
    """A treatment that is away: for how long, and in how many seconds it is rolled back.

    `after` is the time that makes it a rollback. `rollback_in` is None where an obstacle is in the way.
    """
    return {
        "seconds": round(seen.lasted, 1),
        "control_healthy": control_healthy,
        "rollback_in": round(max(0.0, after - seen.lasted), 1) if obstacle is None else None,
        "obstacle": None if obstacle is None else obstacle.value,
    }


def detections(found: Iterable[Detection]) -> list[Document]:
    """How long it would take to find out, for several shares of failures."""
    return [
        {
            "failure_rate": each.failure_rate,
            "late": each.late,
            "requests": _plain(each.requests),
            "seconds": _plain(each.seconds),
        }
        for each in found
    ]


def _plain(value: float | None) -> float | None:
    """A number of four digits; None for none and for infinity."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")
