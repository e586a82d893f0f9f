"""The experiments' file as the loop sees it: asynchronous, and every wait is limited.

A file that cannot be read at the start, or disappears later, is not overwritten. What is counted from
then on stays in memory, and the fault stays visible until a restart. A corrupt file is
moved aside at the start; then counting starts anew, and an alert says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gateway import logs
from gateway.control.experiments.database import Batch, ExperimentsDatabase
from gateway.control.store.api import FaultKind, StoreError, StoreFault
from gateway.control.store.file import DatabaseFault, move_aside
from gateway.control.store.thread import DiskThread

FILE = "experiments.sqlite3"
PATIENCE = 5.0
"""Seconds that a reader or a writer waits for the disk."""
OPENING = 60.0
"""Seconds that opening may take: a file of version 1 with a million participants is carried over once."""
_LASTING = frozenset((FaultKind.CORRUPT, FaultKind.VANISHED, FaultKind.UNREAD))

T = TypeVar("T")


class ExperimentsFile:
    """See the module. Make one with `open`, on the running loop."""

    def __init__(self, path: Path, now: Callable[[], float], patience: float = PATIENCE) -> None:
        self.path = path
        self.fault: StoreFault | None = None
        """What keeps it from writing now; None while all is well."""
        self._now = now
        self._patience = patience
        self._thread = DiskThread(path)
        self._database: ExperimentsDatabase | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<ExperimentsFile {self.path} fault={self.fault}>"

    @classmethod
    async def open(cls, path: Path, now: Callable[[], float], patience: float = PATIENCE) -> ExperimentsFile:
        """Open the file, or start without it: one always comes of this, if with a fault."""
        file = cls(path, now, patience)
        try:
            file._database = await file._thread.run(file._open, OPENING)
        except DatabaseFault as refusal:
            file._blame(StoreFault(FaultKind.UNREAD, f"{refusal.fault.detail}: not read, not written"))
        return file

    def _open(self) -> ExperimentsDatabase:
        try:
            return ExperimentsDatabase(self.path)
        except DatabaseFault as refusal:
            if refusal.fault.kind is not FaultKind.CORRUPT:
                raise
            moved = move_aside(self.path, self._now())
            logs.error("experiments", reason="the file was corrupt: results begin anew", moved_to=str(moved))
            return ExperimentsDatabase(self.path)

    async def read(self, query: Callable[[ExperimentsDatabase], T], default: T) -> T:
        """What a query finds; the default where there is no file to ask. Raises StoreError."""
        database = self._database
        if database is None:
            return default
        return await self._run(lambda: query(database))

    async def write(self, batch: Batch) -> None:
        """Write a batch, whole or not at all. Raises StoreError; the batch may then be written again."""
        database = self._database
        if database is None or (self.fault is not None and self.fault.kind in _LASTING):
            raise StoreError(self.fault.detail if self.fault is not None else f"{self.path} is closed")
        await self._run(lambda: database.write(batch))
        self.fault = None

    async def prune(self, retention: float) -> None:
        """Forget what came more than `retention` seconds ago. Raises StoreError."""
        database = self._database
        if database is not None:
            await self._run(lambda: database.prune(self._now() - retention))

    def refuse(self, reason: str) -> None:
        """Write nothing any more, until a restart: what is there could not be read."""
        self._blame(StoreFault(FaultKind.UNREAD, reason))

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await self._thread.run(work, self._patience)
        except DatabaseFault as refusal:
            self._blame(refusal.fault)
            raise StoreError(refusal.fault.detail) from refusal

    def _blame(self, fault: StoreFault) -> None:
        if self.fault is not None and self.fault.kind in _LASTING:
            return
        if self.fault is None or self.fault.kind is not fault.kind:
            logs.error("experiments", kind=fault.kind, reason=fault.detail)
        self.fault = fault

    def close(self) -> None:
        """Let go of the file. Closing twice does no harm."""
        if not self._closed:
            self._closed = True
            self._thread.end(self._close)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
