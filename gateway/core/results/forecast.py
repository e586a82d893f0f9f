"""When a group can be decided on, if participants keep coming and differing as they do now.

An estimate for people, from two summaries and the time that they took. No verdict depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.results import sequence
from gateway.core.results.comparison import difference_variance
from gateway.core.results.tally import Summary


@dataclass(frozen=True, slots=True)
class Course:
    """How an experiment has gone, and what it waits for.

    `counted_for` are the seconds in which participants were counted, `until_end` those to the planned end,
    None where none lies ahead. From `enough` participants on a group is shown; `planned` is how many all
    groups were planned for, and `level` the p-value that decides.
    """

    counted_for: float
    until_end: float | None
    enough: int
    planned: int
    level: float


def seconds_to_go(course: Course, treated: Summary, control: Summary) -> float | None:
    """Seconds until the group is shown, then its difference, or the planned end; None where none is in sight.

    A planned day that will have too few participants decides nothing.
    """
    enough = _wait_for_enough(course, treated, control)
    shown = _wait_for_difference(course, treated, control) if enough == 0.0 else enough
    end = course.until_end
    if end is not None and enough is not None and enough > end:
        end = None
    return min((wait for wait in (shown, end) if wait is not None), default=None)


def _wait_for_enough(course: Course, treated: Summary, control: Summary) -> float | None:
    """Seconds until both have enough participants; None while one has none to go by."""
    fewest = min(treated.n, control.n)
    return max(0, course.enough - fewest) * course.counted_for / fewest if fewest else None


def _wait_for_difference(course: Course, treated: Summary, control: Summary) -> float | None:
    """Seconds until the present difference would be shown; None where it never would be."""
    participants = treated.n + control.n
    difference, variance = treated.mean - control.mean, difference_variance(treated, control)
    needed = sequence.participants_needed(difference, variance, participants, course.planned, course.level)
    return None if needed is None else max(0.0, needed - participants) * course.counted_for / participants
