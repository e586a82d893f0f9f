"""Facts for the dashboard's document, as a test wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.control.dashboard.document import ArmFigures, EvidencePoint, Facts, Point, Reach, Rung

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z."""
AT = "2027-01-15T08:00:00.000Z"
EARLIER = "2027-01-15T07:00:00.000Z"

CONTROL = ArmFigures(1000, 10, 0.01, 0.2, 0.18, 0.3, 0.5, {"accuracy": 0.8, "cost_per_request": 0.004})
TREATMENT = ArmFigures(500, 10, 0.02, 0.15, 0.14, 0.25, 0.4, {"accuracy": 0.88, "cost_per_request": 0.003})
UPSTREAMS = {
    name: {
        "arms": [arm],
        "available": True,
        "breaker": breaker,
        "endpoints": [{"endpoint": f"http://{name}:9001", "usable": True, "check": None, "inflight": 2}],
    }
    for name, arm, breaker in (
        ("traditional", "control", None),
        ("dspy", "treatment", {"state": "closed", "cause": None, "trips": 0}),
    )
}
GATE = {
    "id": "canary.limited_production.metrics_threshold",
    "transition": "canary -> limited_production",
    "type": "metrics_threshold",
    "verdict": "inconclusive",
    "value": 0.008,
    "threshold": 0.01,
    "reason": "864 requests are too few",
    "findings": [
        {
            "metric": "error_rate",
            "verdict": "inconclusive",
            "value": 0.008,
            "threshold": 0.01,
            "comparison": "error_rate < 0.01",
            "reason": "864 requests are too few",
        }
    ],
}
APPROVAL = {
    "id": "canary.limited_production.manual_approval",
    "transition": "canary -> limited_production",
    "type": "manual_approval",
    "verdict": "pending",
    "value": 0.0,
    "threshold": 1.0,
    "reason": "0 of 1 approvals",
    "findings": [
        {
            "metric": "approvals",
            "verdict": "pending",
            "value": 0.0,
            "threshold": 1.0,
            "comparison": "approvals >= 1",
            "reason": "0 of 1 approvals",
        }
    ],
}
UNLATCHED = {
    "engaged": False,
    "number": 3,
    "kind": None,
    "reason": None,
    "operator": None,
    "since": None,
    "durable": True,
}


def status(**changes: Any) -> dict[str, Any]:
    """A status document of a healthy canary."""
    return {
        "version": 7,
        "phase": "canary",
        "phase_since": EARLIER,
        "mode": "running",
        "paused": False,
        "pause": None,
        "user_percentage": 1,
        "ceiling": None,
        "next_phase": "limited_production",
        "previous_phase": None,
        "percentage_after_release": None,
        "service_seconds": 3600.0,
        "gates": [GATE, APPROVAL],
        "running_tests": [],
        "holds": [],
        "drain": None,
        "trial": None,
        "treatment_absence": None,
        "automatic_off": [],
        "schedule": [{"transition": GATE["transition"], "gate": GATE["id"], "earliest": AT}],
        "latch": UNLATCHED,
        "arms": {"control": {"requests": 9000}, "treatment": {"requests": 1000}},
        "alerts": [],
        "workers": [{"pid": 11, "slot": 0, "since": EARLIER, "snapshot": 3, "connections": 5, "inflight": 2}],
        "config": {"digest": "abc", "loaded_at": EARLIER, "error": None, "file_differs": False},
        "gateway": {
            "pid": 1,
            "started_at": EARLIER,
            "snapshot": 3,
            "worker_restarts": 0,
            "control_restarts": 0,
            "task_restarts": {},
            "failing_tasks": [],
        },
        "phases": [],
        "window": {"routes": {}},
        "upstreams": UPSTREAMS,
        "evidence": {
            "value": 0.2,
            "limit": 1000.0,
            "verdict": "quiet",
            "unit": "user",
            "failures": 0,
            "users": 0,
            "reason": "nothing against treatment",
            "parts": {},
        },
        "limits": {"error_rate": {"value": 0.02, "source": "rollback.automatic_triggers"}},
        **changes,
    }


def latched(kind: str, reason: str = "it broke") -> dict[str, Any]:
    """A status under the latch."""
    latch = {**UNLATCHED, "engaged": True, "kind": kind, "reason": reason, "operator": "ann", "since": AT}
    return status(mode="latched", latch=latch, user_percentage=0, percentage_after_release=1)


def points(count: int = 12, step: int = 10) -> Sequence[Point]:
    """A course of time up to now."""
    return [Point(NOW - step * (count - n), CONTROL, TREATMENT, (300.0, 30.0)) for n in range(count)]


def facts(**changes: Any) -> Facts:
    """Facts of a healthy canary with traffic."""
    made = Facts(
        at=NOW,
        status=status(),
        history=[],
        ladder=[Rung("canary", 1, "manual"), Rung("limited_production", 10, "automatic")],
        boards=["production_overview", "experiment_results", "performance_comparison", "alert_summary"],
        window=300.0,
        recent={"control": CONTROL, "treatment": TREATMENT},
        degradation=-0.2,
        rate=33.0,
        reach=Reach.QUARTER,
        points=points(),
        evidence=[EvidencePoint(NOW - 60 + 5 * n, 0.2 * n) for n in range(10)],
        experiments=[],
        named_operators=False,
    )
    return replace(made, **changes)


def event(type_: str, at: str = AT, **changes: Any) -> dict[str, Any]:
    """An event of the history."""
    return {
        "at": at,
        "type": type_,
        "operator": "ann",
        "reason": "because",
        "from": None,
        "to": None,
        "evidence": {},
        "digest": "abc",
        **changes,
    }


def experiment(**changes: Any) -> dict[str, Any]:
    """An experiment's document with one clear effect."""
    return {
        "id": "e1",
        "name": "DSPy against traditional",
        "status": "running",
        "planned_end": AT,
        "minimum_sample_size": 100,
        "groups": {
            "control": {"weight": 50, "share": 0.5, "participants": 400, "requests": 4000},
            "treatment": {"weight": 50, "share": 0.5, "participants": 390, "requests": 3900},
        },
        "metrics": {
            "accuracy": {
                "direction": "up",
                "success_metric": True,
                "groups": {"control": {"n": 400, "mean": 0.8}, "treatment": {"n": 390, "mean": 0.88}},
                "comparisons": [
                    {
                        "group": "treatment",
                        "difference": 0.08,
                        "lift": 0.1,
                        "interval": [0.04, 0.12],
                        "lift_interval": [0.05, 0.15],
                        "p_value": 0.002,
                    }
                ],
            }
        },
        "sample_ratio": {"p_value": 0.9, "ok": True},
        "verdict": "ship",
        "explanation": "treatment is better",
        **changes,
    }
