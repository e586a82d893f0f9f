"""Alerts for people: which stand, how grave each is, when it is raised and when it is over.

`assess` is a function of what stood before and of what is measured now. It never acts on traffic: what
rolls back is evidence, and it goes by its own rules. There is one alert for each type and arm, so that a
trouble that lasts is told once, once more whenever it becomes graver, and once when it is over.

A reading is looked at as often as the caller likes, always over the last window; it takes at least
`MINIMUM_SAMPLES`. An alert is raised, or becomes graver, at once. It becomes milder, or is resolved,
after three windows in a row in which the value was a tenth better than its level: continuously since the
end of the first, which is two windows ago. Each level counts for itself, so that an alert which eases on
the way is over no later than one that does not. Meanwhile it says both what it was raised for and that
it is calm. A trend is three windows that lie end to end, each worse than the one before, together by
more than chance, with the last one at least halfway to the warning.

It does not know how a value is measured, who is told, or what time it is.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from gateway.model.metrics import Metric
from gateway.model.rollout import Severity
from gateway.model.units import format_duration, format_number

MINIMUM_SAMPLES = 30
"""Fewer than so many samples in the window say nothing, neither that it is bad nor that it is good."""
RECOVERY = 0.9
"""The share of a level that a value must stay under until it counts as past: it flaps less so."""
WINDOWS = 3
"""Windows in a row that make a trend, and that end an alert."""
MISSING_REQUESTS = 20
"""Requests that treatment should have had, at least, before their absence is worth a word."""
MISSING_TRAFFIC = "missing_treatment_traffic"
"""The type of the alert that treatment gets no requests although it should."""
TREND_ERRORS = 2.0
"""Standard errors by which a trend's last window is worse than its first: less happens by chance."""

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


def assess(
    state: AlertState, look: Look, levels: Mapping[Metric, Levels]
) -> tuple[AlertState, tuple[Change, ...]]:
    """The alerts after a look, and what is new about them. `levels` are those that the config has."""
    told = {
        (reading.metric.value, reading.arm): reading
        for reading in look.readings
        if reading.samples >= MINIMUM_SAMPLES and reading.metric in levels
    }
    trails = _trails(state.trails, told.values(), look)
    rising = {trail.key for trail in trails if _rises(trail, levels[trail.metric])}
    before = {standing.alert.key: standing for standing in state.standing}
    found = {
        key: _of_reading(reading, levels[reading.metric], look, key in rising)
        for key, reading in told.items()
    }
    found |= {(condition.type, condition.arm): _of_condition(condition) for condition in look.conditions}
    after: list[Standing] = []
    changes: list[Change] = []
    for key in sorted(before.keys() | found.keys()):
        held = before.get(key)
        finding = found.get(key) or _silence(key, look, levels)
        standing, change = _step(held, finding, key, look)
        after += [] if standing is None else [standing]
        changes += [] if change is None else [change]
    return AlertState(tuple(after), trails), tuple(changes)


def missing_traffic(
    share: float, requests: int, treatment: int, window: float, hint: str = ""
) -> Condition | None:
    """Treatment had none of the window's `requests`, although `share` (0 to 1) of them should be its own.

    `hint` is what is known of why.
    """
    expected = share * requests
    if treatment or expected < MISSING_REQUESTS:
        return None
    message = (
        f"treatment had no request in {format_duration(window)}, although {format_number(share * 100)} % "
        f"of {requests} should have been its own{hint and f'; {hint}'}"
    )
    return Condition(
        MISSING_TRAFFIC, Severity.LOW, message, "treatment", 0.0, float(MISSING_REQUESTS), requests, window
    )


def severity_of(badness: float, warning: float | None, critical: float | None) -> Severity | None:
    """How grave a value is; None below the warning.

    Medium up to the middle of the two levels, high up to critical; medium throughout where there is no
    critical level, and nothing below critical where there is no warning. What is perfect is no trouble,
    even where that is the level.
    """
    if badness <= 0.0:
        return None
    if critical is not None and badness >= critical:
        return Severity.CRITICAL
    if warning is None or badness < warning:
        return None
    if critical is not None and badness >= (warning + critical) / 2:
        return Severity.HIGH
    return Severity.MEDIUM


# --- one reading ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a look says of one type and arm.

    `severity` is how grave it is, `floor` how grave it would be if it were a tenth worse: what it may
    ease to. None for no trouble. `telling` puts it into words once its severity is known, `now` says in
    a few what a calm alert comes to, `aside` what is to be known of one that stands.
    """

    severity: Severity | None
    floor: Severity | None
    telling: Callable[[Alert], Alert]
    at_once: bool = False
    now: str = ""
    aside: str = ""


def _badness(metric: Metric, value: float) -> float:
    """The value so that more is worse: what is missing from 1 for a metric that should be large."""
    return 1.0 - value if metric.rises_when_better else value


def _bounds(metric: Metric, levels: Levels) -> tuple[float | None, float | None]:
    warning, critical = (
        None if level is None else _badness(metric, level) for level in (levels.warning, levels.critical)
    )
    return warning, critical


def _of_reading(reading: Reading, levels: Levels, look: Look, rising: bool) -> _Finding:
    bounds = _bounds(reading.metric, levels)
    badness = _badness(reading.metric, reading.value)
    trend = Severity.LOW if rising else None
    worse = badness / RECOVERY if badness > 0.0 else badness

    def tell(alert: Alert) -> Alert:
        crossed = levels.critical if alert.severity is Severity.CRITICAL else levels.warning
        return replace(
            alert,
            message=_words(reading, levels, look.window, trend=alert.severity is Severity.LOW),
            value=reading.value,
            threshold=crossed,
            window=look.window,
            samples=reading.samples,
        )

    severity, floor = severity_of(badness, *bounds) or trend, severity_of(worse, *bounds) or trend
    return _Finding(severity, floor, tell, now=f"{amount(reading.metric, reading.value)} now")


def _of_condition(condition: Condition) -> _Finding:
    def tell(alert: Alert) -> Alert:
        return replace(
            alert,
            message=condition.message,
            value=condition.value,
            threshold=condition.threshold,
            window=condition.window,
            samples=condition.samples,
        )

    return _Finding(condition.severity, condition.severity, tell, at_once=True)


def _silence(key: Key, look: Look, levels: Mapping[Metric, Levels]) -> _Finding:
    """Nothing was found of an alert that stands."""
    name, arm = key
    watched = {metric.value for metric in levels}
    if name not in watched:  # a condition that is over, or a metric that is not watched any more
        return _Finding(None, None, _unchanged, at_once=True)
    if arm in look.unserved or (name == Metric.PERFORMANCE_DEGRADATION and look.unserved):
        return _Finding(None, None, _unchanged, now="nothing to measure")
    too_little = f"fewer than {MINIMUM_SAMPLES} samples now, too few to judge by"
    return _Finding(None, Severity.CRITICAL, _unchanged, aside=too_little)  # it stays as it is


def _unchanged(alert: Alert) -> Alert:
    return alert


# --- one alert ------------------------------------------------------------------------------------


def _step(
    held: Standing | None, finding: _Finding, key: Key, look: Look
) -> tuple[Standing | None, Change | None]:
    if held is None:
        return _raised(finding, key, look)
    alert, severity = held.alert, finding.severity
    if severity is not None and GRAVITY[severity] > GRAVITY[alert.severity]:
        worst = max(alert.worst, severity, key=GRAVITY.__getitem__)
        worse = _graded(finding, replace(alert, severity=severity, worst=worst))
        return Standing(worse), Change(ChangeKind.WORSENED, worse, worse.message, alert.severity)
    better = replace(held, better_since=_better_since(held, finding, look.at))
    if better.calm_since is None:
        return replace(better, alert=_lasting(finding, alert)), None
    left = better.severity_at(look.at, 0.0 if finding.at_once else _patience(look))
    if left is alert.severity:
        return replace(better, alert=_calmed(better, finding, look)), None
    if left is None:
        last = _standing(finding, alert)
        return None, Change(ChangeKind.RESOLVED, last, _past(finding, last, "over", look), alert.severity)
    milder = _eased(replace(better, alert=replace(alert, severity=left)), finding, look)
    reason = _past(finding, milder, f"{left} only", look)
    return replace(better, alert=milder), Change(ChangeKind.EASED, milder, reason, alert.severity)


def _raised(finding: _Finding, key: Key, look: Look) -> tuple[Standing | None, Change | None]:
    name, arm = key
    if finding.severity is None:
        return None, None
    alert = _graded(finding, Alert(name, arm, finding.severity, finding.severity, "", look.at))
    return Standing(alert), Change(ChangeKind.RAISED, alert, alert.message)


def _graded(finding: _Finding, alert: Alert) -> Alert:
    """An alert that has just got its severity: this is what it has it for."""
    told = finding.telling(alert)
    return replace(told, cause=told.message, calm_since=None, calm_until=None)


def _standing(finding: _Finding, alert: Alert) -> Alert:
    """An alert as grave as it was, not calm; what nothing new is known of has the words of its cause."""
    cause = alert.cause or alert.message  # one of an earlier version has no cause yet
    return finding.telling(replace(alert, message=cause, cause=cause, calm_since=None, calm_until=None))


def _lasting(finding: _Finding, alert: Alert) -> Alert:
    """An alert that stands, and why, where its value alone would not say it."""
    told = _standing(finding, alert)
    milder = finding.severity is None or GRAVITY[finding.severity] < GRAVITY[alert.severity]
    aside = "not yet a tenth better than what it was raised for" if milder and finding.now else finding.aside
    return replace(told, message=f"{told.message}; {aside}") if aside else told


def _calmed(better: Standing, finding: _Finding, look: Look) -> Alert:
    """An alert that is better than its severity for now: why it is there, and when it will not be."""
    since = better.calm_since
    assert since is not None
    until = since + _patience(look)
    left = better.severity_at(until, _patience(look))
    told = _standing(finding, better.alert)
    message = (
        f"calm for {format_duration(round(look.at - since))} ({finding.now}), "
        f"{'over' if left is None else f'{left} only'} in {format_duration(math.ceil(until - look.at))} "
        f"if it stays so; raised for: {told.cause}"
    )
    return replace(told, message=message, calm_since=since, calm_until=until)


def _eased(better: Standing, finding: _Finding, look: Look) -> Alert:
    """An alert that has just become milder: what it is like now, unless it is on its way to be milder yet."""
    if better.calm_since is not None:
        return _calmed(better, finding, look)
    if finding.severity is better.alert.severity:
        return _graded(finding, better.alert)
    return _lasting(finding, better.alert)


def _better_since(held: Standing, finding: _Finding, at: float) -> tuple[float | None, ...]:
    """A look that is as bad as a severity, or worse, begins the waiting for it anew."""
    floor = 0 if finding.floor is None else GRAVITY[finding.floor]
    return tuple(
        None if gravity <= floor else at if since is None else since
        for gravity, since in enumerate(held.better_since, start=1)
    )


def _patience(look: Look) -> float:
    """Seconds from the end of the first window that was good to the end of the last."""
    return (WINDOWS - 1) * look.window


def _past(finding: _Finding, alert: Alert, what: str, look: Look) -> str:
    past = f"{alert.subject} is {what}"
    return (
        past if finding.at_once else f"{past}: better for {WINDOWS} windows of {format_duration(look.window)}"
    )


# --- trends ---------------------------------------------------------------------------------------


def _trails(before: Iterable[Trail], told: Collection[Reading], look: Look) -> tuple[Trail, ...]:
    """Each trail with the window that ends now, where one that lies behind its last one does."""
    known = {trail.key: trail for trail in before}
    return tuple(_longer(known, reading, look) for reading in told)


def _longer(known: Mapping[Key, Trail], reading: Reading, look: Look) -> Trail:
    trail = known.get((reading.metric.value, reading.arm), Trail(reading.metric, reading.arm))
    marks = trail.marks
    if marks and look.at < marks[-1].at + look.window:
        return trail
    if marks and look.at > marks[-1].at + 2 * look.window:
        marks = ()  # a whole window is missing between the two
    mark = Mark(look.at, _badness(reading.metric, reading.value), reading.noise)
    return replace(trail, marks=(*marks, mark)[-WINDOWS:])


def _rises(trail: Trail, levels: Levels) -> bool:
    marks = trail.marks
    warning, critical = _bounds(trail.metric, levels)
    level = critical if warning is None else warning
    if level is None or len(marks) < WINDOWS or marks[-1].badness < level / 2:
        return False
    if any(later.badness <= earlier.badness for earlier, later in itertools.pairwise(marks)):
        return False
    first, last = marks[0], marks[-1]
    return last.badness - first.badness > TREND_ERRORS * math.hypot(first.noise, last.noise)


# --- words ----------------------------------------------------------------------------------------

_NAMES = {
    Metric.ERROR_RATE: "error rate",
    Metric.PERFORMANCE_DEGRADATION: "slowdown against control",
    Metric.RESPONSE_TIME: "response time (p90)",
    Metric.USER_SATISFACTION: "user satisfaction",
    Metric.ACCURACY: "accuracy",
    Metric.COST_PER_REQUEST: "cost per request",
}


def amount(metric: Metric, value: float) -> str:
    """A value of a metric with its unit."""
    match metric:
        case Metric.ERROR_RATE | Metric.PERFORMANCE_DEGRADATION:
            return f"{value * 100:.3g} %"
        case Metric.RESPONSE_TIME:
            return f"{value * 1000:.0f} ms" if value < 1.0 else f"{value:.2f} s"
        case Metric.USER_SATISFACTION | Metric.ACCURACY | Metric.COST_PER_REQUEST:
            return format_number(float(f"{value:.6g}"))


def _words(reading: Reading, levels: Levels, window: float, *, trend: bool) -> str:
    metric = reading.metric
    limits = ", ".join(_limits(metric, levels))
    rises = f"has become worse for {WINDOWS} windows and " if trend else ""
    return (
        f"{_NAMES[metric]} of {reading.arm} {rises}is {amount(metric, reading.value)} over "
        f"{format_duration(window)} ({reading.samples} samples); {limits}"
    )


def _limits(metric: Metric, levels: Levels) -> Iterator[str]:
    if levels.warning is not None:
        yield f"warning from {amount(metric, levels.warning)}"
    if levels.critical is not None:
        yield f"critical from {amount(metric, levels.critical)}"
