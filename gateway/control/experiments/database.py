"""The experiments' SQLite file: participants' sums, ids of outcomes, ratings, what was in force when.

A file beside the rollout's, so that a million participants never make a rollback wait. Synchronous and
for one thread; a batch is one transaction, so that a sum and the id of the outcome in it are on disk
together or not at all. What the numbers and texts mean is not known here.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from gateway.control.store.api import FaultKind
from gateway.control.store.database import BUSY_TIMEOUT, DatabaseFault, identity_of, translated
from gateway.core.results.participants import StoredRow

SCHEMA_VERSION = 1
PARAMETERS = 500
"""Values in one statement: SQLite's oldest limit is 999."""
PRUNED_AT_ONCE = 20_000
"""Old ids dropped per look: it never holds the writer for long."""

_SCHEMA = """
CREATE TABLE experiments (
  id TEXT PRIMARY KEY, metrics TEXT NOT NULL DEFAULT '[]', planned_day TEXT, final TEXT
) WITHOUT ROWID;
CREATE TABLE participants (
  experiment TEXT NOT NULL, user INTEGER NOT NULL, team TEXT NOT NULL,
  epoch INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (experiment, user, team)
) WITHOUT ROWID;
CREATE TABLE outcomes (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, at REAL NOT NULL);
CREATE TABLE ratings (
  number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, at REAL NOT NULL, route TEXT NOT NULL,
  arm TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL
);
CREATE TABLE scenes (number INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""


Row: TypeAlias = tuple[int, str, int, bytes]
"""A `StoredRow` as SQLite hands it out: a million of them are read at a restart."""


@dataclass(frozen=True, slots=True)
class Rating:
    """An outcome of the rollout: a value of `metric` for an arm of a route.

    `id` is the hash of the outcome's, `at` the Unix second in which the gateway took it.
    """

    id: bytes
    at: float
    route: str
    arm: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the file has of an experiment beside its participants; the texts are JSON, None for none."""

    metrics: tuple[str, ...] = ()
    planned_day: str | None = None
    final: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes; to write it twice does no harm.

    `rows` are participants by experiment; `ids` are hashes of outcomes' ids with Unix seconds. Experiments
    that begin anew are `forgotten` first: the participants of their last lives go.
    """

    rows: Mapping[str, Sequence[StoredRow]] = field(default_factory=dict)
    remembered: Mapping[str, Remembered] = field(default_factory=dict)
    ids: Sequence[tuple[bytes, float]] = ()
    ratings: Sequence[Rating] = ()
    scenes: Mapping[int, str] = field(default_factory=dict)
    durable: bool = False
    """True where the disk must have it before the write counts as done."""
    forgotten: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(self.rows or self.remembered or self.ids or self.ratings or self.scenes or self.forgotten)


class ExperimentsDatabase:
    """An open file. Every method raises `DatabaseFault` where SQLite or the system refuses."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it."""
        self.path = path
        with translated(path):
            if not path.exists():
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self.connection.close()
                raise
            self._identity = identity_of(path)

    def __repr__(self) -> str:
        return f"<ExperimentsDatabase {self.path}>"

    def _prepare(self) -> None:
        execute = self.connection.execute
        (version,) = execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            detail = f"{self.path} is of version {version}, this gateway knows {SCHEMA_VERSION}"
            raise DatabaseFault(FaultKind.UNREAD, detail)
        (mode,) = execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise DatabaseFault(FaultKind.FAILED, f"{self.path}: the file system grants no write-ahead log")
        if version == 0:
            self.connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")

    # --- reading ----------------------------------------------------------------------------

    def remembered(self) -> dict[str, Remembered]:
        """What is known of each experiment."""
        with translated(self.path):
            rows = self.connection.execute(
                "SELECT id, metrics, planned_day, final FROM experiments"
            ).fetchall()
        return {
            name: Remembered(tuple(json.loads(metrics)), planned_day, final)
            for name, metrics, planned_day, final in rows
        }

    def scenes(self) -> list[tuple[int, str]]:
        """Every scene with its number, oldest first."""
        with translated(self.path):
            return self.connection.execute("SELECT number, body FROM scenes ORDER BY number").fetchall()

    def ratings(self, since: float) -> list[Rating]:
        """The ratings after Unix second `since`, in the order in which they came."""
        with translated(self.path):
            rows = self.connection.execute(
                "SELECT id, at, route, arm, metric, value FROM ratings WHERE at > ? ORDER BY number",
                (since,),
            ).fetchall()
        return [Rating(*row) for row in rows]

    def participants(self, experiment: str, after: Row | None, limit: int) -> list[Row]:
        """The next rows of an experiment, in the order of users and groups."""
        user, group = after[:2] if after is not None else (-(2**63), "")
        with translated(self.path):
            return self.connection.execute(
                "SELECT user, team, epoch, data FROM participants"
                " WHERE experiment = ? AND (user, team) > (?, ?) ORDER BY user, team LIMIT ?",
                (experiment, user, group, limit),
            ).fetchall()

    def known(self, ids: Sequence[bytes]) -> set[bytes]:
        """Those of the ids that are there already."""
        found: set[bytes] = set()
        with translated(self.path):
            for start in range(0, len(ids), PARAMETERS):
                part = ids[start : start + PARAMETERS]
                marks = ",".join("?" * len(part))
                query = f"SELECT id FROM outcomes WHERE id IN ({marks})"  # noqa: S608  # question marks only
                found.update(name for (name,) in self.connection.execute(query, part))
        return found

    # --- writing ----------------------------------------------------------------------------

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction."""
        if identity_of(self.path) != self._identity:
            raise DatabaseFault(FaultKind.VANISHED, f"{self.path} is gone or replaced")
        with translated(self.path):
            self.connection.execute(f"PRAGMA synchronous={'FULL' if batch.durable else 'NORMAL'}")
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                self._put(batch)
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    def _put(self, batch: Batch) -> None:
        many = self.connection.executemany
        many("DELETE FROM participants WHERE experiment = ?", ((name,) for name in batch.forgotten))
        for experiment, rows in batch.rows.items():
            many(
                "INSERT OR REPLACE INTO participants VALUES (?, ?, ?, ?, ?)",
                ((experiment, *row) for row in rows),
            )
        many(
            "INSERT OR REPLACE INTO experiments VALUES (?, ?, ?, ?)",
            (
                (name, json.dumps(one.metrics), one.planned_day, one.final)
                for name, one in batch.remembered.items()
            ),
        )
        many("INSERT OR IGNORE INTO outcomes (id, at) VALUES (?, ?)", batch.ids)
        many(
            "INSERT OR IGNORE INTO ratings (id, at, route, arm, metric, value) VALUES (?, ?, ?, ?, ?, ?)",
            ((one.id, one.at, one.route, one.arm, one.metric, one.value) for one in batch.ratings),
        )
        many("INSERT OR REPLACE INTO scenes VALUES (?, ?)", batch.scenes.items())

    def prune(self, before: float) -> None:
        """Drop the oldest ids and ratings that came before Unix second `before`."""
        with translated(self.path):
            for table in ("outcomes", "ratings"):
                self.connection.execute(
                    f"DELETE FROM {table} WHERE at < ? AND number <"  # noqa: S608  # our own names
                    f" (SELECT coalesce(min(number), 0) FROM {table}) + ?",
                    (before, PRUNED_AT_ONCE),
                )

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()
