"""Simulated traffic through the product's own evidence: requests are drawn, everything else is real.

Counts of a tick are drawn from the distributions that they have; folding, judging, the cap of a trial and
its end are the gateway's. Nobody waits: where delay matters, `Simulation.delay` has it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from gateway.core.evidence.assessment import Assessment, Parameters, Verdict, assess
from gateway.core.evidence.gathering import Limits, Look, fold
from gateway.core.evidence.state import EvidenceState, Guardrail, begin, begin_trial, end_trial, expose
from gateway.core.folding import Tick
from gateway.core.reactions import TRIAL_CAP
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series, bucket_of

ROUTE = "default"
LIMITS = Limits(error_rate=0.02, performance_degradation=None, user_satisfaction=None)
"""Errors alone, at the limit of the canary phase."""
ALL_LIMITS = Limits(error_rate=0.02, performance_degradation=0.15, user_satisfaction=0.95)
USUAL = Parameters()
SPREAD = 0.7
"""Standard deviation of log latency, where latency is drawn: p90 is 2.5 times the median."""
_TREATMENT_CAP = float(TRIAL_CAP / Fraction(100))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How an arm behaves: shares of its requests, and the latency of its successes.

    That is log-normal with a `median` in seconds (None: not drawn) and a standard deviation of its logarithm.
    """

    errors: float = 0.0
    client_errors: float = 0.0
    truncations: float = 0.0
    median: float | None = None
    spread: float = SPREAD

    def counts(self, rng: np.random.Generator, requests: int) -> Counts:
        """So many requests, all of them over."""
        errors = _drawn(rng, requests, self.errors)
        good = requests - errors
        client_errors = _drawn(rng, good, self.client_errors)
        truncated = _drawn(rng, good - client_errors, self.truncations)
        return Counts(
            started=requests,
            answered=requests,
            errors=errors,
            client_errors=client_errors,
            truncated=truncated,
            ended=requests,
            latencies=self._latencies(rng, good - client_errors - truncated),
        )

    def _latencies(self, rng: np.random.Generator, successes: int) -> dict[int, int]:
        if self.median is None or not successes:
            return {}
        drawn = self.median * np.exp(self.spread * rng.standard_normal(successes))
        found: dict[int, int] = {}
        for seconds in drawn.tolist():
            bucket = bucket_of(seconds)
            found[bucket] = found.get(bucket, 0) + 1
        return found


def _drawn(rng: np.random.Generator, requests: int, share: float) -> int:
    if share <= 0.0 or not requests:
        return 0
    return int(rng.binomial(requests, share)) if share < 1.0 else requests


@dataclass
class Simulation:
    """One gateway: traffic of `rate` requests per second, `share` of them to treatment.

    `delay` is how many seconds after its end a tick is looked at.
    """

    rng: np.random.Generator
    share: float
    rate: float = 10.0
    limits: Limits = LIMITS
    parameters: Parameters = USUAL
    unit: Unit = Unit.REQUEST
    delay: float = 0.0
    now: float = 0.0
    """Seconds."""
    treatment_requests: int = 0
    treatment_failures: int = 0
    highest: float = 0.0
    """The largest evidence at any look."""
    strongest: float = 0.0
    """The largest evidence on any one guardrail at any look."""
    assessment: Assessment | None = None
    state: EvidenceState = field(init=False)
    _full_share: float = field(init=False)
    _version: int = 1
    _waiting: deque[tuple[float, Tick]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._full_share = self.share
        self.state = expose(begin(1, 0, 0), 1, {ROUTE: self.share})

    def warm_up(self, control: Behaviour, minutes: int = 6) -> None:
        """Let control be looked at before treatment gets anything: the thresholds of latency come of that."""
        before = Series(0, ROUTE, Arm.CONTROL.label, "", "", self.unit is Unit.USER)
        for _ in range(minutes):
            counts = control.counts(self.rng, int(self.rng.poisson(self.rate * 60)))
            look = Look(settled=(Tick(round(self.now * 1000), {before: counts}),))
            self.state = fold(self.state, look, self.limits, self.unit)
            self.now += 60
        self.state = begin(1, 0, round(self.now * 1000), self.state)

    def serve(self, treatment: Behaviour, control: Behaviour, seconds: float = 1.0) -> Verdict:
        """One tick of that length, then a look at what is known by now."""
        requests = int(self.rng.poisson(self.rate * seconds))
        treated = _drawn(self.rng, requests, self.share)
        counts = {}
        if treated:
            counts[self._series(Arm.TREATMENT)] = treatment.counts(self.rng, treated)
        if requests > treated:
            counts[self._series(Arm.CONTROL)] = control.counts(self.rng, requests - treated)
        for series, one in counts.items():
            if series.arm == Arm.TREATMENT.label:
                self.treatment_requests += one.started
                self.treatment_failures += one.errors
        self.take(counts, seconds)
        return self.look(seconds)

    def _series(self, arm: Arm) -> Series:
        return Series(self._version, ROUTE, arm.label, "", "", self.unit is Unit.USER)

    def take(self, counts: dict[Series, Counts], seconds: float) -> None:
        """A tick ends that has these counts."""
        tick = Tick(round(self.now * 1000), counts)
        self.now += seconds
        self._waiting.append((self.now + self.delay, tick))

    def look(self, seconds: float = 1.0) -> Verdict:
        """Judge by what is known, and cap the share or lift the cap where that follows."""
        known = []
        while self._waiting and self._waiting[0][0] <= self.now:
            known.append(self._waiting.popleft()[1])
        at = round(self.now * 1000)
        look = Look(tuple(known), tuple(known), (), at, round(seconds * 1000))
        before = self.state
        self.state = fold(before, look, self.limits, self.unit)
        if self.assessment is not None and not self.state.capped and not _moved(before, self.state):
            return self.assessment.verdict
        found = self.assessment = assess(self.state, self.limits, self.parameters, now=at)
        self.highest = max(self.highest, found.value)
        self.strongest = max(self.strongest, *[part.value or 0.0 for part in found.parts])
        if found.caps_share and not self.state.capped:
            self._draw_with(min(self.share, _TREATMENT_CAP))
            self.state = begin_trial(self.state, at)
        elif not found.caps_share:
            if self.state.capped:
                self._draw_with(self._full_share)
            self.state = end_trial(self.state)
        return found.verdict

    def _draw_with(self, share: float) -> None:
        self.share = share
        self._version += 1
        self.state = expose(self.state, self._version, {ROUTE: share})


def _moved(before: EvidenceState, after: EvidenceState) -> bool:
    """False where no bet on treatment was made, so that no judgement of it is another one."""
    pairs = zip(_guardrails(before), _guardrails(after), strict=True)
    return any(
        one.treatment is not other.treatment or one.relative is not other.relative for one, other in pairs
    )


def _guardrails(state: EvidenceState) -> tuple[Guardrail, ...]:
    return state.errors, state.truncations, *state.slowness, state.client_errors, state.dissatisfaction


def until_rollback(
    simulation: Simulation, treatment: Behaviour, control: Behaviour, *, seconds: float, most: float
) -> tuple[float, float] | None:
    """Serve ticks of so many seconds until a rollback: treatment's requests and the seconds until then.

    None if there is none within `most` seconds.
    """
    requests, begun = simulation.treatment_requests, simulation.now
    while simulation.now - begun < most:
        if simulation.serve(treatment, control, seconds) is Verdict.ROLL_BACK:
            return simulation.treatment_requests - requests, simulation.now - begun
    return None


def same(behaviour: Behaviour, times: float) -> Behaviour:
    """The same, but so many times as slow."""
    assert behaviour.median is not None
    return replace(behaviour, median=behaviour.median * times)
