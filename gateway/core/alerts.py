"""Alerts for people: which alerts stand, how severe each one is, when it begins and when it ends.

`assess` is a pure function of the alerts that stood before and of the newest measurements. Alerts never
act on traffic: an automatic rollback follows from evidence, which has its own rules. There is one alert
for each type and arm. People are told once when it is raised, again each time it gets worse, and once when
it is over.

Every reading covers the last window and needs at least `MINIMUM_SAMPLES` samples. The rules:

* An alert is raised, or gets worse, at once.
* It gets milder, or ends, after three windows in a row in which the value was a tenth better than the
  level. The count starts at the end of the first of them, so two window lengths pass after that.
* Each level is counted separately, so an alert that eases step by step does not end later than one that
  ends in one step. While it waits, the message says what the alert was raised for and that it is calm.
* A trend is three consecutive windows, each worse than the one before. The last must differ from the first
  by more than chance and be at least halfway to the warning level.

It does not know how a value is measured, who is told, or what time it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.core.alert_wording import amount, describe
from gateway.model.alerts import (
    GRAVITY,
    Alert,
    AlertState,
    Change,
    ChangeKind,
    Condition,
    Key,
    Levels,
    Look,
    Mark,
    Reading,
    Severity,
    Standing,
    Trail,
)
from gateway.model.metrics import Metric
from gateway.model.units import format_duration, format_number

MINIMUM_SAMPLES = 30
"""With fewer samples in the window, nothing is concluded, neither good nor bad."""
RECOVERY = 0.9
"""A value counts as better only below this share of the level, so that alerts flap less."""
WINDOWS = 3
"""How many windows in a row make a trend, or end an alert."""
MISSING_REQUESTS = 20
"""Treatment must have been due at least so many requests before their absence is an alert."""
MISSING_TRAFFIC = "missing_treatment_traffic"
"""Type of the alert for a treatment that gets no requests although it should."""
TREND_ERRORS = 2.0
"""A trend's last window must be worse than its first by so many standard errors; less may be chance."""


def assess(
    state: AlertState, look: Look, levels: Mapping[Metric, Levels]
) -> tuple[AlertState, tuple[Change, ...]]:
    """The alerts after a look, and how they changed. `levels` are those of the config."""
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
    """An alert if treatment had none of the window's `requests`, although `share` (0 to 1) were due to it.

    `hint` says what is known about the reason.
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
    """The severity of a value; None below the warning level.

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
            message=describe(
                reading, levels, look.window, worse_for=WINDOWS if alert.severity is Severity.LOW else 0
            ),
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
