"""The evidence of one stay of a treatment: all that has to be kept from tick to tick.

Frozen values, made of tuples and numbers alone, so that `model.codec` writes and reads them: whoever
stores a state and goes on from it later comes to the same numbers as one who never stopped.

All times are monotonic milliseconds. It does not know how evidence grows (see `gathering`) nor what
follows from it (see `assessment`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.core.evidence.capital import FRESH, Capital

HOLD_FROM = 10.0
"""Evidence on one guardrail from which on nothing advances."""
SECOND, MINUTE = 1000, 60_000
"""Milliseconds."""
RECENT_MINUTES = 10
"""For so many minutes it is kept how many control requests were judged in each."""
QUANTILES = (0.5, 0.75, 0.9)
"""Of control's latency: where slow begins, for each of the three comparisons of latency."""
MOST_EXPOSURES = 64
"""Snapshots whose shares are remembered: those that requests may still be counted under."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Which share of the compared users treatment had on each route under one snapshot."""

    snapshot: int
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Stratum:
    """Requests of both arms that were drawn alike: treatment's share among them was `share`.

    `bad` need not be whole where the outcome is a score. Where it is latency, slow is beyond `threshold` for
    all of them: it was chosen by what came before the first.
    """

    share: float
    treatment: int = 0
    treatment_bad: float = 0
    control: int = 0
    control_bad: float = 0
    threshold: int = 0


@dataclass(frozen=True, slots=True)
class Beside:
    """What both arms did beside each other since the comparison began: outcomes, and the bad ones of them."""

    treatment: int = 0
    treatment_bad: float = 0
    control: int = 0
    control_bad: float = 0


@dataclass(frozen=True, slots=True)
class Peak:
    """A lower bound for distinct users: `most`, from the marks on one route within ten minutes.

    A user's ten minutes begin at a moment of the user's own, so within ten minutes by the clock a user is
    marked twice at most on each route: half of a route's marks were different users'. Those of another route,
    or of other ten minutes, may be the same. `stretch` numbers the current ten minutes, `marked` is what each
    route has in them so far.
    """

    stretch: int = -1
    marked: tuple[tuple[str, int], ...] = ()
    most: int = 0


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One yes-or-no outcome that may speak against treatment, and what was gathered on it.

    `treatment` and `control` are the evidence that the arm is over the limit, `relative` that treatment
    is worse than control; `strata` are open comparisons, `beside` is what went into them until now. `count`
    of treatment's outcomes were judged, `bad` of them bad, of `users`.
    """

    treatment: Capital = FRESH
    control: Capital = FRESH
    relative: Capital = FRESH
    strata: tuple[Stratum, ...] = ()
    count: int = 0
    bad: float = 0
    compared: int = 0
    """How many of treatment's outcomes were compared with control's."""
    users: Peak = Peak()
    beside: Beside = Beside()


@dataclass(frozen=True, slots=True)
class Reference:
    """How fast control is: where slow begins, and what the next such decision is made by.

    `thresholds` are buckets of latency (`model.ticks.bucket_of`), one per quantile; a control request in
    a later bucket is slow. Empty until enough of control was seen; `provisional` while that was no more than
    enough. They hold since `since`. Latencies from then on are (bucket, count): `earlier` ones, and those of
    the `block` that is looked at as a whole once it is large enough (`timing.BLOCK`).
    """

    thresholds: tuple[int, ...] = ()
    provisional: bool = False
    since: int = 0
    earlier: tuple[tuple[int, int], ...] = ()
    block: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """Treatment's share is capped, to have somebody to compare with. `control` requests were judged since.

    Once the cap is lifted (`capped` is False) a trial that convicted nobody stands for as long as treatment
    is over a limit: what it showed of control still holds.
    """

    since: int
    control: int = 0
    capped: bool = True


@dataclass(frozen=True, slots=True)
class EvidenceState:
    """Everything gathered since `began`. Requests count that were decided by snapshot `version` or a later
    one, in a tick that begins at `first_tick` or later.

    Ticks before `closed_to`, `settled_to` and `timed_to` are in already: heads, truncations, latencies.
    Those before `watched_to` are in the `reference`: it is never later than `timed_to`, so that nobody is
    judged by thresholds that he had a part in.
    """

    version: int
    first_tick: int
    began: int
    closed_to: int = 0
    settled_to: int = 0
    timed_to: int = 0
    watched_to: int = 0
    exposures: tuple[Exposure, ...] = ()
    errors: Guardrail = Guardrail()
    truncations: Guardrail = Guardrail()
    slowness: tuple[Guardrail, ...] = (Guardrail(),) * len(QUANTILES)
    client_errors: Guardrail = Guardrail()
    dissatisfaction: Guardrail = Guardrail()
    reference: Reference = Reference()
    control_minutes: tuple[tuple[int, int], ...] = ()
    """(minute since `began`, control requests judged), of the last ten minutes."""
    treatment_users: Peak = Peak()
    trial: Trial | None = None

    def minute(self, at: int) -> int:
        """The minute of the process that holds a time."""
        return max(0, at - self.began) // MINUTE

    def second(self, at: int) -> float:
        """Seconds of the process until a time."""
        return max(0, at - self.began) / SECOND

    def recent_control(self, now: int) -> int:
        """Control requests that were judged in the last ten minutes."""
        since = self.minute(now) - RECENT_MINUTES
        return sum(count for minute, count in self.control_minutes if minute > since)

    @property
    def reached(self) -> int:
        """No moment that it knows of is later."""
        return max(self.began, self.closed_to, self.settled_to, self.timed_to, self.reference.since)

    @property
    def limited(self) -> tuple[Guardrail, Guardrail, Guardrail]:
        """The guardrails that may have a limit."""
        return self.errors, self.truncations, self.dissatisfaction

    @property
    def over(self) -> float:
        """The strongest evidence that treatment is over one of its limits."""
        return max(guardrail.treatment.value if guardrail.count else 0.0 for guardrail in self.limited)

    @property
    def capped(self) -> bool:
        """Whether treatment's share is capped by a trial."""
        return self.trial is not None and self.trial.capped

    @property
    def share(self) -> float:
        """The largest share that treatment has on any route now; 0 before anything was exposed."""
        return max((share for _, share in self.exposures[-1].shares), default=0.0) if self.exposures else 0.0


def begin(version: int, first_tick: int, at: int, previous: EvidenceState | None = None) -> EvidenceState:
    """Nothing is known of treatment yet: at phase entry, release, and a change of treatment's upstream.

    `previous` is the evidence that ends here: what it knew of control's speed and of the snapshots still
    holds.
    """
    if previous is None:
        return EvidenceState(version, first_tick, at, reference=Reference(since=at))
    return EvidenceState(
        version,
        first_tick,
        at,
        closed_to=previous.closed_to,
        settled_to=previous.settled_to,
        timed_to=previous.timed_to,
        watched_to=previous.watched_to,
        exposures=previous.exposures,
        reference=previous.reference,
    )


def expose(state: EvidenceState, snapshot: int, shares: Mapping[str, float]) -> EvidenceState:
    """Requests may be decided by a new snapshot from now on, with these shares by route."""
    exposure = Exposure(snapshot, tuple(sorted(shares.items())))
    others = [known for known in state.exposures if known.snapshot != snapshot]
    return replace(state, exposures=(*others, exposure)[-MOST_EXPOSURES:])


def begin_trial(state: EvidenceState, at: int) -> EvidenceState:
    """Treatment's share is capped from now on; what stands on a limit is compared afresh."""
    afresh = FRESH.at(state.second(at))
    return replace(
        state,
        errors=replace(state.errors, relative=afresh, strata=(), beside=Beside()),
        truncations=replace(state.truncations, relative=afresh, strata=(), beside=Beside()),
        dissatisfaction=replace(state.dissatisfaction, relative=afresh, strata=(), beside=Beside()),
        trial=Trial(at),
    )


def end_trial(state: EvidenceState) -> EvidenceState:
    """The cap is lifted, and the evidence stands; so does the trial until treatment keeps its limits."""
    if state.trial is None:
        return state
    return replace(state, trial=replace(state.trial, capped=False) if state.over >= HOLD_FROM else None)


def rebase(state: EvidenceState, shift: int) -> EvidenceState:
    """The same evidence on another monotonic clock that shows `shift` milliseconds more at one moment.

    For a state that outlived its machine's boot; ticks of the old clock are never seen again.
    """
    trial = state.trial
    return replace(
        state,
        first_tick=state.first_tick + shift,
        began=state.began + shift,
        closed_to=state.closed_to + shift,
        settled_to=state.settled_to + shift,
        timed_to=state.timed_to + shift,
        watched_to=state.watched_to + shift,
        reference=replace(state.reference, since=state.reference.since + shift),
        trial=None if trial is None else replace(trial, since=trial.since + shift),
    )
