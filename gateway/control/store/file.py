"""A SQLite file and how it is opened: created, checked, migrated, in write-ahead logging.

Synchronous and for one thread. A transaction is complete or absent, so a kill at any point leaves
the file before it or after it. Only here are errors of SQLite and the system translated, into
`DatabaseFault`. Its owner knows what is in the file; see `Schema`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.control.store.api import FaultKind, StoreFault

BUSY_TIMEOUT = 1.0
"""Seconds to wait for somebody who reads the file with a tool of their own."""
CACHE = 500
"""Kibibytes of the file that SQLite keeps in memory: the system's own cache is as near."""
VACUUMED_AT_ONCE = 1000
"""Free pages given back at a time: four megabytes."""

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


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file is to hold.

    `tables` is SQL that makes a new file one of `version` (from 1). `migrations` bring an older one a
    version further: from the version that is their key. `checked` are the tables whose structure is
    checked whenever the file is opened, () for all of them.
    """

    version: int
    tables: str
    migrations: Mapping[int, Callable[[sqlite3.Connection], None]] = field(default_factory=dict)
    checked: Sequence[str] = ()


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


class SqliteFile:
    """An open file. Every method raises `DatabaseFault` where SQLite or the system refuses."""

    def __init__(self, path: Path, schema: Schema) -> None:
        """Open the file, or create it."""
        self.path = path
        with translated(path):
            if not path.exists():
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                self._prepare(schema)
            except BaseException:
                self.connection.close()
                raise
            self._identity = _identity_of(path)

    def __repr__(self) -> str:
        return f"<SqliteFile {self.path}>"

    def _prepare(self, schema: Schema) -> None:
        execute = self.connection.execute
        (version,) = execute("PRAGMA user_version").fetchone()
        self._check(schema.checked if version == schema.version else ())
        if version not in (0, schema.version, *schema.migrations):
            detail = f"{self.path} is of version {version}, this gateway knows {schema.version}"
            raise DatabaseFault(FaultKind.UNREAD, detail)
        if version == 0:
            execute("PRAGMA auto_vacuum=INCREMENTAL")
        execute(f"PRAGMA cache_size=-{CACHE}")
        (mode,) = execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise DatabaseFault(FaultKind.FAILED, f"{self.path}: the file system grants no write-ahead log")
        if version == 0:
            self.connection.executescript(
                f"BEGIN; {schema.tables} PRAGMA user_version={schema.version}; COMMIT;"
            )
        else:
            self._migrate(version, schema)

    def _check(self, tables: Sequence[str]) -> None:
        for what in tables or ("1",):  # a number is how many mistakes are told at most
            (verdict,) = self.connection.execute(f"PRAGMA quick_check({what})").fetchone()
            if verdict != "ok":
                raise DatabaseFault(FaultKind.CORRUPT, f"{self.path}: {verdict}")

    def _migrate(self, version: int, schema: Schema) -> None:
        for older in range(version, schema.version):
            with self.transaction(durable=True):
                schema.migrations[older](self.connection)
                self.connection.execute(f"PRAGMA user_version={older + 1}")

    @contextlib.contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """A transaction, undone whole where something goes wrong in it.

        `durable` waits for the disk; else it may be lost with the power, but never with the process.
        """
        with translated(self.path):
            self.connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    def check_in_place(self) -> None:
        """Refuse to write where the file was deleted or replaced under us."""
        if _identity_of(self.path) != self._identity:
            raise DatabaseFault(FaultKind.VANISHED, f"{self.path} is gone or replaced")

    def give_back(self) -> None:
        """Give some of the file's free pages back to the system."""
        with translated(self.path):
            self.connection.execute(f"PRAGMA incremental_vacuum({VACUUMED_AT_ONCE})").fetchall()

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


def _identity_of(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one in its place; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
