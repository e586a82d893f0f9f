"""The store over one SQLite file: memory holds the truth, the disk follows.

The control process is the only writer, so the current state is in memory and reads never wait. One
thread owns the file. What cannot be written waits in a bounded backlog until it can;
until then the fault is visible. A change that must be on disk and cannot be written there is refused.

It does not engage the latch; its owner does, informed by `opening` and `on_fault`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from gateway.control.store.api import (
    Change,
    ConflictError,
    Document,
    Entry,
    FaultKind,
    NotDurableError,
    Opening,
    StoreError,
    StoreFault,
    Tick,
)
from gateway.control.store.backlog import Backlog, Batch
from gateway.control.store.database import Contents, Database
from gateway.control.store.feed import Feed, FeedSubscription
from gateway.control.store.file import DatabaseFault, move_aside, moved_aside
from gateway.control.store.thread import DiskThread
from gateway.model.rollout import Durability

STORE_FILE = "state.sqlite3"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long a caller waits for the disk, and between attempts while it refuses."""

    patience: float = 2.0
    retry: float = 1.0
    opening: float = 20.0
    """How long the check of the whole file may take at start."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file that was opened: what it held, and where a corrupt one before it was put."""

    database: Database
    contents: Contents
    moved_aside: Path | None


class SqliteStore:
    """See `store.api.Store`. Make one with `open`, on the running loop."""

    def __init__(
        self,
        path: Path,
        retention: float,
        *,
        on_fault: Callable[[StoreFault], None] = lambda fault: None,
        timing: Timing = Timing(),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.opening = Opening.UNREAD
        self.moved_aside: Path | None = None
        """Where a corrupt file was put, if there was one."""
        self._retention = retention
        self._on_fault = on_fault
        self._timing = timing
        self._now = now
        self._fault: StoreFault | None = None
        self._database: Database | None = None
        self._documents: dict[str, Document] = {}
        self._backlog = Backlog(0)
        self._feed = Feed()
        self._thread = DiskThread(path)
        self._commits = asyncio.Lock()
        self._disk = asyncio.Lock()
        self._wake = asyncio.Event()
        self._flushed = asyncio.Condition()
        self._flusher: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path} {self.opening} fault={self._fault} {self._backlog!r}>"

    @classmethod
    async def open(
        cls,
        path: Path,
        retention: float,
        *,
        on_fault: Callable[[StoreFault], None] = lambda fault: None,
        timing: Timing = Timing(),
        now: Callable[[], float] = time.time,
    ) -> SqliteStore:
        """Open the file, or start without it: a store always comes of this, if with a fault."""
        store = cls(path, retention, on_fault=on_fault, timing=timing, now=now)
        try:
            opened = await store._thread.run(store._open_first, timing.opening)
        except DatabaseFault as refusal:
            store._blame(refusal.fault)
        else:
            store._take(opened)
        store._flusher = asyncio.create_task(store._flush_for_ever(), name="store")
        return store

    def _take(self, opened: _Opened) -> None:
        self._database = opened.database
        self._documents = opened.contents.documents
        self._backlog = Backlog(opened.contents.last_entry)
        self.moved_aside = opened.moved_aside
        if opened.moved_aside is not None:
            self.opening = Opening.CORRUPT
            self._on_fault(StoreFault(FaultKind.CORRUPT, f"moved aside to {opened.moved_aside}"))
        else:
            self.opening = Opening.FOUND if self._documents else Opening.FRESH

    # --- what stands ------------------------------------------------------------------------

    @property
    def fault(self) -> StoreFault | None:
        """See `store.api.Store`."""
        return self._fault

    @property
    def last_entry(self) -> int:
        """See `store.api.Store`."""
        return self._backlog.last_entry

    @property
    def unwritten(self) -> Sequence[tuple[int, Entry]]:
        """See `store.api.Store`."""
        return self._backlog.waiting_entries()

    @property
    def waiting(self) -> int:
        """How many writes wait for the disk."""
        return len(self._backlog)

    @property
    def dropped(self) -> int:
        """How many writes gave way because too many waited."""
        return self._backlog.dropped

    def document(self, name: str) -> Document | None:
        """See `store.api.Store`."""
        return self._documents.get(name)

    def subscribe(self) -> FeedSubscription:
        """See `store.api.Store`."""
        return self._feed.subscribe()

    # --- changes ----------------------------------------------------------------------------

    async def commit(
        self,
        name: str,
        expected: int | None,
        document: Document,
        entries: Sequence[Entry],
        durability: Durability,
    ) -> bool:
        """See `store.api.Store`."""
        async with self._commits:
            standing = self._documents.get(name)
            version = None if standing is None else standing.version
            if version != expected:
                raise ConflictError(f"{name} is at version {version}, not {expected}")
            if durability is Durability.REQUIRED:
                await self._commit_on_disk(name, document, entries)
                return True
            self._stand(name, document)
            self._backlog.add_document(name, document, urgent=True)
            for entry in entries:
                self._backlog.add_entry(entry)
            self._tell(name, document.version)
        return await self._flush_soon(name)

    async def _commit_on_disk(self, name: str, document: Document, entries: Sequence[Entry]) -> None:
        async with self._disk:
            waiting = self._backlog.batch()
            numbered = self._backlog.number(entries)
            batch = replace(
                waiting,
                documents={**waiting.documents, name: document},
                entries=(*waiting.entries, *numbered),
                urgent=True,
            )
            if not await self._attempt(batch):
                self._backlog.give_up(numbered)
                self._backlog.add_document(name, self._documents.get(name), urgent=True)
                self._wake.set()
                raise NotDurableError(self._fault.detail if self._fault else "the store did not answer")
            self._backlog.written(waiting)
            self._backlog.forget_document(name)
        self._stand(name, document)
        self._tell(name, document.version)

    def _stand(self, name: str, document: Document) -> None:
        self._documents[name] = document

    def checkpoint(self, name: str, document: Document) -> None:
        """See `store.api.Store`. One of a version that moved meanwhile is ignored."""
        standing = self._documents.get(name)
        if standing is None or standing.version != document.version:
            return
        self._stand(name, document)
        self._backlog.add_document(name, document, urgent=False)
        self._wake.set()

    def append(self, entry: Entry) -> int:
        """See `store.api.Store`."""
        number = self._backlog.add_entry(entry)
        self._tell("", 0)
        self._wake.set()
        return number

    def add_ticks(self, ticks: Sequence[Tick]) -> None:
        """See `store.api.Store`."""
        self._backlog.add_ticks(ticks)
        self._wake.set()

    def _tell(self, name: str, version: int) -> None:
        self._feed.tell(Change(name, version, self._backlog.last_entry))

    # --- reading back -----------------------------------------------------------------------

    async def entries(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        """See `store.api.Store`. Raises StoreError if the disk does not answer."""
        waiting = [item for item in self._backlog.waiting_entries() if item[0] > after]
        written = await self._read(lambda database: database.entries(after, limit))
        return sorted(dict([*written, *waiting]).items())[:limit]

    async def newest(self, limit: int) -> list[tuple[int, Entry]]:
        """See `store.api.Store`. Raises StoreError if the disk does not answer."""
        waiting = self._backlog.waiting_entries()
        written = await self._read(lambda database: database.newest(limit))
        return sorted(dict([*written, *waiting]).items())[-limit:] if limit > 0 else []

    async def ticks(self, since: int, until: int) -> list[Tick]:
        """See `store.api.Store`. Raises StoreError if the disk does not answer."""
        waiting = [tick for tick in self._backlog.waiting_ticks() if since <= tick.at < until]
        written = await self._read(lambda database: database.ticks(since, until))
        by_key = {(tick.at, tick.span, tick.key): tick for tick in [*written, *waiting]}
        return sorted(by_key.values(), key=lambda tick: (tick.at, tick.span, tick.key))

    async def _read(self, query: Callable[[Database], list[T]]) -> list[T]:
        database = self._database
        if database is None:
            return []
        try:
            return await self._thread.run(lambda: query(database), self._timing.patience)
        except DatabaseFault as refusal:
            raise StoreError(refusal.fault.detail) from refusal

    # --- upkeep -----------------------------------------------------------------------------

    async def prune(self, now: float) -> None:
        """See `store.api.Store`."""
        database = self._database
        if database is None:
            return
        async with self._disk:
            with contextlib.suppress(DatabaseFault):  # a fault that lasts shows at the next write
                await self._thread.run(lambda: database.prune(now, self._retention), self._timing.patience)

    def size(self) -> int:
        """Bytes on disk."""
        return 0 if self._database is None else self._database.size()

    async def close(self) -> None:
        """See `store.api.Store`. Closing twice does no harm."""
        if self._flusher is None:
            return
        self._flusher.cancel()
        await asyncio.gather(self._flusher, return_exceptions=True)
        self._flusher = None
        if self._backlog:
            async with self._disk:
                batch = self._backlog.batch()
                if await self._attempt(batch):
                    self._backlog.written(batch)
        self._feed.close()
        self._thread.end(self._close_database)

    def _close_database(self) -> None:
        if self._database is not None:
            self._database.close()

    # --- the disk ---------------------------------------------------------------------------

    async def _flush_soon(self, name: str) -> bool:
        """Have the flusher write; True once this document is on disk, False if that has to wait."""

        def settled() -> bool:
            return not self._backlog.holds(name) or self._fault is not None

        async with self._flushed:
            self._wake.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.patience):
                    await self._flushed.wait_for(settled)
        return not self._backlog.holds(name)

    async def _flush_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._disk:
                batch = self._backlog.batch()
                written = not batch or await self._attempt(batch)
                if written:
                    self._backlog.written(batch)
            async with self._flushed:
                self._flushed.notify_all()
            if not written:
                self._wake.set()
                await asyncio.sleep(self._timing.retry)

    async def _attempt(self, batch: Batch) -> bool:
        """Write a batch, opening the file again where that is needed; False and a fault if refused."""
        try:
            standing = dict(self._documents)
            await self._thread.run(lambda: self._write(batch, standing), self._timing.patience)
        except DatabaseFault as refusal:
            self._blame(refusal.fault)
            return False
        self._fault = None
        return True

    def _blame(self, fault: StoreFault) -> None:
        new = self._fault is None or self._fault.kind is not fault.kind
        self._fault = fault
        if new:
            self._on_fault(fault)

    # --- on the thread ----------------------------------------------------------------------

    def _open_first(self) -> _Opened:
        try:
            database = Database(self.path)
        except DatabaseFault as refusal:
            if refusal.fault.kind is not FaultKind.CORRUPT:
                raise
            move_aside(self.path, self._now())
            database = Database(self.path)
        contents = database.contents()
        # By what lies there: an earlier start may have moved a file aside, and ended before it told anybody.
        return _Opened(database, contents, None if contents.documents else moved_aside(self.path))

    def _write(self, batch: Batch, standing: Mapping[str, Document]) -> None:
        try:
            if self._database is None:
                self._database = self._open_again()
                batch = replace(batch, documents={**standing, **batch.documents})
            self._database.write(batch)
        except DatabaseFault as refusal:
            if refusal.fault.kind in (FaultKind.CORRUPT, FaultKind.VANISHED) and self._database is not None:
                self._database.close()
                self._database = None
                if refusal.fault.kind is FaultKind.CORRUPT:
                    self.moved_aside = move_aside(self.path, self._now())
            raise

    def _open_again(self) -> Database:
        """A new file in place of one that is gone; one that is there and was not read is left alone."""
        try:
            exists = self.path.exists()
        except OSError as error:
            raise DatabaseFault(FaultKind.FAILED, f"{self.path}: {error.strerror}") from error
        if exists:
            raise DatabaseFault(
                FaultKind.UNREAD, f"{self.path} was not read at start: restart to go on from it"
            )
        return Database(self.path)
