"""Alerts for people as values: what is measured, what stands, and what changed.

Frozen values and nothing else. `core.alerts` decides what is raised and when it is over;
`control.alerting` measures, stores and tells. Times are Unix seconds, durations seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.model.metrics import Metric


class Severity(enum.StrEnum):
    """How bad something is that people are told of: an alert, a rollback."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


GRAVITY: Mapping[Severity, int] = {
    Severity.LOW: 1,
    Severity.MEDIUM: 2,
    Severity.HIGH: 3,
    Severity.CRITICAL: 4,
}
"""The severities in their order; 0 is left for none."""
_GRADES: tuple[Severity | None, ...] = (None, *GRAVITY)

Key: TypeAlias = tuple[str, str]
"""Type and arm: there is at most one alert of each."""


@dataclass(frozen=True, slots=True)
class Levels:
    """A metric's two levels, as the config writes them (seconds for response_time); None for no such."""

    warning: float | None
    critical: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric of one arm over the last window. `noise` is its standard error, 0 where it is not known."""

    metric: Metric
    arm: str
    value: float
    samples: int
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now, or is not: an alert without levels, over as soon as it is not named."""

    type: str
    severity: Severity
    message: str
    arm: str = ""
    value: float | None = None
    threshold: float | None = None
    samples: int | None = None
    window: float | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """What people are told. `arm` is "" where it is nobody's; `window` and `since` are seconds.

    `threshold` is the level that was crossed. `worst` is the gravest that it has been: whoever heard of
    it then hears that it is over. `value` is what it is now, `cause` the words for what it was when the
    alert got its severity. `calm_since` and `calm_until` (Unix seconds) are None unless it is better than
    its severity: it becomes milder, or is over, at the end of that if it stays so.
    """

    type: str
    arm: str
    severity: Severity
    worst: Severity
    message: str
    since: float
    value: float | None = None
    threshold: float | None = None
    window: float | None = None
    samples: int | None = None
    cause: str = ""
    calm_since: float | None = None
    calm_until: float | None = None

    @property
    def key(self) -> Key:
        """What there is one alert of."""
        return self.type, self.arm

    @property
    def subject(self) -> str:
        """The same in words."""
        return f"{self.type} of {self.arm}" if self.arm else self.type


class ChangeKind(enum.StrEnum):
    """What happened to an alert."""

    RAISED = "raised"
    WORSENED = "worsened"
    EASED = "eased"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Change:
    """What is new about an alert. A resolved one is as it stood last.

    `before` is how grave it was, None where there was none.
    """

    kind: ChangeKind
    alert: Alert
    reason: str
    before: Severity | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert that stands, and since when (Unix seconds) it has been better than each severity, low first.

    None where it is not. What is better than one severity is better than every graver one.
    """

    alert: Alert
    better_since: tuple[float | None, ...] = (None,) * len(GRAVITY)

    @property
    def calm_since(self) -> float | None:
        """Since when it could be milder; None while it could not."""
        return self.better_since[GRAVITY[self.alert.severity] - 1]

    def severity_at(self, at: float, patience: float) -> Severity | None:
        """What is left of its severity at a time, if it stays so: each severity goes after the patience."""
        standing = self.better_since[: GRAVITY[self.alert.severity]]
        left = sum(since is None or at < since + patience for since in standing)
        return _GRADES[left]


@dataclass(frozen=True, slots=True)
class Mark:
    """A window that ended at `at`: how bad it was, and the standard error of that."""

    at: float
    badness: float
    noise: float


@dataclass(frozen=True, slots=True)
class Trail:
    """The newest windows of a metric and arm that lie end to end, newest last."""

    metric: Metric
    arm: str
    marks: tuple[Mark, ...] = ()

    @property
    def key(self) -> Key:
        """See `Alert.key`."""
        return self.metric.value, self.arm


@dataclass(frozen=True, slots=True)
class AlertState:
    """Everything that one assessment hands on to the next."""

    standing: tuple[Standing, ...] = ()
    trails: tuple[Trail, ...] = ()

    @property
    def active(self) -> tuple[Alert, ...]:
        """The alerts that stand, gravest first, then oldest first."""
        alerts = [standing.alert for standing in self.standing]
        return tuple(sorted(alerts, key=lambda alert: (-GRAVITY[alert.severity], alert.since)))


@dataclass(frozen=True, slots=True)
class Look:
    """What is measured at one moment (`at`, Unix seconds), over the last `window` seconds.

    `unserved` are the arms that nobody is sent to on purpose: their silence is no trouble, and an alert
    on them, or on how they compare, ends as if their windows were good.
    """

    at: float
    window: float
    readings: tuple[Reading, ...]
    conditions: tuple[Condition, ...] = ()
    unserved: frozenset[str] = frozenset()
