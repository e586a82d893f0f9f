"""Which requests of a tick are evidence, and with which share they were assigned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.evidence.state import EvidenceState
from gateway.core.evidence.weighing import Moment
from gateway.core.folding import Tick
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm
from gateway.model.ticks import FIRST_SECONDS, Counts

_TREATMENT = Arm.TREATMENT.label
_STRETCH = FIRST_SECONDS * 1000


@dataclass(frozen=True, slots=True)
class Cell:
    """Counts of requests on one route that were drawn for one arm, with one share (None where it is not
    known)."""

    route: str
    treatment: bool
    share: float | None
    counts: Counts


class Selection:
    """Looks at ticks in the way of one state: requests since it began, by the unit that is counted in."""

    def __init__(self, state: EvidenceState, unit: Unit, anchor: int) -> None:
        """`anchor` makes wall-clock time of monotonic milliseconds."""
        self._state = state
        self._firsts_only = unit is Unit.USER
        self._anchor = anchor
        self._shares: Mapping[int, Mapping[str, float]] = {
            exposure.snapshot: dict(exposure.shares) for exposure in state.exposures
        }
        self._by_now = frozenset(self._shares[state.exposures[-1].snapshot].values() if self._shares else ())

    def cells(self, tick: Tick) -> list[Cell]:
        """What a tick has of both arms."""
        if tick.at < self._state.first_tick:
            return []
        version = self._state.version
        return [
            Cell(
                series.route,
                series.arm == _TREATMENT,
                self._shares.get(series.snapshot, {}).get(series.route),
                counts,
            )
            for series, counts in tick.counts.items()
            if series.snapshot >= version and (series.first or not self._firsts_only)
        ]

    def control(self, tick: Tick) -> list[Counts]:
        """What a tick has of control, also from before the evidence began."""
        return [
            counts
            for series, counts in tick.counts.items()
            if series.arm != _TREATMENT and (series.first or not self._firsts_only)
        ]

    def moment(self, at: int) -> Moment:
        """When a tick was, for the guardrails."""
        stretch = (at + self._anchor) // _STRETCH if self._firsts_only else None
        return Moment(self._state.second(at), self._state.minute(at), stretch, self._by_now)
