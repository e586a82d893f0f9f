"""Traffic by stays in phases, including requests that are still open.

A stay is one epoch of one phase, whatever its shares were. It is updated as ticks arrive, so the totals
are ready without adding everything up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.control.archive import Period, Stream
from gateway.control.traffic import ArmMetrics, arm_metrics, arm_sums
from gateway.core.sums import Profile
from gateway.model.scores import Score
from gateway.model.ticks import Counts, Series


@dataclass(frozen=True, slots=True)
class PhaseMetrics:
    """Both arms over one stay in a phase, by the arm's name; `since` is Unix seconds."""

    phase: str
    epoch: int
    since: float
    arms: Mapping[str, ArmMetrics]


@dataclass(slots=True)
class Stay:
    """One stay: when it began in Unix seconds, its traffic by (route, arm), and what it amounts to."""

    since: float
    row: dict[tuple[str, str], Profile]
    metrics: PhaseMetrics | None = None
    """None once traffic came to it since it was put together."""


class Stays:
    """See the module. Every period has to be told of before its traffic is."""

    def __init__(self) -> None:
        self._stays: dict[tuple[str, int], Stay] = {}

    def __repr__(self) -> str:
        return f"<Stays {list(self._stays)}>"

    def begin(self, period: Period) -> None:
        """A period of the present stay begins, or the first one of another stay."""
        self._stays.setdefault((period.phase, period.epoch), Stay(period.begun, {}))

    def of(self, period: Period) -> Stay:
        """The stay that a period is part of; for reading."""
        return self._stays[period.phase, period.epoch]

    def add(self, period: Period, stream: Stream, profile: Profile) -> None:
        """Add what the store has."""
        self._profile(period, stream[0], stream[1]).add(profile)

    def count(self, period: Period, series: Series, counts: Counts) -> None:
        """Add what a tick got."""
        self._profile(period, series.route, series.arm).count(counts)

    def rate(self, period: Period, stream: Stream, scores: Mapping[str, Score]) -> None:
        """Add scores that came apart from their requests."""
        self._profile(period, stream[0], stream[1]).rate(scores)

    def metrics(self) -> tuple[PhaseMetrics, ...]:
        """Every stay, oldest first."""
        for (phase, epoch), stay in self._stays.items():
            if stay.metrics is None:
                read = {arm: arm_metrics(sums) for arm, sums in arm_sums(stay.row).items()}
                stay.metrics = PhaseMetrics(phase, epoch, stay.since, read)
        return tuple(stay.metrics for stay in self._stays.values() if stay.metrics is not None)

    def _profile(self, period: Period, route: str, arm: str) -> Profile:
        stay = self._stays[period.phase, period.epoch]
        stay.metrics = None
        return stay.row.setdefault((route, arm), Profile())
