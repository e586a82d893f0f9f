"""Monitoring and rollback as the config file writes them: two parts of the key `deployment`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from gateway.model.fields import (
    AnyText,
    Count,
    Duration,
    Flag,
    Name,
    Proportion,
    Seconds,
    Section,
    Span,
    Whole,
    default,
    fault,
)
from gateway.model.metrics import Limit, Metric, Trigger, TriggerRule
from gateway.model.phases import need_one_action
from gateway.model.places import Call
from gateway.model.units import HttpCall

LONGEST_SETTLE = 3600.0
"""Seconds for which counts stay open at most: every tick of that time is held in each worker."""


class AlertLevels(Section):
    """The two levels of one metric at which people are told; null for none."""

    warning: Annotated[float | None, Limit(Metric.PERFORMANCE_DEGRADATION)] = default(None)
    """Worth a look."""
    critical: Annotated[float | None, Limit(Metric.PERFORMANCE_DEGRADATION)] = default(None)
    """Worth waking somebody."""

    @model_validator(mode="after")
    def _ordered(self) -> AlertLevels:
        if self.warning is not None and self.critical is not None:
            worst = max(self.warning, self.critical) if self._rises() else min(self.warning, self.critical)
            if worst != self.critical:
                raise fault("warning is beyond critical", "expected critical to be the worse of the two")
        return self

    @classmethod
    def _rises(cls) -> bool:
        return True


class ShareAlert(AlertLevels):
    """Levels of a share from 0 to 1 that should be small."""

    warning: Annotated[float | None, Limit(Metric.ERROR_RATE)] = default(None)
    """Worth a look."""
    critical: Annotated[float | None, Limit(Metric.ERROR_RATE)] = default(None)
    """Worth waking somebody."""


class RatingAlert(AlertLevels):
    """Levels of a share from 0 to 1 that should be large."""

    warning: Annotated[float | None, Limit(Metric.USER_SATISFACTION)] = default(None)
    """Worth a look."""
    critical: Annotated[float | None, Limit(Metric.USER_SATISFACTION)] = default(None)
    """Worth waking somebody."""

    @classmethod
    def _rises(cls) -> bool:
        return False


class DurationAlert(AlertLevels):
    """Levels of a duration, in seconds."""

    warning: Annotated[float | None, Limit(Metric.RESPONSE_TIME)] = default(None)
    """Worth a look."""
    critical: Annotated[float | None, Limit(Metric.RESPONSE_TIME)] = default(None)
    """Worth waking somebody."""


class CostAlert(AlertLevels):
    """Levels of a cost, in whatever unit the pipelines report."""

    warning: Annotated[float | None, Limit(Metric.COST_PER_REQUEST)] = default(None)
    """Worth a look."""
    critical: Annotated[float | None, Limit(Metric.COST_PER_REQUEST)] = default(None)
    """Worth waking somebody."""


class Alerts(Section):
    """Alert levels by metric; null for no alert. Metrics that are not written keep their defaults."""

    error_rate: ShareAlert | None = default({"warning": 0.01, "critical": 0.02})
    """Share of failed requests."""
    performance_degradation: AlertLevels | None = default({"warning": 0.1, "critical": 0.2})
    """Slowdown against control: 0.1 is 10 % slower."""
    response_time: DurationAlert | None = default({"warning": "5000ms", "critical": "10000ms"})
    """90th percentile of the window."""
    user_satisfaction: RatingAlert | None = default(None)
    """Mean rating."""
    accuracy: RatingAlert | None = default(None)
    """Mean accuracy that the pipelines report."""
    cost_per_request: CostAlert | None = default(None)
    """Mean cost that the pipelines report."""

    def by_metric(self) -> Mapping[Metric, AlertLevels]:
        """The levels that are there."""
        return {metric: levels for metric in Metric if (levels := getattr(self, metric)) is not None}


class Board(enum.StrEnum):
    """A section of the dashboard."""

    PRODUCTION_OVERVIEW = "production_overview"
    EXPERIMENT_RESULTS = "experiment_results"
    PERFORMANCE_COMPARISON = "performance_comparison"
    ALERT_SUMMARY = "alert_summary"


class Monitoring(Section):
    """What is watched, how often, and when people are told."""

    interval: Annotated[float, Seconds(minimum=0.1)] = default("1s")
    """The tick: how often counts are closed and judged."""
    window: Annotated[float, Seconds(minimum=1)] = default("5m")
    """What alerts and the dashboard look back on."""
    gate_confidence: Annotated[float, Proportion("a probability", 0, 0.9999)] = default(0.95)
    """Confidence of the gates' intervals; 0 is the plain point estimate."""
    alerts: Alerts = default({})
    """Levels at which people are told; they never act by themselves."""
    dashboards: tuple[Board, ...] = default(list(Board))
    """The sections of the dashboard."""


class RollbackDecision(enum.StrEnum):
    """How an automatic rollback is decided: by evidence, or by a plain threshold on a window."""

    EVIDENCE = "evidence"
    THRESHOLD = "threshold"


class Unit(enum.StrEnum):
    """What counts as one observation."""

    USER = "user"
    REQUEST = "request"


class OnSharedOutage(enum.StrEnum):
    """What happens when both arms fail alike."""

    HOLD = "hold"
    ROLLBACK = "rollback"


class Drain(Section):
    """How `rollback --graceful` takes treatment's share away."""

    steps: Annotated[int, Whole(1, 1000)] = default(5)
    """In how many equal steps."""
    over: Duration = default("30s")
    """Within how many seconds; 0s for at once."""


class EmergencyContact(Section):
    """A team that hears of rollbacks; its channel is under `notifications.contacts`."""

    team: Name
    """The team's name."""
    oncall: Flag = default(False)
    """True pages it; false lets it know."""


class Hook(Section):
    """What runs after a rollback. Exactly one of `http` and `command` is written."""

    http: Annotated[HttpCall | None, Call("POST", optional=True)] = default(None)
    """A URL, or a method and a URL; POST where no method is written."""
    command: Annotated[tuple[AnyText, ...], Field(min_length=1)] | None = default(None)
    """Program and arguments, without a shell."""
    timeout: Span = default("30s")
    """After this it is killed and recorded as failed."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Hook:
        need_one_action(self.command, self.http)
        return self


class Rollback(Section):
    """When and how treatment is taken away."""

    automatic_triggers: tuple[Annotated[Trigger, TriggerRule()], ...] = default(
        ["error_rate > 0.02", "performance_degradation > 0.3", "system_failure"]
    )
    """What rolls back by itself, in every phase; a phase's own stricter limit counts."""
    decision: RollbackDecision = default("evidence")
    """evidence: sequential tests against control; threshold: a plain limit on monitoring.window."""
    false_rollback_probability: Annotated[float, Proportion("a probability", 1e-9, 0.5)] = default(0.001)
    """The chance that a treatment exactly at its limit, or equal to control, is rolled back in 30 days."""
    minimum_failures: Annotated[int, Whole(1, 1_000_000)] = default(5)
    """Failures below which evidence does not act."""
    minimum_samples: Count = default(100)
    """With `decision: threshold`: requests in the window below which it does not act."""
    unit: Unit = default("user")
    """user counts a user's first request on each route in ten minutes, request counts all."""
    settle: Annotated[float, Seconds(minimum=0.001, maximum=LONGEST_SETTLE)] = default("5m")
    """A stream that is still open after this was not truncated."""
    system_failure_after: Span = default("60s")
    """How long treatment has no healthy endpoint, without a break, before that is a rollback."""
    on_shared_outage: OnSharedOutage = default("hold")
    """What happens when both arms fail alike."""
    open_streams: Annotated[float | None, Seconds(word="finish")] = default("finish")
    """How long streams that are open on treatment may live after a rollback."""
    drain: Drain = default({})
    """How `rollback --graceful` goes."""
    manual_approval_required: Flag = default(False)
    """True turns automatic triggers into a pending approval; never for emergencies and system failures."""
    emergency_contacts: tuple[EmergencyContact, ...] = default([])
    """Who hears of it."""
    hooks: tuple[Hook, ...] = default([])
    """What runs after a rollback, in order."""
