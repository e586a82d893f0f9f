"""Metrics of all participants: the number of values and their sum for each one, and the totals of the
groups.

A participant counts once, with the mean of its values. Totals are sums of those means and of their
squares, kept as whole numbers of 2**-60 and so exact. A mean that changes is first subtracted exactly as
it was added, and totals do not depend on the order of rows. A row takes nine bytes per metric, a few more
if users come often.

It does not know which users the rows stand for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.results.numbers import Numbers
from gateway.core.results.tally import Summary

BLOCK = 4096
"""Rows that a column grows by: large enough to be rare, small enough to waste nothing."""
NO_CAP = float("inf")

_SCALE_BITS = 60
"""Means above .008 are kept to the last digit; those below 8 fit into a machine word."""
_SCALE = 2.0**_SCALE_BITS


@dataclass(frozen=True, slots=True)
class Totals:
    """What a metric comes to in each group: users with a value, the sums of means and of squares.

    `firsts` are in units of 2**-60, `seconds` of 2**-120: whole numbers.
    """

    users: Sequence[int]
    firsts: Sequence[int]
    seconds: Sequence[int]


class Column(ABC):
    """A metric: what each row has of it, and each group's totals. Rows and groups are small numbers."""

    __slots__ = ("_firsts", "_seconds", "_users", "metric")

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._users: list[int] = []
        """Each group's participants with a value."""
        self._firsts: list[int] = []
        """Each group's sum of means, in 2**-60; `_seconds` that of their squares, in 2**-120."""
        self._seconds: list[int] = []

    @property
    @abstractmethod
    def planes(self) -> Sequence[Numbers[int] | Numbers[float]]:
        """The numbers by row that make up the column."""

    @abstractmethod
    def count(self, row: int) -> int:
        """How many values a row has."""

    @abstractmethod
    def total(self, row: int) -> float:
        """The sum of a row's values."""

    def reserve(self, rows: int) -> None:
        """Have room for so many rows, without values as yet."""
        for plane in self.planes:
            plane.reserve(rows)

    def reserve_groups(self, groups: int) -> None:
        """Have totals for so many groups."""
        for totals in (self._users, self._firsts, self._seconds):
            totals.extend([0] * (groups - len(totals)))

    @property
    def totals(self) -> Totals:
        """The groups' totals as they are now."""
        return Totals(tuple(self._users), tuple(self._firsts), tuple(self._seconds))

    def restore_totals(self, totals: Totals) -> None:
        """Go on from totals that were kept."""
        self._users[:], self._firsts[:], self._seconds[:] = totals.users, totals.firsts, totals.seconds

    def recount(self, row: int, group: int) -> None:
        """Add what a row has to the totals, once."""
        count = self.count(row)
        if count:
            mean = int(self.total(row) / count * _SCALE)
            self._users[group] += 1
            self._firsts[group] += mean
            self._seconds[group] += mean * mean

    def summary(self, group: int) -> Summary:
        """What a group comes to; each figure is rounded once, from the exact one."""
        n, first, second = self._users[group], self._firsts[group], self._seconds[group]
        if n == 0:
            return Summary(self.metric, 0, 0.0, 0.0)
        mean = first / (n << _SCALE_BITS)
        variance = (n * second - first * first) / (n * (n - 1) << 2 * _SCALE_BITS) if n > 1 else 0.0
        return Summary(self.metric, n, mean, variance)


class ValueColumn(Column):
    """A metric whose values are reported; those above `cap` are counted as the cap."""

    __slots__ = ("_counts", "_sums", "cap")

    def __init__(self, metric: str, cap: float = NO_CAP) -> None:
        super().__init__(metric)
        self.cap = cap
        self._counts: Numbers[int] = Numbers()
        self._sums: Numbers[float] = Numbers("d")

    @property
    def planes(self) -> Sequence[Numbers[int] | Numbers[float]]:
        """How many values each row has, and their sum."""
        return self._counts, self._sums

    def count(self, row: int) -> int:
        """How many values a row has."""
        return self._counts.values[row]

    def total(self, row: int) -> float:
        """The sum of a row's values."""
        return self._sums.values[row]

    def add(self, row: int, group: int, value: float) -> int:
        """Count a value of a row that belongs to the group; how many the row had before."""
        if value > self.cap:  # noqa: PLR1730  # a call for every value
            value = self.cap
        counts, sums = self._counts.values, self._sums.values
        count = counts[row]
        if not count:
            counts[row] = 1
            sums[row] = value
            after = int(value * _SCALE)
            self._users[group] += 1
            self._firsts[group] += after
            self._seconds[group] += after * after
            return 0
        try:
            counts[row] = count + 1
        except OverflowError:
            self._counts.put(row, count + 1)
        total = sums[row]
        before = int(total / count * _SCALE)
        sums[row] = total = total + value
        after = int(total / (count + 1) * _SCALE)
        self._firsts[group] += after - before
        self._seconds[group] += (after - before) * (after + before)
        return count


class FailureColumn(Column):
    """The share of failed requests. What did not fail is a value of `successes`, a column beside it."""

    __slots__ = ("_failures", "_successes")

    def __init__(self, metric: str, successes: ValueColumn) -> None:
        super().__init__(metric)
        self._successes = successes
        self._failures: Numbers[int] = Numbers()

    @property
    def planes(self) -> Sequence[Numbers[int] | Numbers[float]]:
        """How many requests of each row failed."""
        return (self._failures,)

    def count(self, row: int) -> int:
        """How many requests of a row had an outcome."""
        return self._successes.count(row) + self._failures.values[row]

    def total(self, row: int) -> float:
        """How many of them failed."""
        return float(self._failures.values[row])

    def add_success(self, row: int, group: int, successes: int) -> None:
        """Count a request that did not fail; the row had so many such ones before."""
        failures = self._failures.values[row]
        if failures:
            self._move(group, failures, successes + failures, failures)
        elif not successes:
            self._users[group] += 1

    def add_failure(self, row: int, group: int) -> None:
        """Count a request that failed."""
        failures = self._failures.values[row]
        requests = self._successes.count(row) + failures
        if not requests:
            self._users[group] += 1
        self._move(group, failures, requests, failures + 1)
        self._failures.put(row, failures + 1)

    def _move(self, group: int, failures: int, requests: int, failures_then: int) -> None:
        """One more request of a row: its share of failures changes."""
        before = int(failures / requests * _SCALE) if requests else 0
        after = int(failures_then / (requests + 1) * _SCALE)
        self._firsts[group] += after - before
        self._seconds[group] += (after - before) * (after + before)
