"""The store as the control plane sees it: documents with versions, entries, ticks, and a feed of changes.

The interface is narrow, so that a shared engine can implement it too. A document is replaced by compare-
and-set on its version, entries are only ever added, ticks are sums that merge by addition, and the feed
says what changed. The store does not know what its documents and entries mean.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.model.rollout import Durability


@dataclass(frozen=True, slots=True)
class Document:
    """A named value and the version that compare-and-set compares. `body` is JSON text."""

    version: int
    body: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the history: when (Unix seconds), what kind, and all the rest as JSON text."""

    at: float
    type: str
    body: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Closed sums over `span` seconds from Unix second `at`; `key` says of what. The newest counts."""

    at: int
    span: int
    key: str
    sums: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Change:
    """Something moved: a document (by name and version), or only the history (`name` "")."""

    name: str
    version: int
    last_entry: int


class FaultKind(enum.StrEnum):
    """Why the store cannot write."""

    FULL = "full"
    READ_ONLY = "read_only"
    LOCKED = "locked"
    CORRUPT = "corrupt"
    VANISHED = "vanished"
    UNREAD = "unread"
    """A file is there that could not be read at start: it is not written over."""
    SLOW = "slow"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StoreFault:
    """What is wrong with the store, for status and logs."""

    kind: FaultKind
    detail: str


class Opening(enum.StrEnum):
    """What a store found when it was opened. After the last two, what went before is not known."""

    FOUND = "found"
    FRESH = "fresh"
    CORRUPT = "corrupt"
    UNREAD = "unread"


class StoreError(Exception):
    """Something that the store was asked for did not happen; nothing of it stands."""


class ConflictError(StoreError):
    """The document moved on: the change was made for another version."""


class NotDurableError(StoreError):
    """The change had to be on disk and could not be put there."""


class Subscription(Protocol):
    """Changes from now on. A slow reader misses the oldest, and reads the documents anyway."""

    def __aiter__(self) -> AsyncIterator[Change]: ...

    async def __anext__(self) -> Change: ...

    def close(self) -> None:
        """End the iteration."""


class Store(Protocol):
    """See the module. Reads of documents are from memory and never wait."""

    @property
    def opening(self) -> Opening:
        """What was found at the start."""

    @property
    def fault(self) -> StoreFault | None:
        """What keeps it from writing now, None while all is well."""

    @property
    def unwritten(self) -> Sequence[tuple[int, Entry]]:
        """The entries that are not on disk yet, oldest first."""

    @property
    def last_entry(self) -> int:
        """The number of the newest entry; 0 before the first. Never goes back."""

    def document(self, name: str) -> Document | None:
        """The newest document of that name."""

    async def commit(
        self,
        name: str,
        expected: int | None,
        document: Document,
        entries: Sequence[Entry],
        durability: Durability,
    ) -> bool:
        """Replace a document and add entries, both or neither; True once they are on disk.

        `expected` is the version that is replaced, None for a first document. Raises ConflictError if
        another version stands. BEST_EFFORT: stands at once, and is written when it can be. REQUIRED:
        raises NotDurableError, and nothing stands, where it cannot be written now.
        """

    def checkpoint(self, name: str, document: Document) -> None:
        """Keep a document that moved without an event: same version, written when convenient."""

    def append(self, entry: Entry) -> int:
        """Add an entry to the history, written as soon as it can be; its number."""

    async def entries(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        """The entries numbered above `after`, oldest first, at most `limit`."""

    async def newest(self, limit: int) -> list[tuple[int, Entry]]:
        """The newest entries, newest last."""

    def add_ticks(self, ticks: Sequence[Tick]) -> None:
        """Keep closed sums, written when convenient."""

    async def ticks(self, since: int, until: int) -> list[Tick]:
        """The sums that begin in [since, until), oldest first."""

    async def prune(self, now: float) -> None:
        """Merge old ticks and drop what is older than the retention. Cheap enough for every minute."""

    def subscribe(self) -> Subscription:
        """What changes from now on."""

    async def close(self) -> None:
        """Write what waits, if it can be written, and let go."""
