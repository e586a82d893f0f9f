"""Phases of the rollout and the gates between them: one part of the key `deployment`.

It knows each phase by itself; the order of the phases is `model.deployment`'s.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gateway.model.fields import (
    AnyText,
    Count,
    Flag,
    Name,
    OptionalSpan,
    Percentage,
    Section,
    Span,
    Whole,
    default,
    fault,
)
from gateway.model.gates import OnNoData
from gateway.model.metrics import Criterion, Limit, Metric
from gateway.model.places import Call
from gateway.model.units import Comparison, HttpCall


class MonitoringLevel(enum.StrEnum):
    """The log level of a phase."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Advance(enum.StrEnum):
    """Who moves a phase on once its gates pass: an operator, or the gateway itself."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"


class Criteria(Section):
    """Comparisons by metric; null for none."""

    error_rate: Annotated[Comparison | None, Criterion(Metric.ERROR_RATE)] = default(None)
    """Share of failed requests."""
    performance_degradation: Annotated[Comparison | None, Criterion(Metric.PERFORMANCE_DEGRADATION)] = (
        default(None)
    )
    """Slowdown against control: 0.1 is 10 % slower."""
    response_time: Annotated[Comparison | None, Criterion(Metric.RESPONSE_TIME)] = default(None)
    """The 90th percentile of the window."""
    user_satisfaction: Annotated[Comparison | None, Criterion(Metric.USER_SATISFACTION)] = default(None)
    """Mean rating."""
    accuracy: Annotated[Comparison | None, Criterion(Metric.ACCURACY)] = default(None)
    """Mean accuracy that the pipelines report."""
    cost_per_request: Annotated[Comparison | None, Criterion(Metric.COST_PER_REQUEST)] = default(None)
    """Mean cost that the pipelines report."""

    def by_metric(self) -> Mapping[Metric, Comparison]:
        """The comparisons that are there."""
        return {metric: value for metric in Metric if (value := getattr(self, metric)) is not None}


class RollbackThreshold(Section):
    """Limits beyond which a phase is rolled back; null for none."""

    error_rate: Annotated[float | None, Limit(Metric.ERROR_RATE)] = default(None)
    """The largest share of failed requests."""
    performance_degradation: Annotated[float | None, Limit(Metric.PERFORMANCE_DEGRADATION)] = default(None)
    """The largest slowdown against control: 0.15 is 15 % slower."""
    user_satisfaction: Annotated[float | None, Limit(Metric.USER_SATISFACTION)] = default(None)
    """The smallest mean rating."""

    def by_metric(self) -> Mapping[Metric, float]:
        """The limits that are there."""
        return {metric: value for metric in Metric if (value := getattr(self, metric, None)) is not None}


class Phase(Section):
    """One step of the ladder."""

    user_percentage: Percentage
    """Share of the users that are enrolled, in percent, exact: 0 is nobody and 100 everybody."""
    duration: OptionalSpan = default(None)
    """Seconds of healthy service before the next phase; null for no time gate."""
    success_criteria: Criteria = default({})
    """What the next phase waits for."""
    rollback_threshold: RollbackThreshold = default({})
    """What sends the rollout back."""
    feature_flags: tuple[Name, ...] = default(["core_features"])
    """Sent to the upstream as X-Gateway-Feature-Flags."""
    monitoring_level: MonitoringLevel = default("warn")
    """Level of the log while the phase lasts."""
    dspy_enabled: Flag = default(True)
    """False sends everybody to control."""
    advance: Advance = default("manual")
    """Who moves on to the next phase."""


DEFAULT_PHASES: Mapping[str, Mapping[str, Any]] = {
    "development": {
        "user_percentage": 100,
        "feature_flags": ["all_features"],
        "monitoring_level": "debug",
        "rollback_threshold": {"error_rate": 0.1, "performance_degradation": 0.3},
    },
    "staging": {
        "user_percentage": 100,
        "feature_flags": ["core_features"],
        "monitoring_level": "info",
        "rollback_threshold": {"error_rate": 0.05, "performance_degradation": 0.2},
    },
    "canary": {
        "user_percentage": 1,
        "feature_flags": ["core_features"],
        "monitoring_level": "warn",
        "rollback_threshold": {"error_rate": 0.02, "performance_degradation": 0.15},
    },
    "limited_production": {
        "user_percentage": 10,
        "feature_flags": ["core_features"],
        "monitoring_level": "warn",
        "rollback_threshold": {"error_rate": 0.01, "performance_degradation": 0.1},
    },
    "full_production": {
        "user_percentage": 100,
        "feature_flags": ["core_features"],
        "monitoring_level": "error",
        "rollback_threshold": {"error_rate": 0.005, "performance_degradation": 0.05},
    },
}
"""The strategy's `PhaseConfig` table: what a phase of these names is unless the file says otherwise."""


class AutomatedTest(Section):
    """A gate that runs a command or asks a URL. Exactly one of the two is written."""

    type: Literal["automated_test"]
    command: Annotated[tuple[AnyText, ...], Field(min_length=1)] | None = default(None)
    """Program and arguments, without a shell; passes with exit code 0."""
    http: Annotated[HttpCall | None, Call("GET", optional=True)] = default(None)
    """A URL, or a method and a URL; passes with a status of 200 to 299."""
    timeout: Span = default("5m")
    """After this the test and its children are killed and the gate fails."""

    @model_validator(mode="after")
    def _one_of_two(self) -> AutomatedTest:
        need_one_action(self.command, self.http)
        return self


class ManualApproval(Section):
    """A gate that waits for people."""

    type: Literal["manual_approval"]
    approvals: Annotated[int, Whole(1, 100)] = default(1)
    """How many different operators must approve."""
    expires: OptionalSpan = default("24h")
    """How long an approval stands; null for ever."""


class TimeBased(Section):
    """A gate that waits for healthy service."""

    type: Literal["time_based"]
    minimum: Span
    """Seconds of service in the phase: neither latched nor paused, and treatment healthy."""


class MetricsThreshold(Section):
    """A gate on metrics."""

    type: Literal["metrics_threshold"]
    thresholds: Criteria
    """What must hold, beyond chance."""
    minimum_samples: Count = default(300)
    """Requests below which there is too little data to judge."""
    on_no_data: OnNoData = default("hold")
    """What too little data means."""
    window: Span = default("1h")
    """What is judged: the last so many seconds (the phase's duration where there is one)."""


Gate = Annotated[AutomatedTest | ManualApproval | TimeBased | MetricsThreshold, Field(discriminator="type")]


def need_one_action(command: object, http: object) -> None:
    """Raise a fault unless exactly one of the two is written."""
    if (command is None) == (http is None):
        wrong = "neither command nor http is written" if http is None else "both command and http are written"
        raise fault(wrong, "expected exactly one of them")
