"""The SQLite store: what stands, what is kept, and what happens when the disk refuses."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.control.store import file as file_module
from gateway.control.store.api import (
    Change,
    ConflictError,
    Document,
    Entry,
    FaultKind,
    NotDurableError,
    Opening,
    StoreFault,
    Tick,
)
from gateway.control.store.backlog import Batch
from gateway.control.store.database import Database
from gateway.control.store.file import move_aside
from gateway.control.store.sqlite import SqliteStore, Timing
from gateway.model.rollout import Durability
from tests.store.conftest import QUICK, Opener
from tests.support.polling import soon

REQUIRED, BEST_EFFORT = Durability.REQUIRED, Durability.BEST_EFFORT


def doc(version: int) -> Document:
    """A document that says its version."""
    return Document(version, f'{{"version":{version}}}')


def entry(number: int, at: float = 1e9) -> Entry:
    """An entry that says its number."""
    return Entry(at, "test", str(number))


def database_of(store: SqliteStore) -> Database:
    """The open file, to put something in its way."""
    assert store._database is not None
    return store._database


async def in_thread(store: SqliteStore, work: Callable[[Database], object]) -> None:
    """Do something to the file on the store's own thread."""
    database = database_of(store)
    await asyncio.get_running_loop().run_in_executor(store._thread.executor, lambda: work(database))


@pytest.mark.parametrize("durability", Durability)
async def test_what_is_committed_is_there_after_a_restart(open_store: Opener, durability: Durability) -> None:
    """Document and entries come back as they were, and the numbers go on."""
    store = await open_store()
    assert store.opening is Opening.FRESH
    assert await store.commit("rollout", None, doc(1), [entry(1), entry(2)], durability)
    await store.close()
    again = await open_store()
    assert again.opening is Opening.FOUND
    assert again.document("rollout") == doc(1)
    assert await again.entries(0, 10) == [(1, entry(1)), (2, entry(2))]
    assert again.append(entry(3)) == 3


async def test_a_commit_for_another_version_is_refused(open_store: Opener) -> None:
    """Compare-and-set: of two changes to one version only the first stands."""
    store = await open_store()
    await store.commit("rollout", None, doc(1), [], REQUIRED)
    for expected in (None, 0, 2):
        with pytest.raises(ConflictError):
            await store.commit("rollout", expected, doc(9), [entry(1)], BEST_EFFORT)
    assert store.document("rollout") == doc(1)
    assert store.last_entry == 0


async def test_of_concurrent_commits_to_one_version_one_stands(open_store: Opener) -> None:
    """The lock is around check and change."""
    store = await open_store()
    results = await asyncio.gather(
        *(store.commit("rollout", None, doc(1), [entry(n)], REQUIRED) for n in range(5)),
        return_exceptions=True,
    )
    assert sum(result is True for result in results) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 4
    assert len(await store.entries(0, 10)) == 1


async def test_a_checkpoint_keeps_the_version_and_an_old_one_is_ignored(open_store: Opener) -> None:
    """Clocks are kept without an event; those of a version that moved on are not."""
    store = await open_store()
    await store.commit("rollout", None, doc(1), [], REQUIRED)
    store.checkpoint("rollout", Document(1, '"later"'))
    store.checkpoint("rollout", Document(0, '"stale"'))
    await store.close()
    assert (await open_store()).document("rollout") == Document(1, '"later"')


async def test_the_file_is_the_owners_alone_and_keeps_a_write_ahead_log(
    open_store: Opener, path: Path
) -> None:
    """Mode 600, journal mode WAL, and commits that wait for the disk."""
    store = await open_store()
    await store.commit("rollout", None, doc(1), [], REQUIRED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pragmas: list[object] = []
    for name in ("journal_mode", "synchronous"):
        await in_thread(
            store, lambda db, name=name: pragmas.append(db.connection.execute(f"PRAGMA {name}").fetchone()[0])
        )
    assert pragmas == ["wal", 2]
    assert store.size() > 0


async def test_a_file_system_without_write_ahead_log_is_a_fault(
    open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLite grants is checked, not assumed: an in-memory database has no such log."""
    connect = sqlite3.connect
    monkeypatch.setattr(
        file_module.sqlite3, "connect", lambda path, **options: connect(":memory:", **options)
    )
    store = await open_store()
    assert store.fault is not None
    assert "write-ahead log" in store.fault.detail


class TestFullDisk:
    """The disk refuses to grow the file."""

    @staticmethod
    def fill(database: Database) -> None:
        """Let SQLite believe that the disk ends here."""
        (pages,) = database.connection.execute("PRAGMA page_count").fetchone()
        database.connection.execute(f"PRAGMA max_page_count={pages}")

    @staticmethod
    def empty(database: Database) -> None:
        """Make room again."""
        database.connection.execute("PRAGMA max_page_count=1000000")

    async def test_a_best_effort_change_stands_in_memory_and_is_written_later(
        self, open_store: Opener, faults: list[StoreFault]
    ) -> None:
        """A rollback does not wait for the disk; the fault is there for everybody to see."""
        store = await open_store()
        await in_thread(store, self.fill)
        big = Document(1, '"' + "x" * 100_000 + '"')
        assert not await store.commit("rollout", None, big, [entry(1)], BEST_EFFORT)
        assert store.document("rollout") == big
        assert store.fault is not None
        assert store.fault.kind is FaultKind.FULL
        assert [fault.kind for fault in faults] == [FaultKind.FULL]
        assert await store.newest(5) == [(1, entry(1))]
        await in_thread(store, self.empty)
        await soon(lambda: store.fault is None and store.waiting == 0)
        await store.close()
        again = await open_store()
        assert again.document("rollout") == big
        assert await again.entries(0, 5) == [(1, entry(1))]

    async def test_a_change_that_must_be_durable_does_not_stand(self, open_store: Opener) -> None:
        """An advance that cannot be written did not happen, on disk as in memory."""
        store = await open_store()
        await store.commit("rollout", None, doc(1), [entry(1)], REQUIRED)
        await in_thread(store, self.fill)
        with pytest.raises(NotDurableError):
            await store.commit("rollout", 1, Document(2, '"' + "x" * 100_000 + '"'), [entry(2)], REQUIRED)
        assert store.document("rollout") == doc(1)
        await in_thread(store, self.empty)
        await soon(lambda: store.waiting == 0)
        await store.close()
        again = await open_store()
        assert again.document("rollout") == doc(1)
        assert [item for _, item in await again.entries(0, 5)] == [entry(1)]


async def test_a_read_only_file_is_a_fault_until_it_is_writable(open_store: Opener) -> None:
    """The same for a file system that turned read-only."""
    store = await open_store()
    await in_thread(store, lambda db: db.connection.execute("PRAGMA query_only=1"))
    assert not await store.commit("rollout", None, doc(1), [], BEST_EFFORT)
    assert store.fault is not None
    assert store.fault.kind is FaultKind.READ_ONLY
    await in_thread(store, lambda db: db.connection.execute("PRAGMA query_only=0"))
    await soon(lambda: store.fault is None and store.waiting == 0)


async def test_a_locked_file_is_a_fault_until_it_is_free(
    open_store: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody looks at the file with a tool of their own and forgets a transaction."""
    monkeypatch.setattr(file_module, "BUSY_TIMEOUT", 0.01)
    store = await open_store()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not await store.commit("rollout", None, doc(1), [], BEST_EFFORT)
    assert store.fault is not None
    assert store.fault.kind is FaultKind.LOCKED
    other.execute("ROLLBACK")
    other.close()
    await soon(lambda: store.fault is None and store.waiting == 0)


@pytest.mark.parametrize("junk", [b"no database at all, but long enough to be read as one" * 50, b"short"])
async def test_a_corrupt_file_is_moved_aside_and_told(
    open_store: Opener, path: Path, faults: list[StoreFault], junk: bytes
) -> None:
    """The evidence is kept, the store begins afresh, and its owner is told so that it can latch."""
    path.write_bytes(junk)
    store = await open_store()
    assert store.opening is Opening.CORRUPT
    assert store.moved_aside == path.with_name(path.name + ".corrupt-1000000000")
    assert store.moved_aside.read_bytes() == junk
    assert [fault.kind for fault in faults] == [FaultKind.CORRUPT]
    assert await store.commit("rollout", None, doc(1), [], REQUIRED)


@pytest.mark.parametrize("successor", [False, True], ids=["no file", "an empty file"])
async def test_a_start_that_ended_between_moving_aside_and_telling_is_caught_up_with(
    open_store: Opener, path: Path, faults: list[StoreFault], successor: bool
) -> None:
    """What was lost is lost for the next start too: nothing there is not the same as nothing before."""
    path.write_bytes(b"rotten" * 1000)
    older = move_aside(path, 999.0)
    path.write_bytes(b"rotten" * 1000)
    aside = move_aside(path, 1000.0)
    if successor:
        Database(path).close()
    store = await open_store()
    assert (store.opening, store.moved_aside) == (Opening.CORRUPT, aside)
    assert [fault.kind for fault in faults] == [FaultKind.CORRUPT]
    assert older.exists()
    assert await store.commit("rollout", None, doc(1), [], REQUIRED)
    await store.close()
    assert (await open_store()).opening is Opening.FOUND


async def test_a_file_is_moved_aside_before_its_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in between, the file must not be read without what the log held."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"rotten")
    moved: list[str] = []
    rename = os.rename

    def note(source: Path, target: Path) -> None:
        moved.append(source.name)
        rename(source, target)

    monkeypatch.setattr(os, "rename", note)
    move_aside(path, 1000.0)
    assert moved == [path.name, f"{path.name}-wal", f"{path.name}-shm"]


async def test_a_file_that_rots_while_in_use_is_replaced_by_what_is_in_memory(
    open_store: Opener, path: Path, faults: list[StoreFault]
) -> None:
    """The documents are known, so only history is lost, and nobody needs to restart."""
    store = await open_store()
    await store.commit("rollout", None, doc(1), [], REQUIRED)
    await store.commit("other", None, doc(7), [], REQUIRED)
    await in_thread(store, lambda db: db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    await in_thread(store, lambda db: db.connection.execute("PRAGMA shrink_memory"))
    await store.commit("rollout", 1, doc(2), [entry(1)], BEST_EFFORT)
    await soon(lambda: store.fault is None and store.waiting == 0)
    assert [fault.kind for fault in faults] == [FaultKind.CORRUPT]
    await store.close()
    again = await open_store()
    assert (again.document("rollout"), again.document("other")) == (doc(2), doc(7))


async def test_a_file_that_was_deleted_is_written_again(open_store: Opener, path: Path) -> None:
    """Otherwise the state would go on living in a file without a name, and end with the process."""
    store = await open_store()
    await store.commit("other", None, doc(7), [], REQUIRED)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    await store.commit("rollout", None, doc(1), [], BEST_EFFORT)
    await soon(lambda: store.fault is None and store.waiting == 0)
    await store.close()
    again = await open_store()
    assert (again.document("rollout"), again.document("other")) == (doc(1), doc(7))


async def test_a_file_of_a_later_version_is_left_alone(open_store: Opener, path: Path) -> None:
    """What cannot be read is not written over: the operator may still go back."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = path.read_bytes()
    store = await open_store()
    assert store.opening is Opening.UNREAD
    assert not await store.commit("rollout", None, doc(1), [], BEST_EFFORT)
    assert store.document("rollout") == doc(1)
    assert store.fault is not None
    assert store.fault.kind is FaultKind.UNREAD
    assert path.read_bytes() == before


async def test_a_missing_directory_is_a_fault_until_it_is_there(open_store: Opener, path: Path) -> None:
    """The gateway serves without its state; what happened meanwhile is written once it can be."""
    path.parent.rmdir()
    store = await open_store()
    assert store.opening is Opening.UNREAD
    assert not await store.commit("rollout", None, doc(1), [entry(1)], BEST_EFFORT)
    path.parent.mkdir()
    await soon(lambda: store.fault is None and store.waiting == 0)
    await store.close()
    assert (await open_store()).document("rollout") == doc(1)


async def test_a_disk_that_hangs_costs_the_caller_its_patience_and_no_more(open_store: Opener) -> None:
    """An emergency is not kept waiting; the write comes when the disk is back."""
    store = await open_store()
    store._timing = Timing(patience=0.02, retry=0.01)
    release = threading.Event()
    hang = store._thread.executor.submit(release.wait, 5)
    assert not await store.commit("rollout", None, doc(1), [entry(1)], BEST_EFFORT)
    await soon(lambda: store.fault is not None and store.fault.kind is FaultKind.SLOW)
    with pytest.raises(NotDurableError):
        await store.commit("rollout", 1, doc(2), [entry(2)], REQUIRED)
    release.set()
    hang.result(5)
    await soon(lambda: store.fault is None and store.waiting == 0)
    assert store.document("rollout") == doc(1)
    assert [item for _, item in await store.entries(0, 5)] == [entry(1)]


async def test_a_change_that_was_given_up_does_not_stand_though_the_disk_takes_it_late(
    open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller was told no: the late write is taken back, and the number is not used again."""
    store = await open_store()
    await store.commit("rollout", None, doc(1), [entry(1)], REQUIRED)
    released, write = threading.Event(), Database.write

    def write_late(database: Database, batch: Batch) -> None:
        released.wait(5)
        write(database, batch)

    monkeypatch.setattr(Database, "write", write_late)
    store._timing = Timing(patience=0.02, retry=0.01)
    with pytest.raises(NotDurableError):
        await store.commit("rollout", 1, doc(2), [entry(2)], REQUIRED)
    released.set()
    store._timing = QUICK
    await store.commit("other", None, doc(1), [entry(3)], BEST_EFFORT)
    await soon(lambda: store.waiting == 0)
    await store.close()
    again = await open_store()
    assert again.document("rollout") == doc(1)
    assert await again.entries(0, 5) == [(1, entry(1)), (3, entry(3))]


async def test_ticks_are_kept_and_merged_when_they_are_old(open_store: Opener) -> None:
    """Ten-second sums for two days, ten-minute sums after that: nothing is lost but detail."""
    store = await open_store()
    now = 1_000_000_200
    old = now - 3 * 86_400
    old -= old % 600
    fine = [Tick(old + 10 * n, 10, "canary", {"requests": 1, f"bucket:{n % 3}": 2}) for n in range(120)]
    recent = Tick(now - 60, 10, "canary", {"requests": 5})
    store.add_ticks([*fine, recent])
    await soon(lambda: store.waiting == 0)
    await store.prune(now)
    thirds = {f"bucket:{n}": 40 for n in range(3)}
    assert await store.ticks(0, now + 1) == [
        Tick(old, 600, "canary", {"requests": 60, **thirds}),
        Tick(old + 600, 600, "canary", {"requests": 60, **thirds}),
        recent,
    ]


async def test_what_is_older_than_the_retention_goes(open_store: Opener) -> None:
    """But for the newest entry, from which the numbers go on after a restart."""
    store = await open_store()
    for number in range(1, 4):
        store.append(entry(number, at=0.0))
    store.add_ticks([Tick(0, 600, "canary", {"requests": 1})])
    await soon(lambda: store.waiting == 0)
    await store.prune(1e9)
    assert await store.entries(0, 10) == [(3, entry(3, at=0.0))]
    assert await store.ticks(0, 10**9) == []
    await store.close()
    assert (await open_store()).append(entry(4)) == 4


async def test_the_feed_tells_what_moved(open_store: Opener) -> None:
    """Documents by name and version, the history by its newest number; a closed feed ends."""
    store = await open_store()
    feed = store.subscribe()
    await store.commit("rollout", None, doc(1), [entry(1)], REQUIRED)
    store.append(entry(2))
    assert [await anext(feed), await anext(feed)] == [Change("rollout", 1, 1), Change("", 0, 2)]
    feed.close()
    assert [change async for change in feed] == []


async def test_the_newest_entries_come_oldest_first(open_store: Opener) -> None:
    """Also those that wait for the disk."""
    store = await open_store()
    for number in range(1, 6):
        store.append(entry(number))
    assert [number for number, _ in await store.newest(3)] == [3, 4, 5]
    assert [number for number, _ in await store.entries(3, 1)] == [4]
    assert await store.newest(0) == []
