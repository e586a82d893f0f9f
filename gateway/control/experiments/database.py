"""The SQLite file of experiments: participants' tables, ids of outcomes, ratings, what was in force when.

It is separate from the rollout's file, so that a million participants never delay a rollback. Synchronous
and for one thread. A batch is one transaction, so a sum and the id of its outcome are on disk together or
not at all. It does not know what the bytes and texts mean, but each piece of a table has a checksum, and
all checksums are verified when the file is opened.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.control.experiments.migration import CarriedOver
from gateway.control.store.api import FaultKind
from gateway.control.store.file import DatabaseFault, Schema, SqliteFile, translated
from gateway.core.results.journal import Changes

PARAMETERS = 500
"""Values in one statement: SQLite's oldest limit is 999."""
PRUNED_AT_ONCE = 20_000
"""Old ids dropped per look: it never holds the writer for long."""

PAGES, JOURNAL = PIECES = ("pages", "journal")
"""Names of the tables with the pieces that a participants' table is made of."""

_TABLES = """
CREATE TABLE outcomes (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, at REAL NOT NULL);
CREATE TABLE ratings (
  number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, at REAL NOT NULL, route TEXT NOT NULL,
  arm TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL
);
CREATE TABLE scenes (number INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""
_TABLES_OF_2 = """
CREATE TABLE experiments (id TEXT PRIMARY KEY, planned_day TEXT, final TEXT) WITHOUT ROWID;
CREATE TABLE heads (experiment TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pages (
  experiment TEXT NOT NULL, number INTEGER NOT NULL, checksum INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (experiment, number)
);
CREATE TABLE journal (
  experiment TEXT NOT NULL, number INTEGER NOT NULL, checksum INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (experiment, number)
);
"""


def _from_1(connection: sqlite3.Connection) -> None:
    """A participant was a row of its own, and a million of them took long to read."""
    for statement in ("ALTER TABLE experiments RENAME TO experiments_of_1", *_TABLES_OF_2.split(";")):
        connection.execute(statement)
    for name, metrics in connection.execute("SELECT id, metrics FROM experiments_of_1").fetchall():
        rows = connection.execute(
            "SELECT user, team, epoch, data FROM participants WHERE experiment = ? ORDER BY user, team",
            (name,),
        )
        carried = CarriedOver(rows, json.loads(metrics))
        _put(connection, PAGES, name, enumerate(carried.pages()))
        connection.execute("INSERT INTO heads VALUES (?, ?)", (name, carried.head()))
    connection.execute("INSERT INTO experiments SELECT id, planned_day, final FROM experiments_of_1")
    connection.execute("DROP TABLE experiments_of_1")
    connection.execute("DROP TABLE participants")


SCHEMA = Schema(
    version=2,
    tables=_TABLES + _TABLES_OF_2,
    migrations={1: _from_1},
    checked=("experiments", "heads", "pages", "journal", "ratings", "scenes"),
)
"""Ids of outcomes, of which there may be many millions, are not looked through at every start."""


@dataclass(frozen=True, slots=True)
class Rating:
    """An outcome of the rollout: a value of `metric` for an arm of a route.

    `id` is the hash of the outcome's, `at` the Unix second in which the gateway took it. `drawn_by` is the
    last version of a snapshot that drew users as this one was, None for the newest; `first` is True for
    a user's first one of the metric in the arm in ten minutes. These two are not stored: what is read from
    the file is not taken for a user's first, as nobody knows.
    """

    id: bytes
    at: float
    route: str
    arm: str
    metric: str
    value: float
    drawn_by: int | None = None
    first: bool = False


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the file has of an experiment beside its participants; the texts are JSON, None for none."""

    planned_day: str | None = None
    final: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes; to write it twice does no harm.

    `tables` is what changed in the participants' tables, by experiment; `ids` are hashes of outcomes' ids
    with Unix seconds. Experiments that begin anew are `forgotten` first: the participants of their last
    lives go.
    """

    tables: Mapping[str, Changes] = field(default_factory=dict)
    remembered: Mapping[str, Remembered] = field(default_factory=dict)
    ids: Sequence[tuple[bytes, float]] = ()
    ratings: Sequence[Rating] = ()
    scenes: Mapping[int, str] = field(default_factory=dict)
    durable: bool = False
    """True where the disk must have it before the write counts as done."""
    forgotten: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(
            self.tables or self.remembered or self.ids or self.ratings or self.scenes or self.forgotten
        )


class ExperimentsDatabase:
    """An open file. Every method raises `DatabaseFault` where SQLite or the system refuses."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it."""
        self.path = path
        self.file = SqliteFile(path, SCHEMA)
        self.connection = self.file.connection
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<ExperimentsDatabase {self.path}>"

    def _check(self) -> None:
        with translated(self.path):
            for table in PIECES:
                query = f"SELECT experiment, number, checksum, data FROM {table}"  # noqa: S608  # our own names
                for experiment, number, checksum, data in self.connection.execute(query):
                    if zlib.crc32(data) != checksum:
                        detail = f"{self.path}: {table} {number} of {experiment} is not what was written"
                        raise DatabaseFault(FaultKind.CORRUPT, detail)

    # --- reading ----------------------------------------------------------------------------

    def remembered(self) -> dict[str, Remembered]:
        """What is known of each experiment."""
        with translated(self.path):
            rows = self.connection.execute("SELECT id, planned_day, final FROM experiments").fetchall()
        return {name: Remembered(planned_day, final) for name, planned_day, final in rows}

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

    def head(self, experiment: str) -> str | None:
        """The head of an experiment's table; None where it has none."""
        with translated(self.path):
            found = self.connection.execute("SELECT body FROM heads WHERE experiment = ?", (experiment,))
            row = found.fetchone()
        return None if row is None else row[0]

    def pieces(self, table: str, experiment: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The next pages or entries of the journal (`table`) with numbers above `after`, in their order."""
        query = (
            f"SELECT number, data FROM {table} WHERE experiment = ? AND number > ?"  # noqa: S608  # our own names
            " ORDER BY number LIMIT ?"
        )
        with translated(self.path):
            return self.connection.execute(query, (experiment, after, limit)).fetchall()

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
        self.file.check_in_place()
        with self.file.transaction(durable=batch.durable):
            self._put(batch)

    def _put(self, batch: Batch) -> None:
        many = self.connection.executemany
        for table in ("heads", *PIECES):
            many(
                f"DELETE FROM {table} WHERE experiment = ?",  # noqa: S608  # our own names
                ((name,) for name in batch.forgotten),
            )
        for experiment, changes in batch.tables.items():
            self._put_table(experiment, changes)
        many(
            "INSERT OR REPLACE INTO experiments VALUES (?, ?, ?)",
            ((name, one.planned_day, one.final) for name, one in batch.remembered.items()),
        )
        many("INSERT OR IGNORE INTO outcomes (id, at) VALUES (?, ?)", batch.ids)
        many(
            "INSERT OR IGNORE INTO ratings (id, at, route, arm, metric, value) VALUES (?, ?, ?, ?, ?, ?)",
            ((one.id, one.at, one.route, one.arm, one.metric, one.value) for one in batch.ratings),
        )
        many("INSERT OR REPLACE INTO scenes VALUES (?, ?)", batch.scenes.items())

    def _put_table(self, experiment: str, changes: Changes) -> None:
        execute = self.connection.execute
        execute("INSERT OR REPLACE INTO heads VALUES (?, ?)", (experiment, changes.head))
        _put(self.connection, JOURNAL, experiment, [(changes.number, changes.entry)])
        _put(self.connection, PAGES, experiment, changes.pages.items())
        execute("DELETE FROM journal WHERE experiment = ? AND number <= ?", (experiment, changes.void))

    def prune(self, before: float) -> None:
        """Drop the oldest ids and ratings that came before Unix second `before`."""
        with translated(self.path):
            for table in ("outcomes", "ratings"):
                self.connection.execute(
                    f"DELETE FROM {table} WHERE at < ? AND number <"  # noqa: S608  # our own names
                    f" (SELECT coalesce(min(number), 0) FROM {table}) + ?",
                    (before, PRUNED_AT_ONCE),
                )
        self.file.give_back()

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def _put(
    connection: sqlite3.Connection, table: str, experiment: str, pieces: Iterable[tuple[int, bytes]]
) -> None:
    """Put pages or entries of the journal in place of those with the same numbers."""
    connection.executemany(
        f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)",  # noqa: S608  # our own names
        ((experiment, number, zlib.crc32(data), data) for number, data in pieces),
    )
