"""What alerts are based on: metrics of both arms over the window, and conditions that are wrong apart
from them.

It collects numbers and judges none of them. Levels, trends and recipients are decided elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from gateway.control.alerting.served import Served
from gateway.control.rollout.desk import RolloutDesk
from gateway.control.windows import Windows
from gateway.core.alerts import missing_traffic
from gateway.core.judging import slowdown
from gateway.core.percentage import effective_percentage
from gateway.core.sums import Profile
from gateway.model.alerts import Condition, Grounds, Look, Reading, Severity
from gateway.model.gates import Contrast
from gateway.model.metrics import Metric
from gateway.model.rollout import Hold, HoldKind
from gateway.model.scores import Score
from gateway.model.snapshot import Arm, Snapshot

_CONTROL, _TREATMENT = Arm.CONTROL.label, Arm.TREATMENT.label
_P90 = 0.9
_SCORES = (Metric.USER_SATISFACTION, Metric.ACCURACY, Metric.COST_PER_REQUEST)
HELD: Mapping[HoldKind, Severity] = {
    HoldKind.SHARED_OUTAGE: Severity.CRITICAL,
    HoldKind.SAMPLE_RATIO: Severity.HIGH,
    HoldKind.PENDING_ROLLBACK: Severity.CRITICAL,
}
"""The holds that are alerts for as long as they last. The rollout tells people of them as they begin."""


class Lookout:
    """Looks at traffic, rollout and the gateway itself."""

    def __init__(
        self,
        windows: Windows,
        desk: RolloutDesk,
        snapshot: Callable[[], Snapshot],
        faults: Callable[[], Mapping[str, str]],
        served: Served,
        now: Callable[[], float] = time.time,
        grounds: Callable[[HoldKind], Grounds] = lambda _: Grounds(),
    ) -> None:
        """`snapshot` is the newest; `faults` are the gateway's own, by type, in words; `grounds` are the
        numbers that a hold rests on."""
        self._windows = windows
        self._desk = desk
        self._snapshot = snapshot
        self._faults = faults
        self._served = served
        self._now = now
        self._grounds = grounds
        self._share: tuple[Fraction, float] | None = None
        self._faulty: frozenset[str] = frozenset()

    def look(self) -> Look:
        """What is measured now."""
        at, window = self._now(), self._windows.look_back
        recent = self._windows.recent()
        percentage = effective_percentage(self._desk.state, self._desk.rules)
        conditions = [
            *_of_faults(self._lasting_faults()),
            *(self._of_hold(hold) for hold in self._desk.state.holds if hold.kind in HELD),
        ]
        served = self._served.lately(at, window)
        if self._stood(percentage, at) >= window:
            conditions += filter(None, [_missing(recent, served, self._snapshot(), window)])
        return Look(
            at,
            window,
            tuple(readings(recent, self._windows.recent_contrast())),
            tuple(conditions),
            _unserved(percentage, self._snapshot()),
        )

    def _of_hold(self, hold: Hold) -> Condition:
        found = self._grounds(hold.kind)
        return Condition(
            hold.kind.value,
            HELD[hold.kind],
            hold.reason,
            value=found.value,
            threshold=found.threshold,
            samples=found.samples,
            window=found.window,
        )

    def _lasting_faults(self) -> Mapping[str, str]:
        """The faults that were there at the last look too: a worker that is replaced is no alarm."""
        faults = self._faults()
        lasting = {kind: text for kind, text in faults.items() if kind in self._faulty}
        self._faulty = frozenset(faults)
        return lasting

    def _stood(self, percentage: Fraction, at: float) -> float:
        """Seconds for which the share was what it is: before that, the window is of another one too."""
        if self._share is None or self._share[0] != percentage:
            self._share = percentage, at
        return at - self._share[1]


def readings(recent: Mapping[tuple[str, str], Profile], contrast: Contrast) -> Iterable[Reading]:
    """Every metric of both arms, of traffic by route and arm, and of their latencies beside each other."""
    for arm in (_CONTROL, _TREATMENT):
        profile = Profile()
        for (_, other), part in recent.items():
            if other == arm:
                profile.add(part)
        yield from _of_arm(arm, profile)
    yield from _degradation(contrast)


def _of_arm(arm: str, profile: Profile) -> Iterable[Reading]:
    rate = profile.error_rate
    if rate is not None:
        noise = math.sqrt(rate * (1.0 - rate) / profile.answered)
        yield Reading(Metric.ERROR_RATE, arm, rate, profile.answered, noise)
    p90 = profile.quantile(_P90)
    if p90 is not None:
        yield Reading(Metric.RESPONSE_TIME, arm, p90, profile.timed, _quantile_noise(profile))
    for metric in _SCORES:
        score = profile.scores.get(metric.value)
        if score is not None and score.mean is not None:
            yield Reading(metric, arm, score.mean, score.count, _mean_noise(score))


def _quantile_noise(profile: Profile) -> float:
    """Half the way between the quantiles one standard error of the rank below and above."""
    error = math.sqrt(_P90 * (1.0 - _P90) / profile.timed)
    high, low = profile.quantile(min(1.0, _P90 + error)), profile.quantile(_P90 - error)
    return 0.0 if high is None or low is None else (high - low) / 2


def _mean_noise(score: Score) -> float:
    mean = score.total / score.count
    return math.sqrt(max(0.0, score.squares / score.count - mean * mean) / score.count)


def _degradation(arms: Contrast) -> Iterable[Reading]:
    """How much slower treatment is than control beside it; nothing where there is no control."""
    found = slowdown(arms)
    if found is not None:
        difference, error = found
        value, noise = math.expm1(difference), error * math.exp(difference)
        samples = min(
            sum(stratum.treatment_count for stratum in arms.strata),
            sum(stratum.control_count for stratum in arms.strata),
        )
        yield Reading(Metric.PERFORMANCE_DEGRADATION, _TREATMENT, value, samples, noise)


def _missing(
    recent: Mapping[tuple[str, str], Profile],
    served: Mapping[tuple[str, str], int],
    snapshot: Snapshot,
    window: float,
) -> Condition | None:
    """Of requests that count for an arm; where there are none at all, of all that were `served`."""
    counted = {key: profile.answered for key, profile in recent.items() if profile.answered}
    hint = "" if counted else "none of them said who its user is (identity.sources)"
    requests = counted or served
    shares = {route.name: treatment_share(snapshot, route.name) for route in snapshot.routes}
    total = sum(requests.values())
    expected = sum(count * shares.get(route, 0.0) for (route, _), count in requests.items())
    treatment = sum(count for (_, arm), count in requests.items() if arm == _TREATMENT)
    return missing_traffic(expected / total if total else 0.0, total, treatment, window, hint)


def treatment_share(snapshot: Snapshot, route: str) -> float:
    """The share of a route's users, from 0 to 1, that treatment serves."""
    enrolled = snapshot.enrolment.share / 2**64
    for candidate in snapshot.routes:
        if candidate.name == route:
            experiment = candidate.experiment
            if experiment is None:
                return enrolled
            slices = sum(group.end - group.start for group in experiment.groups if group.arm is Arm.TREATMENT)
            return enrolled * slices / experiment.total
    return 0.0


def _unserved(percentage: Fraction, snapshot: Snapshot) -> frozenset[str]:
    """The arms that nobody is sent to: treatment at 0 %, control where every route gives treatment all."""
    if not percentage:
        return frozenset((_TREATMENT,))
    everybody = all(treatment_share(snapshot, route.name) == 1.0 for route in snapshot.routes)
    return frozenset((_CONTROL,)) if everybody else frozenset()


def _of_faults(faults: Mapping[str, str]) -> Iterable[Condition]:
    return (Condition(kind, Severity.CRITICAL, text) for kind, text in faults.items())
