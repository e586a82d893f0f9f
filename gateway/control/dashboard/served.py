"""How many requests each arm served over time: all of them, even those that are not judged.

The windows count only what an arm is judged by, and under the latch that is nothing. But a viewer
wants to see that users are still served. Kept in memory: ten-second samples of the ledger's
totals for an hour, ten-minute ones for two days. It knows no clock.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

FINE, FINE_REACH = 10, 3600
COARSE, COARSE_REACH = 600, 172_800
"""Seconds between two samples, and for how long they are held."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests that each arm has ended since the gateway began, at one time (Unix seconds)."""

    at: float
    control: int
    treatment: int


class Served:
    """Samples by time; `add` is called as often as one likes, with totals that never fall."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    def __repr__(self) -> str:
        return f"<Served samples={len(self._samples)}>"

    @property
    def since(self) -> float | None:
        """When the oldest sample was taken."""
        return self._samples[0].at if self._samples else None

    def add(self, sample: Sample) -> None:
        """Hold a sample; the newest is replaced where it is too near the one before it."""
        samples = self._samples
        if len(samples) > 1 and sample.at - samples[-2].at < FINE:
            samples.pop()
        samples.append(sample)
        self._thin(sample.at)

    def _thin(self, now: float) -> None:
        """Drop what is too old, and of what is no longer fine all but one sample in ten minutes."""
        samples = self._samples
        while samples[0].at < now - COARSE_REACH:
            samples.pop(0)
        old = bisect_right(samples, now - FINE_REACH, key=_at)
        if old > 2 and samples[old - 1].at - samples[old - 3].at < COARSE:
            del samples[old - 2]

    def between(self, begin: float, end: float) -> tuple[float, float] | None:
        """How many requests control and treatment ended in some time; None where that is not known."""
        first, last = self._when(begin), self._when(end)
        if first is None or last is None:
            return None
        return last[0] - first[0], last[1] - first[1]

    def rate(self, begin: float, end: float) -> float | None:
        """Requests a second of both arms in some time, as far as it is known."""
        begin = max(begin, self._samples[0].at) if self._samples else begin
        ended = self.between(begin, end)
        return sum(ended) / (end - begin) if ended is not None and end > begin else None

    def _when(self, at: float) -> tuple[float, float] | None:
        """The totals at a time, on a straight line between two samples."""
        place = bisect_right(self._samples, at, key=_at)
        if place == 0 or (place == len(self._samples) and at - self._samples[-1].at > FINE):
            return None
        before = self._samples[place - 1]
        after = self._samples[min(place, len(self._samples) - 1)]
        share = (at - before.at) / (after.at - before.at) if after.at > before.at else 0.0
        return (
            before.control + share * (after.control - before.control),
            before.treatment + share * (after.treatment - before.treatment),
        )


def _at(sample: Sample) -> float:
    return sample.at
