"""Signs of life of treatment and control: whether their upstreams can be reached, and whether they
answered.

It reads folded ticks, and what workers and health checks report of endpoints. What follows
from absence is decided in `core.system_failure`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from gateway.core.evidence.state import EvidenceState
from gateway.core.folding import Progress, Tick
from gateway.core.system_failure import Sign
from gateway.model.snapshot import Arm

_TREATMENT = Arm.TREATMENT.label


class Endpoints(Protocol):
    """How the upstreams' endpoints stand, as workers and health checks say."""

    def treatment_healthy(self) -> bool:
        """True if every upstream that serves treatment is available."""

    def treatment_answers(self) -> bool:
        """True if an endpoint of treatment passed the newest health check of its own."""

    def control_healthy(self) -> bool:
        """True if every upstream that serves control has a usable endpoint."""


def sign_of(ticks: Iterable[Tick], endpoints: Endpoints) -> Sign:
    """What the ticks since the last look, and the endpoints, say of treatment."""
    reached: dict[str, int] = {}
    for tick in ticks:
        for series, counts in tick.counts.items():
            if series.arm == _TREATMENT and counts.answered:
                reached.setdefault(series.route, 0)
                reached[series.route] += counts.answered - counts.failed_over
    if not endpoints.treatment_healthy() or not all(reached.values()):
        return Sign.DEAD
    return Sign.ALIVE if reached or endpoints.treatment_answers() else Sign.SILENT


def in_stay(progress: Progress, state: EvidenceState) -> Progress:
    """What of it is of the stay that the evidence is of: of requests that were decided since it began."""
    return Progress(
        tuple(_in_stay(tick, state) for tick in progress.closed),
        tuple(_in_stay(tick, state) for tick in progress.settled),
        tuple(_in_stay(tick, state) for tick in progress.grown),
    )


def _in_stay(tick: Tick, state: EvidenceState) -> Tick:
    if tick.at < state.first_tick:
        return Tick(tick.at, {})
    ours = {series: counts for series, counts in tick.counts.items() if series.snapshot >= state.version}
    return tick if len(ours) == len(tick.counts) else Tick(tick.at, ours)


def judged(tick: Tick) -> Tick:
    """The tick without what never reached treatment: who was not asked is not convicted.

    Control answered those requests, and they are failures of treatment everywhere else. Here they would
    make a rollback of every restart; a treatment that stays away is `core.system_failure`'s.
    """
    if not any(counts.failed_over for counts in tick.counts.values()):
        return tick
    return Tick(
        tick.at,
        {
            series: replace(
                counts,
                started=counts.started - counts.failed_over,
                answered=counts.answered - counts.failed_over,
                errors=counts.errors - counts.failed_over,
                # Which of them are over is not known: the open ones are taken to be these.
                ended=min(counts.started - counts.failed_over, counts.ended),
                failed_over=0,
            )
            for series, counts in tick.counts.items()
        },
    )
