"""The history of the evidence in bounded memory: fine for the last hour, coarser the longer it lasts.

When it is full, every second point is dropped and the distance of points doubles, so it always
reaches back to its beginning. It knows no clock and judges nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from gateway.control.dashboard.document import EvidencePoint

MOST_POINTS = 360
FIRST_DISTANCE = 5.0
"""Seconds between two points at first."""


class Trail:
    """Points by time; `add` is called as often as one likes."""

    def __init__(self) -> None:
        self._points: list[EvidencePoint] = []
        self._distance = FIRST_DISTANCE

    def __repr__(self) -> str:
        return f"<Trail points={len(self._points)} distance={self._distance:g}>"

    @property
    def points(self) -> Sequence[EvidencePoint]:
        """What is held, oldest first."""
        return tuple(self._points)

    def mark(self, point: EvidencePoint) -> None:
        """Hold a point that must be seen, between the others; once for each time."""
        place = bisect_left(self._points, point.at, key=_at)
        if place < len(self._points) and self._points[place].at == point.at:
            return
        if not self._points or point.at >= self._points[0].at:
            self._points.insert(place, point)

    def add(self, point: EvidencePoint) -> None:
        """Hold a point, unless it is too near the last one."""
        if self._points and point.at - self._points[-1].at < self._distance * 0.99:
            return
        self._points.append(point)
        if len(self._points) > MOST_POINTS:
            del self._points[1::2]
            self._distance *= 2


def _at(point: EvidencePoint) -> float:
    return point.at
