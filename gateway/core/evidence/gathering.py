"""Ticks become evidence: the deterministic fold.

It reads no clock: a state and the same looks give the same state, on whatever machine. What follows
from the evidence is `assessment`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.evidence.state import EvidenceState
from gateway.core.folding import Tick
from gateway.model.safety import Unit


@dataclass(frozen=True, slots=True)
class Limits:
    """What treatment may do at worst; None where the config has no limit, and so nothing to judge."""

    error_rate: float | None
    """Largest share of failed requests."""
    performance_degradation: float | None
    """Largest slowdown against control: 0.15 is 15 % slower."""
    user_satisfaction: float | None
    """Smallest mean rating."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings from 0 to 1 that came apart from their requests: how many, and their sum.

    `share` is treatment's share of the users that they are from (as `Exposure.shares` has it).
    """

    arm: str
    share: float
    count: int
    total: float


@dataclass(frozen=True, slots=True)
class Look:
    """What became known since the last look, all in monotonic milliseconds.

    `closed` and `settled` are the ticks of `core.folding.Progress`: ticks that were folded before may
    come again and are left out. `standing` are the ticks that are not settled as they stand now
    (`Fold.standing`), at least those from `EvidenceState.timed_to` on; what they say of open requests
    is no older than `reported_to`. `interval` is the length of a tick, `anchor` what has to be added for
    wall-clock time.
    """

    closed: tuple[Tick, ...] = ()
    settled: tuple[Tick, ...] = ()
    standing: tuple[Tick, ...] = ()
    reported_to: int = 0
    interval: int = 1000
    anchor: int = 0
    ratings: tuple[Ratings, ...] = ()


def fold(state: EvidenceState, look: Look, limits: Limits, unit: Unit) -> EvidenceState:
    """The evidence with what a look brought. `unit` USER looks at users' first requests alone."""
    raise NotImplementedError
