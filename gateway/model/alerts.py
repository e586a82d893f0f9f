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
    """How bad an alert or another notification is."""

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
"""The order of the severities; 0 means no alert."""
_GRADES: tuple[Severity | None, ...] = (None, *GRAVITY)

Key: TypeAlias = tuple[str, str]
"""Type and arm. There is at most one alert for each pair."""


@dataclass(frozen=True, slots=True)
class Levels:
    """A metric's two levels, as in the config (seconds for response_time); None if there is no such level."""

    warning: float | None
    critical: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric of one arm over the last window. `noise` is its standard error, 0 if unknown."""

    metric: Metric
    arm: str
    value: float
    samples: int
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Grounds:
    """The numbers that a condition rests on, `window` in seconds; None where there are none."""

    value: float | None = None
    threshold: float | None = None
    samples: int | None = None
    window: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now: an alert without levels. It is over when it is not reported any more."""

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
    """What people are told. `arm` is "" if it is about neither arm; `window` and `since` are seconds.

    `threshold` is the level that was crossed. `worst` is the highest severity so far: everybody who was
    told at that severity is also told when the alert is over. `value` is the current value; `cause`
    describes the situation in which the alert got its severity. `calm_since` and `calm_until` (Unix
    seconds) are set while the value is better than the severity: if it stays so, the alert gets milder, or
    ends, at `calm_until`.
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
        """What identifies the alert."""
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
    """How an alert changed. A resolved alert has its last values.

    `before` is its severity before the change, None if it is new.
    """

    kind: ChangeKind
    alert: Alert
    reason: str
    before: Severity | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """An active alert, and since when (Unix seconds) it has been better than each severity, lowest first.

    None if it is not better. A value better than one severity is better than all higher ones.
    """

    alert: Alert
    better_since: tuple[float | None, ...] = (None,) * len(GRAVITY)

    @property
    def calm_since(self) -> float | None:
        """Since when it has been better than its own severity; None if it is not."""
        return self.better_since[GRAVITY[self.alert.severity] - 1]

    def severity_at(self, at: float, patience: float) -> Severity | None:
        """Its severity at a later time, if nothing changes: each one is dropped after `patience` seconds."""
        standing = self.better_since[: GRAVITY[self.alert.severity]]
        left = sum(since is None or at < since + patience for since in standing)
        return _GRADES[left]


@dataclass(frozen=True, slots=True)
class Mark:
    """A window that ended at `at`: how bad its value was, and the standard error of that."""

    at: float
    badness: float
    noise: float


@dataclass(frozen=True, slots=True)
class Trail:
    """The newest consecutive windows of a metric and arm, newest last."""

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
        """The active alerts: highest severity first, then oldest first."""
        alerts = [standing.alert for standing in self.standing]
        return tuple(sorted(alerts, key=lambda alert: (-GRAVITY[alert.severity], alert.since)))


@dataclass(frozen=True, slots=True)
class Look:
    """What is measured at one moment (`at`, Unix seconds), over the last `window` seconds.

    `unserved` are the arms that get no users on purpose. Their silence is no problem, and an alert
    about them, or about their comparison, ends as if their windows were good.
    """

    at: float
    window: float
    readings: tuple[Reading, ...]
    conditions: tuple[Condition, ...] = ()
    unserved: frozenset[str] = frozenset()
