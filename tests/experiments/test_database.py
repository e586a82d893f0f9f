"""The experiments' file by itself: files of an earlier version, rot, and what a killed writer leaves."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.control.experiments.database import JOURNAL, PAGES, Batch, ExperimentsDatabase, Remembered
from gateway.control.experiments.file import FILE, ExperimentsFile
from gateway.control.store.api import FaultKind, StoreError
from gateway.control.store.file import DatabaseFault
from gateway.core.results.journal import PAGE
from gateway.core.results.participants import ParticipantTable
from gateway.core.results.tally import ERROR_RATE, RESPONSE_TIME, Tally
from gateway.model.records import FAILED, REQUEST
from tests.experiments.writer import ARRIVALS
from tests.support.participants import read_table

_TABLES_OF_1 = """
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
PRAGMA user_version=1;
"""


def filled(path: Path, users: int = 10) -> Tally:
    """A file with some participants; what they come to."""
    table = ParticipantTable(["control", "treatment"])
    with closing(ExperimentsDatabase(path)) as database:
        table.merge([(user, user % 2, REQUEST, 0.1 * user) for user in range(users)], {0: 0, 1: 1}, ())
        changes = table.take_changes()
        assert changes is not None
        database.write(Batch({"exp": changes}, {"exp": Remembered(final="{}")}))
    return table.tally()


# --- a file of version 1 ------------------------------------------------------------------------


def test_a_file_of_version_1_is_carried_over(tmp_path: Path) -> None:
    """Rows become pages and come to the same; what was remembered and acknowledged stays."""
    path, metrics = tmp_path / FILE, [RESPONSE_TIME, ERROR_RATE, "accuracy"]
    users = PAGE + 3
    table = ParticipantTable(["control", "treatment"], metrics=metrics)
    table.merge([(user, user % 2, REQUEST, 0.5 + user) for user in range(users)], {0: 0, 1: 1}, ())
    table.merge([(2**64 - 1, 0, REQUEST, FAILED)] * 300, {0: 0}, ())
    table.merge([(0, 0, 1, 0.1), (0, 0, 1, 0.2)], {0: 0}, ["accuracy"])
    table.begin_epoch(2, ["control"])
    table.merge([(1, 0, REQUEST, 0.25)], {0: 0}, ())
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_TABLES_OF_1)
        rows = [
            (user, ("control", "treatment")[user % 2], 1, struct.pack("=qdqd", 1, 0.5 + user, 1, 0.0))
            for user in range(1, users)
        ]
        rows.append((0, "control", 1, struct.pack("=qdqdqd", 1, 0.5, 1, 0.0, 2, 0.1 + 0.2)))
        rows.append((-1, "control", 1, struct.pack("=qdqd", 0, 0.0, 300, 300.0)))
        rows.append((1, "control", 0, struct.pack("=qdqd", 1, 0.25, 1, 0.0)))
        connection.executemany("INSERT INTO participants VALUES ('exp', ?, ?, ?, ?)", rows)
        connection.execute("INSERT INTO experiments VALUES ('exp', ?, 'day', NULL)", (json.dumps(metrics),))
        connection.execute("INSERT INTO outcomes VALUES (1, ?, 5.0)", (b"id",))
        connection.execute("INSERT INTO scenes VALUES (0, 'scene')")
        connection.commit()
    for _ in range(2):  # carried over once, and then simply there
        with closing(ExperimentsDatabase(path)) as database:
            carried = read_table(database, "exp")
            assert repr(carried.tally().find("control")) == repr(table.tally().find("control"))
            assert repr(carried.tally().find("treatment")) == repr(table.tally().find("treatment"))
            assert carried.is_participant(2**64 - 1, "control")
            assert carried.tally().arrivals == table.tally().arrivals
            assert database.remembered() == {"exp": Remembered(planned_day="day")}
            assert database.known([b"id", b"other"]) == {b"id"}
            assert database.scenes() == [(0, "scene")]
            tables = "SELECT name FROM sqlite_master WHERE name IN ('participants', 'experiments_of_1')"
            assert database.connection.execute(tables).fetchall() == []


def test_a_file_that_cannot_be_carried_over_is_left_as_it_was(tmp_path: Path) -> None:
    """Half-way is nowhere: what breaks in the middle undoes all of it."""
    path = tmp_path / FILE
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_TABLES_OF_1)
        connection.execute("INSERT INTO experiments (id, metrics) VALUES ('exp', '[\"response_time\"]')")
        connection.execute("CREATE TABLE pages (something)")
        connection.commit()
    with pytest.raises(DatabaseFault, match="pages already exists"):
        ExperimentsDatabase(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM experiments").fetchall() == [("exp",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


# --- rot ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [PAGES, JOURNAL])
def test_a_piece_that_is_not_what_was_written_is_found_at_the_start(tmp_path: Path, table: str) -> None:
    """SQLite sees no wrong bytes within a value; the checksum does."""
    path = tmp_path / FILE
    filled(path, PAGE)
    with closing(sqlite3.connect(path)) as connection:
        ((data,),) = connection.execute(f"SELECT data FROM {table}").fetchall()
        connection.execute(f"UPDATE {table} SET data = ?", (data[:-1] + b"\x01",))
        connection.commit()
    with pytest.raises(DatabaseFault, match="is not what was written") as refusal:
        ExperimentsDatabase(path)
    assert refusal.value.fault.kind is FaultKind.CORRUPT


async def test_what_could_not_be_read_is_not_written_over(tmp_path: Path) -> None:
    """Refused until a restart, whatever else goes wrong in between; what is there stays."""
    path = tmp_path / FILE
    tally = filled(path)
    file = await ExperimentsFile.open(path, time.time)
    file.refuse("no")
    with pytest.raises(StoreError):
        await file.read(lambda database: len(database.pieces("nothing", "exp", -1, 1)), 0)
    with pytest.raises(StoreError, match="no"):
        await file.write(Batch(forgotten=["exp"]))
    file.close()
    with closing(ExperimentsDatabase(path)) as database:
        assert read_table(database, "exp").tally() == tally


def test_forgetting_leaves_nothing_of_a_table(tmp_path: Path) -> None:
    """An experiment that begins anew begins at the first entry again."""
    path = tmp_path / FILE
    filled(path, PAGE)
    with closing(ExperimentsDatabase(path)) as database:
        database.write(Batch(forgotten=["exp"]))
        assert database.head("exp") is None
        assert database.pieces(PAGES, "exp", -1, 9) == database.pieces(JOURNAL, "exp", -1, 9) == []
        assert database.remembered() == {"exp": Remembered(final="{}")}


# --- kills --------------------------------------------------------------------------------------

KILLS, SAID = 2, 8
"""Writers, one after the other, and the writes that each vouches for before it is killed."""


def killed_writers(path: Path, kills: int) -> Iterator[int]:
    """What each of some writers, one after the other on the same file, said last before it was killed."""
    for _ in range(kills):
        command = [sys.executable, "-m", "tests.experiments.writer", str(path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(SAID)]
        os.kill(writer.pid, signal.SIGKILL)
        said += map(int, writer.stdout.read().split())
        writer.stdout.close()
        writer.wait()
        yield said[-1]


@pytest.mark.process
def test_a_kill_leaves_what_was_vouched_for_or_the_write_after_it(tmp_path: Path) -> None:
    """Pages, journal and totals are of one moment: added up anew they are the same to the last digit."""
    path = tmp_path / FILE
    for vouched in killed_writers(path, KILLS):
        with closing(ExperimentsDatabase(path)) as database:
            table, recounted = read_table(database, "exp"), read_table(database, "exp", recounted=True)
            (outcomes,) = database.connection.execute("SELECT count(*) FROM outcomes").fetchone()
        assert len(table) in (vouched, vouched + ARRIVALS)
        assert outcomes == len(table) / ARRIVALS
        assert repr(table.tally()) == repr(recounted.tally())
