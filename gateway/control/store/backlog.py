"""What waits to be written: bounded, in order, and never half of a commit.

Bookkeeping without I/O. Of a document only the newest version waits. If there are too many entries and
ticks, the oldest are dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.control.store.api import Document, Entry, Tick

ENTRY_LIMIT = 10_000
"""Entries that wait at most: weeks of events, some ten megabytes."""
TICK_LIMIT = 50_000
"""Ticks that wait at most: a full disk for half a day costs no sums."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes; to write it twice does no harm.

    A document None is deleted. `void` are numbers of entries that were given up, though the disk may
    have taken them.
    """

    documents: Mapping[str, Document | None] = field(default_factory=dict)
    entries: Sequence[tuple[int, Entry]] = ()
    ticks: Sequence[Tick] = ()
    void: Sequence[int] = ()
    urgent: bool = False
    """True where the disk must have it before the write counts as done."""

    def __bool__(self) -> bool:
        return bool(self.documents or self.entries or self.ticks or self.void)


class Backlog:
    """The writes that are not on disk yet. `last_entry` is the number of the newest entry of all."""

    def __init__(
        self, last_entry: int, *, entry_limit: int = ENTRY_LIMIT, tick_limit: int = TICK_LIMIT
    ) -> None:
        self.last_entry = last_entry
        self.dropped = 0
        """Entries and ticks that gave way, since the start."""
        self._entry_limit = entry_limit
        self._tick_limit = tick_limit
        self._documents: dict[str, Document | None] = {}
        self._entries: deque[tuple[int, Entry]] = deque()
        self._ticks: deque[Tick] = deque()
        self._void: tuple[int, ...] = ()
        self._urgent = False

    def __repr__(self) -> str:
        return f"<Backlog {len(self)} waiting, {self.dropped} dropped, last entry {self.last_entry}>"

    def __len__(self) -> int:
        return len(self._documents) + len(self._entries) + len(self._ticks)

    def add_document(self, name: str, document: Document | None, *, urgent: bool) -> None:
        """Let a document wait in place of its older versions."""
        self._documents[name] = document
        self._urgent |= urgent

    def forget_document(self, name: str) -> None:
        """A newer version is on disk."""
        self._documents.pop(name, None)

    def holds(self, name: str) -> bool:
        """True while a document of that name waits."""
        return name in self._documents

    def number(self, entries: Sequence[Entry]) -> list[tuple[int, Entry]]:
        """Give entries their numbers, for a commit that does not wait here."""
        numbered = list(enumerate(entries, self.last_entry + 1))
        self.last_entry += len(numbered)
        return numbered

    def give_up(self, entries: Sequence[tuple[int, Entry]]) -> None:
        """Entries of a commit that failed: the disk must not keep them."""
        self._void += tuple(number for number, _ in entries)

    def add_entry(self, entry: Entry) -> int:
        """Let an entry wait; its number."""
        self._entries.extend(self.number([entry]))
        self._urgent = True
        self._bound()
        return self.last_entry

    def add_ticks(self, ticks: Iterable[Tick]) -> None:
        """Let sums wait."""
        self._ticks.extend(ticks)
        self._bound()

    def waiting_entries(self) -> list[tuple[int, Entry]]:
        """The entries that wait, oldest first."""
        return list(self._entries)

    def waiting_ticks(self) -> list[Tick]:
        """The sums that wait, oldest first."""
        return list(self._ticks)

    def batch(self) -> Batch:
        """Everything that waits, as one transaction. It goes on waiting until it is `written`."""
        return Batch(
            dict(self._documents), tuple(self._entries), tuple(self._ticks), self._void, self._urgent
        )

    def written(self, batch: Batch) -> None:
        """Forget what a batch put on disk; what came meanwhile stays."""
        for name, document in batch.documents.items():
            if self._documents.get(name) is document:
                self._documents.pop(name, None)
        done = {number for number, _ in batch.entries}
        while self._entries and self._entries[0][0] in done:
            self._entries.popleft()
        gone = {id(tick) for tick in batch.ticks}
        while self._ticks and id(self._ticks[0]) in gone:
            self._ticks.popleft()
        self._void = tuple(number for number in self._void if number not in batch.void)
        self._urgent = bool(self._entries or self._documents)

    def _bound(self) -> None:
        for waiting, limit in ((self._entries, self._entry_limit), (self._ticks, self._tick_limit)):
            while len(waiting) > limit:
                waiting.popleft()
                self.dropped += 1
