"""The document of `GET /api/v1/dashboard`, built from values: no I/O, no clock.

It has the strategy's five parts (overview, performance, experiments, alerts, deployment) and everything
else that the page shows; the page is drawn from it alone. Shares and relative changes are plain
numbers (0.1 is ten percent), latencies seconds, percentages 0 to 100, times RFC 3339 in UTC. null means
"not known yet", never zero. `docs/dashboard.md` explains each figure.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway.control.dashboard.condition import Condition, see
from gateway.control.dashboard.figures import unix
from gateway.control.rollout.views import timestamp

Document: TypeAlias = dict[str, Any]

CONTROL, TREATMENT = "control", "treatment"
RECENT_ALERTS = 20
"""How many alerts of the past are shown."""
HISTORY_EVENTS = 40
"""How many events of the history are shown."""
TREND_HOURS = 24
"""How far back alerts are counted, hour by hour."""
SIGNIFICANCE = 0.05
"""An always-valid p-value below this is called significant."""


class Reach(enum.Enum):
    """How far back a course of time goes."""

    QUARTER = "15m"
    HOUR = "1h"
    MORNING = "6h"
    DAYS = "48h"

    @property
    def seconds(self) -> int:
        """The whole of it."""
        return _REACHES[self][0]

    @property
    def step(self) -> int:
        """Seconds of one point: what is older than an hour is only known in steps of ten minutes."""
        return _REACHES[self][1]


_REACHES = {
    Reach.QUARTER: (900, 10),
    Reach.HOUR: (3600, 60),
    Reach.MORNING: (21_600, 600),
    Reach.DAYS: (172_800, 1800),
}


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm over some time: counts of requests, shares, seconds; means of what pipelines reported.

    `scores` are means by metric: accuracy, cost_per_request, user_satisfaction.
    """

    requests: int = 0
    failures: int = 0
    error_rate: float | None = None
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def success_rate(self) -> float | None:
        """Share of the answers that did not fail."""
        return None if self.error_rate is None else 1.0 - self.error_rate


@dataclass(frozen=True, slots=True)
class Point:
    """Both arms in one step of time, which begins at `at` (Unix seconds).

    `served` is how many requests control and treatment ended, also those that are not judged; None where
    that is not known.
    """

    at: float
    control: ArmFigures
    treatment: ArmFigures
    served: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class EvidencePoint:
    """The evidence against treatment at one time; None where there was none."""

    at: float
    value: float | None


@dataclass(frozen=True, slots=True)
class Rung:
    """A phase of the ladder as the config has it; `percentage` is what it would send by itself."""

    name: str
    percentage: float
    advance: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the document is built from.

    `history` is newest last, `window` the seconds that `recent` and `degradation` look back on, `rate`
    how many requests a second were served meanwhile.
    """

    at: float
    status: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    ladder: Sequence[Rung]
    boards: Sequence[str]
    window: float
    recent: Mapping[str, ArmFigures]
    degradation: float | None
    rate: float | None
    reach: Reach
    points: Sequence[Point]
    evidence: Sequence[EvidencePoint]
    experiments: Sequence[Mapping[str, Any]]
    named_operators: bool
    """True where tokens say who asks."""


def document(facts: Facts) -> Document:
    """The whole document."""
    status, seen = facts.status, see(facts.status)
    return {
        "at": timestamp(facts.at),
        "version": status["version"],
        "sections": list(facts.boards),
        "named_operators": facts.named_operators,
        "state": {
            "condition": seen.condition.value,
            "tone": seen.condition.tone.value,
            "word": seen.condition.word,
            "meaning": seen.meaning,
            "reason": seen.reason,
            "operator": seen.operator,
            "since": seen.since,
        },
        "overview": _overview(facts),
        "performance": _performance(facts),
        "experiments": [_experiment(experiment) for experiment in facts.experiments],
        "alerts": _alerts(facts),
        "deployment": _deployment(facts, seen.condition),
        "history": [dict(event) for event in facts.history[-HISTORY_EVENTS:]],
        "workers": status["workers"],
        "upstreams": status["upstreams"],
        "config": status["config"],
        "gateway": status["gateway"],
        "latch": status["latch"],
    }


# --- overview -----------------------------------------------------------------------------------


def _overview(facts: Facts) -> Document:
    """Totals count since the gateway began; the rates look back on the window."""
    totals = {arm: facts.status["arms"][arm]["requests"] for arm in (CONTROL, TREATMENT)}
    arms = [facts.recent.get(arm, ArmFigures()) for arm in (CONTROL, TREATMENT)]
    answered = sum(arm.requests for arm in arms)
    successes = [(arm.requests - arm.failures, arm.mean) for arm in arms if arm.mean is not None]
    weight = sum(number for number, _ in successes)
    return {
        "total_executions": sum(totals.values()),
        "dspy_executions": totals[TREATMENT],
        "traditional_executions": totals[CONTROL],
        "success_rate": 1.0 - sum(arm.failures for arm in arms) / answered if answered else None,
        "average_response_time": sum(n * mean for n, mean in successes) / weight if weight else None,
        "requests_per_second": facts.rate,
        "window": facts.window,
    }


# --- performance --------------------------------------------------------------------------------


def _performance(facts: Facts) -> Document:
    control = facts.recent.get(CONTROL, ArmFigures())
    treatment = facts.recent.get(TREATMENT, ArmFigures())
    gains = improvements(control, treatment, facts.degradation)
    return {
        "window": facts.window,
        "dspy_performance": _arm(treatment) | {"optimization_effectiveness": effectiveness(gains)},
        "traditional_performance": _arm(control),
        "comparison": {
            "performance_improvement": gains["speed"],
            "cost_comparison": _cost(control, treatment),
            "quality_improvement": gains["quality"],
            "success_improvement": gains["success"],
        },
        "routes": facts.status["window"]["routes"],
        "limits": facts.status.get("limits") or {},
        "series": {
            "reach": facts.reach.value,
            "step": facts.reach.step,
            "points": [_point(point) for point in facts.points],
        },
        "evidence": _evidence(facts),
    }


def _arm(arm: ArmFigures) -> Document:
    return {
        "requests": arm.requests,
        "success_rate": arm.success_rate,
        "error_rate": arm.error_rate,
        "average_response_time": arm.mean,
        "latency": {"p50": arm.p50, "p90": arm.p90, "p99": arm.p99},
        "scores": dict(arm.scores),
    }


def improvements(
    control: ArmFigures, treatment: ArmFigures, degradation: float | None
) -> dict[str, float | None]:
    """How much better treatment is in each respect, as a relative change; positive is better.

    success: of the success rates. speed: minus the performance degradation, the one definition of it
    that gates and alerts use. cost: money saved per request. quality: of the mean accuracy, or of user
    satisfaction where no accuracy is reported.
    """
    cost = _relative(treatment.scores.get("cost_per_request"), control.scores.get("cost_per_request"))
    quality = _relative(treatment.scores.get("accuracy"), control.scores.get("accuracy"))
    if quality is None:
        quality = _relative(
            treatment.scores.get("user_satisfaction"), control.scores.get("user_satisfaction")
        )
    return {
        "success": _relative(treatment.success_rate, control.success_rate),
        "speed": None if degradation is None else -degradation,
        "cost": None if cost is None else -cost,
        "quality": quality,
    }


def effectiveness(gains: Mapping[str, float | None]) -> float | None:
    """What optimisation is worth in one figure: the geometric mean of the gains that are known, as a change.

    Each respect counts alike: 0.1 means ten percent better all in all. None before anything is known.
    """
    factors = [max(1e-9, 1.0 + gain) for gain in gains.values() if gain is not None]
    return math.exp(math.fsum(map(math.log, factors)) / len(factors)) - 1.0 if factors else None


def _cost(control: ArmFigures, treatment: ArmFigures) -> Document:
    costs = {arm: figures.scores.get("cost_per_request") for arm, figures in _both(control, treatment)}
    return {
        "dspy": costs[TREATMENT],
        "traditional": costs[CONTROL],
        "change": _relative(costs[TREATMENT], costs[CONTROL]),
    }


def _both(control: ArmFigures, treatment: ArmFigures) -> tuple[tuple[str, ArmFigures], ...]:
    return (CONTROL, control), (TREATMENT, treatment)


def _relative(value: float | None, base: float | None) -> float | None:
    return value / base - 1.0 if value is not None and base else None


def _point(point: Point) -> Document:
    served = point.served or (point.control.requests, point.treatment.requests)
    arms = {
        arm: {
            "served": round(ended),
            "requests": figures.requests,
            "error_rate": figures.error_rate,
            "p50": figures.p50,
            "p90": figures.p90,
            "p99": figures.p99,
        }
        for (arm, figures), ended in zip(_both(point.control, point.treatment), served, strict=True)
    }
    return {"at": timestamp(point.at), **arms}


def _evidence(facts: Facts) -> Document:
    points = [{"at": timestamp(point.at), "value": point.value} for point in facts.evidence]
    return {**(facts.status.get("evidence") or {}), "points": points}


# --- experiments --------------------------------------------------------------------------------


def _experiment(experiment: Mapping[str, Any]) -> Document:
    """One experiment: the strategy's summary in front, its whole document behind as `results`."""
    groups = experiment.get("groups") or {}
    return {
        "id": experiment["id"],
        "name": experiment.get("name") or experiment["id"],
        "status": experiment["status"],
        "participants": sum(group.get("participants") or 0 for group in groups.values()),
        "statistical_significance": _significance(experiment.get("metrics") or {}),
        "results": dict(experiment),
    }


def _significance(metrics: Mapping[str, Any]) -> Document | None:
    """The first success metric that was compared decides; its smallest p-value is valid at any time."""
    for metric, found in metrics.items():
        p_values = [
            comparison["p_value"]
            for comparison in found.get("comparisons") or ()
            if comparison.get("p_value") is not None
        ]
        if p_values:
            least = min(p_values)
            return {"metric": metric, "p_value": least, "significant": least < SIGNIFICANCE}
    return None


# --- alerts -------------------------------------------------------------------------------------


def _alerts(facts: Facts) -> Document:
    past = [event for event in facts.history if event["type"] == "alert"]
    return {
        "active_alerts": [dict(alert) for alert in facts.status.get("alerts") or ()],
        "recent_alerts": [dict(event) for event in past[-RECENT_ALERTS:]],
        "alert_trends": alert_trends([at for event in past if (at := _raised(event)) is not None], facts.at),
    }


def _raised(event: Mapping[str, Any]) -> float | None:
    """When an alert came up; an alert that changed or is over was counted as it came."""
    return unix(event["at"]) if event["evidence"].get("change", "raised") == "raised" else None


def alert_trends(raised: Sequence[float], now: float) -> Document:
    """Alerts raised per hour over the last day, the oldest hour first, and which way it goes."""
    by_hour = [0] * TREND_HOURS
    for at in raised:
        hours = int((now - at) // 3600)
        if 0 <= hours < TREND_HOURS:
            by_hour[-1 - hours] += 1
    last, before = by_hour[-1], by_hour[-2]
    direction = "rising" if last > before else "falling" if last < before else "steady"
    return {"by_hour": by_hour, "last_hour": last, "last_day": sum(by_hour), "direction": direction}


# --- deployment ---------------------------------------------------------------------------------

_NOT_ROUTED = frozenset((Condition.EMERGENCY, Condition.ROLLED_BACK, Condition.SAFE_MODE))
_DOUBTFUL = frozenset((Condition.TRIAL, Condition.HOLDING, Condition.ALERTING, Condition.DRAINING))


def _deployment(facts: Facts, condition: Condition) -> Document:
    status = facts.status
    stays = status.get("phases") or []
    copied = ("mode", "paused", "ceiling", "percentage_after_release", "service_seconds", "next_phase")
    lists = ("gates", "running_tests", "holds", "schedule", "automatic_off")
    return {
        "current_phase": status["phase"],
        "phase_since": status["phase_since"],
        "phase_metrics": stays[-1] if stays else None,
        "rollout_percentage": status["user_percentage"],
        "canary_health": _canary_health(facts, condition),
        "ladder": [
            {"name": rung.name, "percentage": rung.percentage, "advance": rung.advance}
            for rung in facts.ladder
        ],
        "previous_phase": status.get("previous_phase"),
        **{key: status.get(key) for key in copied},
        **{key: status.get(key) or [] for key in lists},
        "drain": status.get("drain"),
        "trial": status.get("trial"),
        "treatment_absence": status["treatment_absence"],
    }


def _canary_health(facts: Facts, condition: Condition) -> Document:
    """How treatment does: unknown, healthy, degraded or unhealthy, and why."""
    treatment = facts.recent.get(TREATMENT, ArmFigures())
    serving = [upstream for upstream in facts.status["upstreams"].values() if TREATMENT in upstream["arms"]]
    if condition in _NOT_ROUTED:
        return {"status": "unhealthy", "reason": "treatment serves nobody: the latch is engaged"}
    if not all(upstream["available"] for upstream in serving):
        return {"status": "unhealthy", "reason": "treatment has no healthy endpoint, or its breaker is open"}
    if condition is Condition.TREATMENT_AWAY:
        return {"status": "unhealthy", "reason": "treatment gives no sign of life"}
    if condition in _DOUBTFUL:
        return {"status": "degraded", "reason": f"the rollout is {condition.word}"}
    if not treatment.requests:
        return {"status": "unknown", "reason": "no requests of treatment in the window"}
    limit = (facts.status.get("limits") or {}).get("error_rate") or {}
    rate, bound = treatment.error_rate, limit.get("value")
    if rate is not None and bound is not None and rate > bound:
        return {"status": "degraded", "reason": "the error rate of the window is over the rollback limit"}
    return {"status": "healthy", "reason": "within its limits"}
