"""The SQLite file: its schema, its transactions, and what it says when something is wrong with it.

Synchronous and for one thread. Write-ahead logging, checked that it was granted; one transaction per
batch, so that a kill at any point leaves the file before or after it. SQLite's errors are translated
into `DatabaseFault` here and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.control.store.api import Document, Entry, FaultKind, StoreFault, Tick
from gateway.control.store.backlog import Batch

SCHEMA_VERSION = 1
BUSY_TIMEOUT = 1.0
"""Seconds to wait for somebody who reads the file with a tool of their own."""
FINE_SPAN, FINE_KEPT = 10, 48 * 3600
"""Seconds: ticks of ten seconds are kept for two days."""
COARSE_SPAN = 600
"""Seconds: older ticks are merged into ten minutes."""
BUCKETS_PER_PRUNE = 36
"""Six hours of ticks merged at a time: a prune never holds the writer for long."""

_SCHEMA = """
CREATE TABLE documents (name TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (number INTEGER PRIMARY KEY, at REAL NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX entries_at ON entries (at);
CREATE TABLE ticks (
  at INTEGER NOT NULL, span INTEGER NOT NULL, key TEXT NOT NULL, sums TEXT NOT NULL,
  PRIMARY KEY (at, span, key)
) WITHOUT ROWID;
"""

_KINDS = {
    sqlite3.SQLITE_FULL: FaultKind.FULL,
    sqlite3.SQLITE_READONLY: FaultKind.READ_ONLY,
    sqlite3.SQLITE_BUSY: FaultKind.LOCKED,
    sqlite3.SQLITE_LOCKED: FaultKind.LOCKED,
    sqlite3.SQLITE_CORRUPT: FaultKind.CORRUPT,
    sqlite3.SQLITE_NOTADB: FaultKind.CORRUPT,
}


class DatabaseFault(Exception):  # a state of the file rather than a mistake
    """The file refused; nothing was changed by what was asked."""

    def __init__(self, kind: FaultKind, detail: str) -> None:
        super().__init__(detail)
        self.fault = StoreFault(kind, detail)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite or the system says about the file at `path` into a DatabaseFault."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise DatabaseFault(_KINDS.get(code, FaultKind.FAILED), f"{path}: {error}") from error
    except OSError as error:
        raise DatabaseFault(FaultKind.FAILED, f"{path}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file held when it was opened."""

    documents: dict[str, Document]
    last_entry: int


class Database:
    """An open file. Every method raises `DatabaseFault` where SQLite or the system refuses."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it; checks the whole of it."""
        self.path = path
        with translated(path):
            created = not path.exists()
            if created:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self.connection.close()
                raise
            self._identity = identity_of(path)

    def __repr__(self) -> str:
        return f"<Database {self.path}>"

    def _prepare(self) -> None:
        execute = self.connection.execute
        (verdict,) = execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DatabaseFault(FaultKind.CORRUPT, f"{self.path}: {verdict}")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            detail = f"{self.path} is of version {version}, this gateway knows {SCHEMA_VERSION}"
            raise DatabaseFault(FaultKind.UNREAD, detail)
        if version == 0:
            execute("PRAGMA auto_vacuum=INCREMENTAL")
        (mode,) = execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise DatabaseFault(FaultKind.FAILED, f"{self.path}: the file system grants no write-ahead log")
        if version == 0:
            self.connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")

    def contents(self) -> Contents:
        """The documents and the number of the newest entry."""
        with translated(self.path):
            rows = self.connection.execute("SELECT name, version, body FROM documents")
            documents = {name: Document(version, body) for name, version, body in rows}
            (last,) = self.connection.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()
        return Contents(documents, last)

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction."""
        if identity_of(self.path) != self._identity:
            raise DatabaseFault(FaultKind.VANISHED, f"{self.path} is gone or replaced")
        with translated(self.path):
            # FULL waits for the disk; sums may be lost with the power, never with the process.
            self.connection.execute(f"PRAGMA synchronous={'FULL' if batch.urgent else 'NORMAL'}")
        with self._transaction() as execute:
            for number in batch.void:
                execute("DELETE FROM entries WHERE number = ?", (number,))
            for number, entry in batch.entries:
                row = (number, entry.at, entry.type, entry.body)
                execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", row)
            for name, document in batch.documents.items():
                self._put_document(name, document)
            for tick in batch.ticks:
                self._put_tick(tick)

    def _put_document(self, name: str, document: Document | None) -> None:
        execute = self.connection.execute
        if document is None:
            execute("DELETE FROM documents WHERE name = ?", (name,))
        else:
            row = (name, document.version, document.body)
            execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", row)

    def _put_tick(self, tick: Tick) -> None:
        row = (tick.at, tick.span, tick.key, json.dumps(dict(tick.sums), separators=(",", ":")))
        self.connection.execute("INSERT OR REPLACE INTO ticks VALUES (?, ?, ?, ?)", row)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with translated(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection.execute
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    def entries(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        """Entries numbered above `after`, oldest first."""
        return self._entries("WHERE number > ? ORDER BY number LIMIT ?", (after, limit))

    def newest(self, limit: int) -> list[tuple[int, Entry]]:
        """The newest entries, newest last."""
        return self._entries("ORDER BY number DESC LIMIT ?", (limit,))[::-1]

    def _entries(self, clause: str, values: tuple[int, ...]) -> list[tuple[int, Entry]]:
        query = f"SELECT number, at, type, body FROM entries {clause}"  # noqa: S608  # our own constants
        with translated(self.path):
            rows = self.connection.execute(query, values).fetchall()
        return [(number, Entry(at, kind, body)) for number, at, kind, body in rows]

    def ticks(self, since: int, until: int) -> list[Tick]:
        """Sums that begin in [since, until), oldest first."""
        with translated(self.path):
            rows = self.connection.execute(
                "SELECT at, span, key, sums FROM ticks WHERE at >= ? AND at < ? ORDER BY at", (since, until)
            ).fetchall()
        return [Tick(at, span, key, json.loads(sums)) for at, span, key, sums in rows]

    def prune(self, now: float, retention: float) -> None:
        """Merge fine ticks that are old, and drop what is older than `retention` seconds."""
        with self._transaction() as execute:
            self._merge_ticks(int(now) - FINE_KEPT)
            execute(  # the newest stays, for the numbers go on from it
                "DELETE FROM entries WHERE at < ? AND number < (SELECT max(number) FROM entries)",
                (now - retention,),
            )
            execute("DELETE FROM ticks WHERE at < ?", (int(now - retention),))
        with translated(self.path):
            self.connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()

    def _merge_ticks(self, before: int) -> None:
        execute = self.connection.execute
        (first,) = execute("SELECT min(at) FROM ticks WHERE span < ?", (COARSE_SPAN,)).fetchone()
        if first is None:
            return
        begin = first - first % COARSE_SPAN
        end = min(before - before % COARSE_SPAN, begin + BUCKETS_PER_PRUNE * COARSE_SPAN)
        fine = execute(
            "SELECT at, key, sums FROM ticks WHERE span < ? AND at >= ? AND at < ?", (COARSE_SPAN, begin, end)
        ).fetchall()
        merged: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
        coarse = execute(
            "SELECT at, key, sums FROM ticks WHERE span = ? AND at >= ? AND at < ?", (COARSE_SPAN, begin, end)
        ).fetchall()
        for at, key, sums in (*coarse, *fine):
            bucket = (at - at % COARSE_SPAN, key)
            merged[bucket] = _sum(merged[bucket], json.loads(sums))
        execute("DELETE FROM ticks WHERE span < ? AND at >= ? AND at < ?", (COARSE_SPAN, begin, end))
        for (at, key), total in merged.items():
            self._put_tick(Tick(at, COARSE_SPAN, key, total))

    def size(self) -> int:
        """Bytes of the file and its log."""
        total = 0
        for name in (self.path, _beside(self.path, "-wal")):
            with contextlib.suppress(OSError):
                total += name.stat().st_size
        return total

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()


def _sum(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    total = dict(one)
    for name, value in other.items():
        total[name] = total.get(name, 0) + value
    return total


def identity_of(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one in its place; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


_ASIDE = ".corrupt-"


def move_aside(path: Path, now: float) -> Path:
    """Put a file that cannot be trusted, with its log, out of the way; where it is now.

    Raises DatabaseFault if it cannot be moved.
    """
    target = _beside(path, f"{_ASIDE}{int(now)}")
    with translated(path):
        # The file goes first: should we end here, it is never read again without its log.
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(_beside(path, suffix), _beside(target, suffix))
    return target


def moved_aside(path: Path) -> Path | None:
    """The newest file that was put out of the way of `path`, if there is one."""
    with translated(path):
        named = [(file.name.removeprefix(path.name + _ASIDE), file) for file in path.parent.iterdir()]
    found = [(int(at), file) for at, file in named if at.isdigit()]
    return max(found, default=(0, None))[1]
