"""What results are computed from: means over participants, by group and metric.

Frozen values that `model.codec` can write and read, so that the tally of the planned day can be stored. A
participant counts once per metric, with the mean of its own values: users are what was assigned at
random, and a user with a thousand requests is still one user.

It does not know who counted, nor what is concluded.
"""

from __future__ import annotations

from dataclasses import dataclass

RESPONSE_TIME = "response_time"
"""Seconds, of successful requests; every request reports it by itself."""
ERROR_RATE = "error_rate"
"""The share of a user's requests that failed; every request reports it by itself."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric in a group: over `n` participants, the mean of their means and its sample variance.

    The variance is that of single participants (divided by n - 1), not of the mean; 0 for n < 2.
    """

    metric: str
    n: int
    mean: float
    variance: float


@dataclass(frozen=True, slots=True)
class GroupTally:
    """A group: how many users took part, how many requests of theirs had an outcome, its metrics."""

    group: str
    participants: int
    requests: int
    metrics: tuple[Summary, ...]

    def find(self, metric: str) -> Summary:
        """The summary of a metric; an empty one where nobody reported it."""
        for summary in self.metrics:
            if summary.metric == metric:
                return summary
        return Summary(metric, 0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How many users were seen for the first time in an epoch, and dealt to a group."""

    epoch: int
    group: str
    users: int


@dataclass(frozen=True, slots=True)
class Tally:
    """All that an experiment has counted up to now."""

    groups: tuple[GroupTally, ...]
    arrivals: tuple[Arrivals, ...]

    def find(self, group: str) -> GroupTally:
        """The tally of a group; an empty one where nobody was dealt to it."""
        for tally in self.groups:
            if tally.group == group:
                return tally
        return GroupTally(group, 0, 0, ())
