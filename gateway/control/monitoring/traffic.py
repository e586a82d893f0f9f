"""How much traffic there is to judge by: requests of both arms over the last few minutes.

Counted as evidence counts them: if the unit is the user, only a user's first request in ten minutes. It
does not know how the requests ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from gateway.core.folding import Tick
from gateway.model.safety import Unit


class Traffic:
    """The last `seconds` of traffic."""

    def __init__(self, seconds: float = 300.0) -> None:
        self.seconds = seconds
        self._ticks: deque[tuple[int, int]] = deque()

    def __repr__(self) -> str:
        return f"<Traffic {self.rate():.3g}/s>"

    def add(self, ticks: Iterable[Tick], unit: Unit) -> None:
        """Take closed ticks in, oldest first."""
        for tick in ticks:
            counted = [
                counts.started
                for series, counts in tick.counts.items()
                if series.first or unit is Unit.REQUEST
            ]
            self._ticks.append((tick.at, sum(counted)))
        while self._ticks and self._ticks[0][0] < self._ticks[-1][0] - self.seconds * 1000:
            self._ticks.popleft()

    def rate(self) -> float:
        """Requests a second, of both arms; 0 before there were two ticks to measure between."""
        if len(self._ticks) < 2:
            return 0.0
        counted = sum(count for _, count in self._ticks) - self._ticks[-1][1]
        return counted * 1000 / (self._ticks[-1][0] - self._ticks[0][0])
