"""What of a table must be written next: the rows that changed, and now and then a page of all rows.

A store keeps a table as pages of `PAGE` consecutive rows each, and a journal of later changes. A journal
entry holds the changed rows completely, so it costs as much as what changed. With every entry a few pages
are rewritten, in turn. Once all pages have been rewritten, the entries from before that round are not
needed any more. So the journal stays shorter than about half of the table, however long it runs. To read
a table, take its pages and apply the journal's rows in their order.

It knows row numbers, not what the rows contain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PAGE = 4096
"""Rows in a page: some two hundred kilobytes."""
_PACE = 4
"""Rows of pages written for each row in the journal: a fourth of the table's changes is a round."""
_ENTRY = 64
"""What an entry costs beside its rows when it is read again, in rows: many small ones bring a round, too."""
_MOST_PAGES = 8
"""Pages written with one entry: no flush waits for more than two megabytes of them."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a store is to write in one transaction, to have the table as it is now.

    `head` is text in place of the last one. `entry` comes into the journal as number `number`, `pages`
    in place of those with the same numbers; then entries numbered up to `void` are no longer needed.
    """

    head: str
    number: int
    entry: bytes
    pages: Mapping[int, bytes]
    void: int


class Journal:
    """See the module. Entries are numbered from one; `marks` has a byte for each row, 1 where it changed."""

    __slots__ = ("_begun", "_debt", "_next_page", "marks", "newest")

    def __init__(self) -> None:
        self.marks = bytearray()
        self.newest = 0
        """The number of the newest entry."""
        self._debt = 0
        """Rows of pages that are due."""
        self._next_page = 0
        self._begun = 0
        """The newest entry when this round began."""

    def reserve(self, rows: int) -> None:
        """Have marks for so many rows."""
        self.marks.extend(bytes(max(0, rows - len(self.marks))))

    def resume(self, number: int, rows: int) -> None:
        """An entry of so many rows is there already; they come in their order."""
        self.newest = self._begun = number
        self._debt += _PACE * (rows + _ENTRY)

    def take(self) -> list[int]:
        """The rows that changed since the last time."""
        marks, rows = self.marks, []
        row = marks.find(1)
        while row >= 0:
            marks[row] = 0
            rows.append(row)
            row = marks.find(1, row + 1)
        return rows

    def enter(self, changed: int, rows: int) -> tuple[list[int], int]:
        """Number an entry of `changed` rows of a table that has `rows`: pages to write, and what is void."""
        self.newest += 1
        pages = -(-rows // PAGE)
        self._debt = min(self._debt + _PACE * (changed + _ENTRY), pages * PAGE)
        due: list[int] = []
        void = 0
        while self._debt >= PAGE and len(due) < _MOST_PAGES and not void:
            self._debt -= PAGE
            due.append(self._next_page)
            self._next_page += 1
            if self._next_page >= pages:
                void, self._begun, self._next_page = self._begun, self.newest, 0
        return due, void
