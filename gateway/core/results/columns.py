"""A metric of all participants: how many values each one has, their sum, and the groups' totals.

A participant counts once, with the mean of its values. Totals are sums of those means and of their
squares, kept as whole numbers of 2**-60 and so exact: a mean that changes is taken out as it was put
in, and the totals do not depend on the order of rows. Ten bytes a row.

It does not know whose rows they are.
"""

from __future__ import annotations

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


class Column:
    """One metric. Values above `cap` are counted as the cap. Rows and groups are small numbers.

    `sums` is the array's type code: d, or f where values are 0 and 1 (exact up to 16 million of them).
    """

    __slots__ = ("_beyond", "_counts", "_firsts", "_seconds", "_sums", "_users", "_values", "cap", "metric")

    def __init__(self, metric: str, *, cap: float = NO_CAP, sums: str = "d") -> None:
        self.metric = metric
        self.cap = cap
        self._counts = array("H")
        self._sums: array[float] = array(sums)
        self._beyond: dict[int, int] = {}
        self._users: list[int] = []
        """Each group's participants with a value."""
        self._firsts: list[int] = []
        """Each group's sum of means, in 2**-60; `_seconds` that of their squares, in 2**-120."""
        self._seconds: list[int] = []

    def reserve(self, rows: int, groups: int) -> None:
        """Have room for so many rows and groups, without values as yet."""
        missing = rows - len(self._counts)
        if missing > 0:
            self._counts.frombytes(bytes(missing * self._counts.itemsize))
            self._sums.frombytes(bytes(missing * self._sums.itemsize))
        for totals in (self._users, self._firsts, self._seconds):
            totals.extend([0] * (groups - len(totals)))

    def count(self, row: int) -> int:
        """How many values a row has."""
        count = self._counts[row]
        return count if count < _MANY else self._beyond[row]

    def total(self, row: int) -> float:
        """The sum of a row's values."""
        return self._sums[row]

    def add(self, row: int, group: int, value: float) -> None:
        """Count a value of a row that belongs to the group."""
        value = min(value, self.cap)
        count = self._counts[row]
        if not count:
            self._counts[row] = 1
            self._sums[row] = value
            mean = int(value * _SCALE)
            self._users[group] += 1
            self._firsts[group] += mean
            self._seconds[group] += mean * mean
            return
        if count == _MANY:
            count = self._beyond[row]
        total = self._sums[row]
        more = count + 1
        if more < _MANY:
            self._counts[row] = more
        else:
            self._counts[row] = _MANY
            self._beyond[row] = more
        if value or total:
            before = int(total / count * _SCALE)
            total += value
            self._sums[row] = total
            after = int(total / more * _SCALE)
            self._firsts[group] += after - before
            self._seconds[group] += (after - before) * (after + before)

    def restore(self, row: int, group: int, counts: Sequence[int], sums: Sequence[float]) -> None:
        """Put stored values into consecutive rows of a group that have none, from `row` on."""
        end = row + len(counts)
        self._sums[row:end] = array(self._sums.typecode, sums)
        if max(counts) < _MANY:
            self._counts[row:end] = array("H", counts)
        else:
            self._counts[row:end] = array("H", [min(count, _MANY) for count in counts])
            self._beyond.update((at, count) for at, count in enumerate(counts, row) if count >= _MANY)
        means = map(truediv, compress(sums, counts), compress(counts, counts))
        scaled = list(map(int, map(mul, means, repeat(_SCALE))))
        self._users[group] += len(scaled)
        self._firsts[group] += sum(scaled)
        self._seconds[group] += sum(map(mul, scaled, scaled))

    def summary(self, group: int) -> Summary:
        """What a group comes to; each figure is rounded once, from the exact one."""
        n, first, second = self._users[group], self._firsts[group], self._seconds[group]
        if n == 0:
            return Summary(self.metric, 0, 0.0, 0.0)
        mean = first / (n << _SCALE_BITS)
        variance = (n * second - first * first) / (n * (n - 1) << 2 * _SCALE_BITS) if n > 1 else 0.0
        return Summary(self.metric, n, mean, variance)
