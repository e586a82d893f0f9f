"""Ticks with counts chosen by hand, folded into evidence one after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway.core.evidence.assessment import Assessment, Parameters, Verdict, assess
from gateway.core.evidence.gathering import Limits, Look, fold
from gateway.core.evidence.state import EvidenceState, begin, begin_trial, end_trial, expose
from gateway.core.folding import Tick
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series, bucket_of

TREATMENT, CONTROL = Arm.TREATMENT, Arm.CONTROL
ERRORS = Limits(error_rate=0.02, performance_degradation=None, user_satisfaction=None)
LATENCY = Limits(error_rate=None, performance_degradation=0.15, user_satisfaction=None)
RATING = Limits(error_rate=None, performance_degradation=None, user_satisfaction=0.95)
EVERYTHING = Limits(0.02, 0.15, 0.95)


def counts(requests: int, errors: int = 0, **others: object) -> Counts:
    """Requests that are all over, so many of them with a bad head."""
    return Counts(started=requests, answered=requests, errors=errors, ended=requests, **others)  # type: ignore[arg-type]


def latencies(by_seconds: Mapping[float, int]) -> dict[int, int]:
    """Successes by their latency in seconds."""
    return {bucket_of(seconds): number for seconds, number in by_seconds.items()}


def successes(by_seconds: Mapping[float, int], open_ones: int = 0) -> Counts:
    """Successes by their latency, and requests that are still open."""
    done = sum(by_seconds.values())
    return Counts(done + open_ones, done, ended=done, latencies=latencies(by_seconds))


@dataclass
class Gathering:
    """Evidence at `share` of treatment, a tick a second. All that is given counts at once."""

    share: float = 0.1
    limits: Limits = ERRORS
    unit: Unit = Unit.REQUEST
    parameters: Parameters = field(default_factory=Parameters)
    route: str = "default"
    version: int = 1
    at: int = 0
    state: EvidenceState = field(init=False)

    def __post_init__(self) -> None:
        self.state = expose(begin(1, 0, 0), 1, {self.route: self.share})

    def series(self, arm: Arm) -> Series:
        """What requests of an arm count as now."""
        return Series(self.version, self.route, arm.label, "", "", self.unit is Unit.USER)

    def tick(self, treatment: Counts | None = None, control: Counts | None = None) -> Tick:
        """A tick of these counts, now."""
        both = {TREATMENT: treatment, CONTROL: control}
        return Tick(self.at, {self.series(arm): one for arm, one in both.items() if one is not None})

    def see(self, treatment: Counts | None = None, control: Counts | None = None) -> Assessment:
        """A tick that is closed and settled, and what the evidence comes to then."""
        tick = self.tick(treatment, control)
        self.at += 1000
        return self.take(closed=(tick,), settled=(tick,))

    def many(self, times: int, treatment: Counts, control: Counts | None = None) -> Assessment:
        """The same tick so many times."""
        for _ in range(times):
            self.see(treatment, control)
        return self.judge()

    def take(
        self,
        *,
        closed: tuple[Tick, ...] = (),
        settled: tuple[Tick, ...] = (),
        standing: tuple[Tick, ...] = (),
    ) -> Assessment:
        """Fold these, known as of now."""
        look = Look(closed, settled, standing, reported_to=self.at)
        self.state = fold(self.state, look, self.limits, self.unit)
        return self.judge()

    def judge(self, *, control_healthy: bool = True) -> Assessment:
        """What it comes to now."""
        return assess(self.state, self.limits, self.parameters, now=self.at, control_healthy=control_healthy)

    def draw_with(self, share: float) -> None:
        """A new snapshot, by which treatment gets so many."""
        self.version += 1
        self.share = share
        self.state = expose(self.state, self.version, {self.route: share})

    def begin_trial(self) -> None:
        """Cap the share, as the gateway does."""
        self.draw_with(0.5)
        self.state = begin_trial(self.state, self.at)

    def end_trial(self) -> None:
        """Lift the cap, as the gateway does."""
        self.draw_with(1.0)
        self.state = end_trial(self.state)

    def know_control(self, by_seconds: Mapping[float, int]) -> None:
        """Let control be looked at for more than five minutes, before the evidence begins."""
        for minutes in range(7):
            tick = Tick(minutes * 60_000, {replace(self.series(CONTROL), snapshot=0): successes(by_seconds)})
            self.state = fold(self.state, Look(settled=(tick,)), self.limits, self.unit)
        self.at = 420_000
        self.state = begin(1, 0, self.at, self.state)


def until_rollback(gathering: Gathering, ticks: Iterable[tuple[Counts, Counts]]) -> int | None:
    """How many of the ticks it takes; None if all are not enough."""
    for number, (treatment, control) in enumerate(ticks, 1):
        if gathering.see(treatment, control).verdict is Verdict.ROLL_BACK:
            return number
    return None
