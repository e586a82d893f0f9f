"""Metrics of all participants: how many values each one has, their sum, and the groups' totals.

A participant counts once, with the mean of its values. Totals are sums of those means and of their
squares, kept as whole numbers of 2**-60 and so exact: a mean that changes is taken out as it was put
in, and the totals do not depend on the order of rows. Ten bytes a row and metric.

It does not know whose rows they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from itertools import compress, repeat
from operator import mul, truediv

from gateway.core.results.tally import Summary

BLOCK = 4096
"""Rows that a column grows by: large enough to be rare, small enough to waste nothing."""
NO_CAP = float("inf")

_MANY = 0xFFFF
"""What two bytes can count; a row beyond has its count in a dictionary, which few users reach."""
_SCALE_BITS = 60
"""Means above .008 are kept to the last digit; those below 8 fit into a machine word."""
_SCALE = 2.0**_SCALE_BITS


class _Counts:
    """A whole number for each row, in two bytes."""

    __slots__ = ("beyond", "small")

    def __init__(self) -> None:
        self.small = array("H")
        """The number itself, or _MANY where it is in `beyond`."""
        self.beyond: dict[int, int] = {}

    def reserve(self, rows: int) -> None:
        self.small.frombytes(bytes(max(0, rows - len(self.small)) * self.small.itemsize))

    def get(self, row: int) -> int:
        count = self.small[row]
        return count if count < _MANY else self.beyond[row]

    def put(self, row: int, count: int) -> None:
        if count < _MANY:
            self.small[row] = count
        else:
            self.small[row] = _MANY
            self.beyond[row] = count

    def restore(self, row: int, counts: Sequence[int]) -> None:
        if max(counts) >= _MANY:
            self.beyond.update((at, count) for at, count in enumerate(counts, row) if count >= _MANY)
            counts = [min(count, _MANY) for count in counts]
        self.small[row : row + len(counts)] = array("H", counts)


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

    @abstractmethod
    def count(self, row: int) -> int:
        """How many values a row has."""

    @abstractmethod
    def total(self, row: int) -> float:
        """The sum of a row's values."""

    @abstractmethod
    def reserve(self, rows: int) -> None:
        """Have room for so many rows, without values as yet."""

    @abstractmethod
    def restore(self, row: int, group: int, counts: Sequence[int], sums: Sequence[float]) -> None:
        """Put stored values into consecutive rows of a group that have none, from `row` on."""

    def reserve_groups(self, groups: int) -> None:
        """Have totals for so many groups."""
        for totals in (self._users, self._firsts, self._seconds):
            totals.extend([0] * (groups - len(totals)))

    def summary(self, group: int) -> Summary:
        """What a group comes to; each figure is rounded once, from the exact one."""
        n, first, second = self._users[group], self._firsts[group], self._seconds[group]
        if n == 0:
            return Summary(self.metric, 0, 0.0, 0.0)
        mean = first / (n << _SCALE_BITS)
        variance = (n * second - first * first) / (n * (n - 1) << 2 * _SCALE_BITS) if n > 1 else 0.0
        return Summary(self.metric, n, mean, variance)

    def _restore_totals(self, group: int, counts: Sequence[int], sums: Sequence[float]) -> None:
        self._users[group] += len(counts) - counts.count(0)
        means = map(truediv, compress(sums, sums), compress(counts, sums))  # the others are zero
        scaled = list(map(int, map(mul, means, repeat(_SCALE))))
        self._firsts[group] += sum(scaled)
        self._seconds[group] += sum(map(mul, scaled, scaled))


class ValueColumn(Column):
    """A metric whose values are reported; those above `cap` are counted as the cap."""

    __slots__ = ("_counts", "_sums", "cap")

    def __init__(self, metric: str, cap: float = NO_CAP) -> None:
        super().__init__(metric)
        self.cap = cap
        self._counts = _Counts()
        self._sums = array("d")

    def count(self, row: int) -> int:
        """How many values a row has."""
        return self._counts.get(row)

    def total(self, row: int) -> float:
        """The sum of a row's values."""
        return self._sums[row]

    def reserve(self, rows: int) -> None:
        """Have room for so many rows, without values as yet."""
        self._counts.reserve(rows)
        self._sums.frombytes(bytes(max(0, rows - len(self._sums)) * self._sums.itemsize))

    def restore(self, row: int, group: int, counts: Sequence[int], sums: Sequence[float]) -> None:
        """Put stored values into consecutive rows of a group that have none, from `row` on."""
        self._counts.restore(row, counts)
        self._sums[row : row + len(sums)] = array("d", sums)
        self._restore_totals(group, counts, sums)

    def add(self, row: int, group: int, value: float) -> int:
        """Count a value of a row that belongs to the group; how many the row had before."""
        if value > self.cap:  # noqa: PLR1730  # a call for every value
            value = self.cap
        counts = self._counts.small
        count = counts[row]
        if not count:
            counts[row] = 1
            self._sums[row] = value
            after = int(value * _SCALE)
            self._users[group] += 1
            self._firsts[group] += after
            self._seconds[group] += after * after
            return 0
        if count < _MANY - 1:
            counts[row] = count + 1
        else:
            count = self._counts.get(row)
            self._counts.put(row, count + 1)
        total = self._sums[row]
        before = int(total / count * _SCALE)
        total += value
        self._sums[row] = total
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
        self._failures = _Counts()

    def count(self, row: int) -> int:
        """How many requests of a row had an outcome."""
        return self._successes.count(row) + self._failures.get(row)

    def total(self, row: int) -> float:
        """How many of them failed."""
        return float(self._failures.get(row))

    def reserve(self, rows: int) -> None:
        """Have room for so many rows, without requests as yet."""
        self._failures.reserve(rows)

    def restore(self, row: int, group: int, counts: Sequence[int], sums: Sequence[float]) -> None:
        """Put stored requests into consecutive rows of a group; their successes are restored apart."""
        self._failures.restore(row, list(map(int, sums)))
        self._restore_totals(group, counts, sums)

    def add_success(self, row: int, group: int, successes: int) -> None:
        """Count a request that did not fail; the row had so many such ones before."""
        failures = self._failures.small[row]
        if failures:
            failures = self._failures.get(row)
            self._move(group, failures, successes + failures, failures)
        elif not successes:
            self._users[group] += 1

    def add_failure(self, row: int, group: int) -> None:
        """Count a request that failed."""
        failures = self._failures.get(row)
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
