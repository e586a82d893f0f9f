"""The rollout's SQLite file: documents, entries of the history, ticks; one transaction per batch.

Synchronous and for one thread. What the texts mean is not known here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from gateway.control.store.api import Document, Entry, Tick
from gateway.control.store.backlog import Batch
from gateway.control.store.file import Schema, SqliteFile, translated

FINE_KEPT = 48 * 3600
"""Seconds for which ticks are kept as fine as they came."""
COARSE_SPAN = 600
"""Seconds: older ticks are merged into rows of ten minutes."""
BUCKETS_PER_PRUNE = 36
"""Six hours of ticks merged at a time: a prune never holds the writer for long."""

_TABLES = """
CREATE TABLE documents (name TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (number INTEGER PRIMARY KEY, at REAL NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX entries_at ON entries (at);
CREATE TABLE ticks (
  at INTEGER NOT NULL, span INTEGER NOT NULL, key TEXT NOT NULL, sums TEXT NOT NULL,
  PRIMARY KEY (at, span, key)
) WITHOUT ROWID;
"""

SCHEMA = Schema(version=1, tables=_TABLES)


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
        self.file = SqliteFile(path, SCHEMA)
        self.connection = self.file.connection

    def __repr__(self) -> str:
        return f"<Database {self.path}>"

    def contents(self) -> Contents:
        """The documents and the number of the newest entry."""
        with translated(self.path):
            rows = self.connection.execute("SELECT name, version, body FROM documents")
            documents = {name: Document(version, body) for name, version, body in rows}
            (last,) = self.connection.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()
        return Contents(documents, last)

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction."""
        self.file.check_in_place()
        with self.file.transaction(durable=batch.urgent) as connection:
            execute = connection.execute
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
        with self.file.transaction(durable=False) as connection:
            self._merge_ticks(int(now) - FINE_KEPT)
            connection.execute(  # the newest stays, for the numbers go on from it
                "DELETE FROM entries WHERE at < ? AND number < (SELECT max(number) FROM entries)",
                (now - retention,),
            )
            connection.execute("DELETE FROM ticks WHERE at < ?", (int(now - retention),))
        self.file.give_back()

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
        return self.file.size()

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def _sum(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    total = dict(one)
    for name, value in other.items():
        total[name] = total.get(name, 0) + value
    return total
