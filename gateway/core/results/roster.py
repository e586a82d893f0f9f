"""Who takes part: a row for each user and group, found by the user's 64-bit hash.

Rows are numbered from zero in the order of arrival and are never removed. The index uses open addressing
with linear probing over row numbers. It consists of segments that grow one at a time, so no single
arrival has to wait until more than a few thousand rows are moved. A row takes 15 bytes in all.

It does not know what the users did.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

from gateway.core.results.numbers import Numbers

_SEGMENT_BITS = 7
_SEGMENT_SHIFT = 64 - _SEGMENT_BITS
"""A hash's highest bits name its segment; all of it, modulo the segment's size, its slot."""
_FIRST_CAPACITY = 16
_FULLEST = 0.8
"""A fuller segment grows: a search ends after three slots on average, an arrival after a dozen."""
_GROWTH = 1.5
_SPARE = 1.1
"""What a segment has more than its share of rows that are known beforehand: chance deals them unevenly."""

ABSENT = -1
"""The row of somebody who takes no part."""
RETURNED = 0
"""The epoch of a row whose user was in another group before: it was not dealt afresh."""


class Roster:
    """Rows of users. Hashes are unsigned, groups small numbers; epochs count from 1."""

    __slots__ = (
        "_cell_numbers",
        "_free",
        "_segments",
        "cell_epochs",
        "cell_groups",
        "cell_rows",
        "cells",
        "users",
    )

    def __init__(self) -> None:
        self.users: Numbers[int] = Numbers("Q")
        """Each row's user."""
        self.cells: Numbers[int] = Numbers()
        """Each row's number of a pair of group and epoch, a cell."""
        self.cell_groups: list[int] = []
        """Each cell's group; with `cell_epochs` and `cell_rows` (how many rows it has) a small table."""
        self.cell_epochs: list[int] = []
        self.cell_rows: list[int] = []
        self._cell_numbers: dict[tuple[int, int], int] = {}
        self._segments = [_empty(_FIRST_CAPACITY) for _ in range(1 << _SEGMENT_BITS)]
        """Slots that hold a row's number plus one, or zero."""
        self._free = [_limit(segment) for segment in self._segments]
        """Arrivals until a segment grows."""

    def __len__(self) -> int:
        return len(self.users)

    def group_of(self, row: int) -> int:
        """The group of a row."""
        return self.cell_groups[self.cells.values[row]]

    def find(self, user: int, group: int) -> int:
        """The row of a user in a group, or ABSENT."""
        segment = self._segments[user >> _SEGMENT_SHIFT]
        capacity = len(segment)
        slot = user % capacity
        users, cells, cell_groups = self.users.values, self.cells.values, self.cell_groups
        while entry := segment[slot]:
            row = entry - 1
            if users[row] == user and cell_groups[cells[row]] == group:
                return row
            slot += 1
            if slot == capacity:
                slot = 0
        return ABSENT

    def enrol(self, user: int, group: int, epoch: int) -> int:
        """The row of a user in a group; a new one, of this epoch, where there is none."""
        number = user >> _SEGMENT_SHIFT
        segment = self._segments[number]
        capacity = len(segment)
        slot = user % capacity
        users, cells, cell_groups = self.users.values, self.cells.values, self.cell_groups
        while entry := segment[slot]:
            row = entry - 1
            if users[row] == user:
                if cell_groups[cells[row]] == group:
                    return row
                epoch = RETURNED
            slot += 1
            if slot == capacity:
                slot = 0
        return self._append(user, self._cell(group, epoch), number, slot)

    def reserve(self, rows: int, cells: Iterable[tuple[int, int]]) -> None:
        """Have so many rows, whose `users` and `cells` are to be restored, and these groups and epochs."""
        self.users.reserve(rows)
        self.cells.reserve(rows)
        capacity = int((rows >> _SEGMENT_BITS) / _FULLEST * _SPARE)
        if capacity > _FIRST_CAPACITY:
            self._segments = [_empty(capacity) for _ in self._segments]
            self._free = [_limit(segment) for segment in self._segments]
        for group, epoch in cells:
            self._cell(group, epoch)

    def place(self, first: int, end: int) -> None:
        """Have the rows of a range found, whose users and cells were restored; each row once."""
        users = self.users.values[first:end]
        for cell, rows in Counter(self.cells.values[first:end]).items():
            self.cell_rows[cell] += rows
        for number, arrivals in Counter([user >> _SEGMENT_SHIFT for user in users]).items():
            self._make_room(number, arrivals)
        self._place(range(first + 1, end + 1))

    def _make_room(self, number: int, arrivals: int) -> None:
        """Take note of so many rows that come into a segment, and let it grow at once if it has to."""
        free, old = self._free[number] - arrivals, self._segments[number]
        if free <= 0:
            rows = _limit(old) - free
            self._segments[number] = new = _empty(int(rows / _FULLEST * _GROWTH))
            free = _limit(new) - rows
            self._place(filter(None, old))
        self._free[number] = free

    def _place(self, entries: Iterable[int]) -> None:
        """Put entries, rows' numbers plus one, into the index."""
        users, segments = self.users.values, self._segments
        for entry in entries:
            user = users[entry - 1]
            segment = segments[user >> _SEGMENT_SHIFT]
            capacity = len(segment)
            slot = user % capacity
            while segment[slot]:
                slot += 1
                if slot == capacity:
                    slot = 0
            segment[slot] = entry

    def _append(self, user: int, cell: int, number: int, slot: int) -> int:
        """Add a row at a free slot of segment `number`."""
        self.users.values.append(user)
        self.cells.append(cell)
        self.cell_rows[cell] += 1
        row = len(self.users)
        self._segments[number][slot] = row
        self._make_room(number, 1)
        return row - 1

    def _cell(self, group: int, epoch: int) -> int:
        key = (group, epoch)
        number = self._cell_numbers.get(key)
        if number is None:
            number = len(self.cell_rows)
            self._cell_numbers[key] = number
            self.cell_groups.append(group)
            self.cell_epochs.append(epoch)
            self.cell_rows.append(0)
        return number


def _limit(segment: array[int]) -> int:
    """How many rows a segment may hold."""
    return int(len(segment) * _FULLEST)


def _empty(capacity: int) -> array[int]:
    return array("I", bytes(4 * capacity))
