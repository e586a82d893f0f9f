"""Numbers that upstreams and people report: which values a metric may have, and their sums.

A score is a value that a proxy cannot measure itself: an answer's accuracy, its cost, a
user's rating. It does not know how scores are reported, nor what they are used for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

MOST_SCORE = 1e12
"""Values beyond this, either way, are slips: their squares would swallow everybody else's."""
_SHARE = (0.0, 1.0)
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "accuracy": _SHARE,
    "user_satisfaction": _SHARE,
    "cost_per_request": (0.0, MOST_SCORE),
}
_ROUNDING = 1e-9


def bounds_of(metric: str) -> tuple[float, float]:
    """The least and the greatest value that a metric may have; metrics of one's own may be negative."""
    return _BOUNDS.get(metric, (-MOST_SCORE, MOST_SCORE))


@dataclass(frozen=True, slots=True)
class Score:
    """Values of one metric: their number, their sum, and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Score) -> Score:
        """The values of both."""
        return Score(self.count + other.count, self.total + other.total, self.squares + other.squares)

    def __sub__(self, other: Score) -> Score:
        """The values without those of the other."""
        return Score(self.count - other.count, self.total - other.total, self.squares - other.squares)

    @classmethod
    def of(cls, value: float) -> Score:
        """A single value."""
        return cls(1, value, value * value)

    @property
    def mean(self) -> float | None:
        """The mean value; None without any."""
        return self.total / self.count if self.count else None

    @property
    def bad(self) -> int:
        """How many went wrong, of scores in [0, 1]: the sum of 1 - score, rounded up."""
        # Sums of decimal fractions end a little beside whole numbers.
        return max(0, math.ceil(self.count - self.total - _ROUNDING * self.count))
