"""Background tasks are kept running, and blocking calls stay off the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from gateway.control.tasks import FAILING_FOR, RESTART_DELAY, Lane, TaskKeeper
from tests.support.polling import OF_TASKS, soon, turns


async def test_a_task_that_raises_runs_again_and_is_counted() -> None:
    """An exception in a background task starts it again; it does not die silently."""
    runs = 0

    async def fail_twice() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("injected")
        await asyncio.Event().wait()

    keeper = TaskKeeper(restart_delay=0.0)
    keeper.start("watcher", fail_twice)
    await soon(lambda: runs == 3)
    assert keeper.restarts == {"watcher": 2}
    await keeper.stop()


async def test_a_task_that_returns_runs_again() -> None:
    """A background task has no business ending: that counts as a failure too."""
    keeper = TaskKeeper(restart_delay=0.0)
    keeper.start("short", turns)
    await soon(lambda: keeper.restarts["short"] >= 2)
    await keeper.stop()


async def test_the_delay_before_a_restart_is_under_a_second() -> None:
    """The promise is one second; the keeper's own delay leaves room for the work."""
    runs = 0

    async def fail() -> None:
        nonlocal runs
        runs += 1
        raise ValueError("injected")

    assert RESTART_DELAY < 1.0
    keeper = TaskKeeper()
    keeper.start("fails", fail)
    await soon(lambda: runs == 2)
    await keeper.stop()


async def test_a_task_that_never_failed_is_listed_with_zero() -> None:
    """A counter exists before its first count, so that a rate over it is right."""
    keeper = TaskKeeper()
    keeper.start("calm", asyncio.Event().wait)
    assert keeper.restarts == {"calm": 0}
    await keeper.stop()


async def test_a_task_keeps_failing_from_the_third_failure_in_a_row_until_it_is_calm() -> None:
    """One failure, or two an hour apart, are no reason to wake anybody."""
    now, runs = 0.0, 0
    fail = asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        await fail.wait()
        fail.clear()
        raise ValueError("injected")

    keeper = TaskKeeper(restart_delay=0.0, monotonic=lambda: now)
    keeper.start("observe", run)
    seen = []
    for pause in (0.0, 3600.0, 1.0, 1.0, 1.0):
        now += pause
        before = keeper.restarts["observe"]
        fail.set()
        await soon(lambda: keeper.restarts["observe"] > before)  # noqa: B023
        seen.append(keeper.keep_failing)
    assert seen == [[], [], [], ["observe"], ["observe"]]
    now += FAILING_FOR
    assert keeper.keep_failing == []
    await keeper.stop()


async def test_stop_ends_every_task() -> None:
    """After `stop` nothing is left running."""
    ended = asyncio.Event()

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    keeper = TaskKeeper()
    keeper.start("one", run)
    await turns()
    await keeper.stop()
    assert ended.is_set()


async def test_a_lane_returns_what_the_call_returns_or_raises() -> None:
    """The thread is invisible to the caller."""

    def fail() -> None:
        raise OSError("no such disk")

    lane = Lane("test")
    assert await lane.run(OF_TASKS, lambda: 42) == 42
    with pytest.raises(OSError, match="no such disk"):
        await lane.run(OF_TASKS, fail)
    assert await lane.run(OF_TASKS, lambda: 43) == 43


async def test_a_stuck_call_neither_blocks_the_loop_nor_piles_up() -> None:
    """While one call hangs, the next fails at once; when it comes back the lane works again."""
    released = threading.Event()
    lane = Lane("test")
    with pytest.raises(TimeoutError):
        await lane.run(0.01, released.wait)
    before = threading.active_count()
    with pytest.raises(TimeoutError, match="stuck"):
        await lane.run(OF_TASKS, lambda: None)
    assert threading.active_count() <= before  # a thread of another test may end

    released.set()

    async def answer() -> str | None:
        with contextlib.suppress(TimeoutError):
            return await lane.run(OF_TASKS, lambda: "again")
        return None

    assert await soon(answer) == "again"
