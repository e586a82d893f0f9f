"""Who takes part: a row for each user and group, found by the user's 64-bit hash.

Rows are numbered from zero in the order of arrival and never leave. The index is open addressing with
linear probing over row numbers, in segments that grow one by one, so that no single arrival waits
for more than a few thousand rows to be placed anew. 16 bytes a row, all in all.

It does not know what the users did.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

_SEGMENT_BITS = 7
_SEGMENT_SHIFT = 64 - _SEGMENT_BITS
"""A hash's highest bits name its segment; all of it, modulo the segment's size, its slot."""
_FIRST_CAPACITY = 16
_FULLEST = 0.8
"""A fuller segment grows: a search ends after three slots on average, an arrival after a dozen."""
_GROWTH = 1.5
_MOST_CELLS = 1 << 16
"""Pairs of group and epoch: what two bytes a row can name."""

ABSENT = -1
"""The row of somebody who takes no part."""
RETURNED = 0
"""The epoch of a row whose user was in another group before: it was not dealt afresh."""


class Roster:
    """Rows of users. Hashes are unsigned, groups small numbers; epochs count from 1."""

    __slots__ = (
        "_cell_numbers",
        "_cells",
        "_free",
        "_segments",
        "cell_epochs",
        "cell_groups",
        "cell_rows",
        "users",
    )

    def __init__(self) -> None:
        self.users = array("Q")
        """Each row's user."""
        self._cells = array("H")
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

    def cell_of(self, row: int) -> int:
        """The number of a row's cell."""
        return self._cells[row]

    def find(self, user: int, group: int) -> int:
        """The row of a user in a group, or ABSENT."""
        segment = self._segments[user >> _SEGMENT_SHIFT]
        capacity = len(segment)
        slot = user % capacity
        users, cells, cell_groups = self.users, self._cells, self.cell_groups
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
        users, cells, cell_groups = self.users, self._cells, self.cell_groups
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

    def restore(self, users: Sequence[int], group: int, epochs: Sequence[int]) -> None:
        """Append rows of a group as they were; none of its users may be there already."""
        first = len(self.users)
        self.users.extend(users)
        for epoch, rows in Counter(epochs).items():
            self.cell_rows[self._cell(group, epoch)] += rows
        self._cells.extend([self._cell_numbers[group, epoch] for epoch in epochs])
        for number, arrivals in Counter([user >> _SEGMENT_SHIFT for user in users]).items():
            self._make_room(number, arrivals)
        self._place(range(first + 1, first + 1 + len(users)))

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
        users, segments = self.users, self._segments
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
        self.users.append(user)
        self._cells.append(cell)
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
            if number == _MOST_CELLS:
                raise OverflowError(f"no more than {_MOST_CELLS} pairs of group and epoch")
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
