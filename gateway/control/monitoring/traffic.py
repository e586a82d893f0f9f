"""How much traffic there is to judge by: requests of both arms over the last few minutes.

Counted as evidence counts them: if the unit is the user, only a user's first request on a route in ten
minutes. So at first everybody who comes is counted, and then those whose ten minutes are over: of the first
ten minutes the newer half is nearer to what follows than the whole.

It does not know how the requests ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from gateway.core.folding import Tick
from gateway.model.safety import Unit
from gateway.model.ticks import FIRST_SECONDS


class Traffic:
    """The last `seconds` of traffic, or the newer half of it while there was not twice as much."""

    def __init__(self, seconds: float = 300.0) -> None:
        self.seconds = seconds
        self._ticks: deque[tuple[int, int]] = deque()
        self._began = 0
        self._marked = False

    def __repr__(self) -> str:
        return f"<Traffic {self.rate():.3g}/s lasting={self.lasting}>"

    def add(self, ticks: Iterable[Tick], unit: Unit) -> None:
        """Take closed ticks in, oldest first."""
        self._marked = unit is Unit.USER
        for tick in ticks:
            if not self._ticks:
                self._began = tick.at
            series = tick.counts.items()
            counted = [counts.started for one, counts in series if one.first or not self._marked]
            self._ticks.append((tick.at, sum(counted)))
        while len(self._ticks) > 2 and self._ticks[0][0] < self._ticks[-1][0] - self._length():
            self._ticks.popleft()

    def _length(self) -> float:
        return min(self.seconds * 1000, self._age() / 2)

    def _age(self) -> int:
        return self._ticks[-1][0] - self._began if self._ticks else 0

    @property
    def lasting(self) -> bool:
        """Whether it may go on like this; what is marked at first is mostly users who will soon be known."""
        return not self._marked or self._age() >= FIRST_SECONDS * 1000

    def rate(self) -> float:
        """Requests a second, of both arms; 0 before there were two ticks to measure between."""
        if len(self._ticks) < 2:
            return 0.0
        counted = sum(count for _, count in self._ticks) - self._ticks[-1][1]
        return counted * 1000 / (self._ticks[-1][0] - self._ticks[0][0])
