"""The history's lines that no disk took: they outlive the control process all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.store.api import Entry, StoreFault
from gateway.control.store.sqlite import SqliteStore, Timing
from gateway.control.unwritten import MOST_LINES, UnwrittenLines, hand_back, pack, unpack
from tests.support.control import make_gateway
from tests.support.wiring import refusing_disk


def line(number: int) -> Entry:
    return Entry(1_800_000_000.1 + number, "pause", f'{{"reason":"\u00e4 {number}"}}')


async def opened(path: Path, faults: list[StoreFault]) -> SqliteStore:
    return await SqliteStore.open(path, 1e9, on_fault=faults.append, timing=Timing(1.0, 0.01))


async def test_lines_that_a_full_disk_refused_outlive_a_killed_process(tmp_path: Path) -> None:
    """Each once, in their order, also where the disk took some of them in the end."""
    kept: list[bytes] = []
    store = await opened(tmp_path / "state", [])
    lines = UnwrittenLines(store, kept.append)
    store.append(line(0))
    await store.close()
    store = await opened(tmp_path / "state", [])
    with refusing_disk():
        for number in (1, 2, 3):
            store.append(line(number))
        lines = UnwrittenLines(store, kept.append)
        lines.look()
        lines.look()
        await store.close()
    assert len(kept) == 1
    for _ in range(2):
        store = await opened(tmp_path / "state", [])
        await hand_back(store, unpack(kept[-1]))
        assert [entry for _, entry in await store.newest(10)] == [line(number) for number in range(4)]
        await store.close()
    UnwrittenLines(store, kept.append).look()
    assert unpack(kept[-1]) == []


async def test_the_newest_lines_are_kept_and_no_more_than_a_supervisor_can_bear(tmp_path: Path) -> None:
    """A thousand: more than anybody is shown."""
    kept: list[bytes] = []
    with refusing_disk():
        store = await opened(tmp_path / "state", [])
        for number in range(MOST_LINES + 1):
            store.append(line(number))
        UnwrittenLines(store, kept.append).look()
        await store.close()
    assert kept == [pack(line(number) for number in range(1, MOST_LINES + 1))]


@pytest.mark.socket
async def test_who_paused_on_a_full_disk_is_known_after_a_restart(tmp_path: Path) -> None:
    """Of a control process, by the supervisor's memory, and then by the disk's."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        await client.status()
        with refusing_disk():
            await client.ask("POST", "/api/v1/rollout/pause", reason="full disk", operator="ann")
            client.controller._parts.unwritten.look()
            at_death = dict(gateway.keeper.kept)
            client.controller._parts.store._backlog._entries.clear()  # the process dies with what it holds
    gateway.keeper.kept = at_death
    for _ in range(2):
        async with gateway.control() as client:
            assert [event["type"] for event in await client.history()] == ["pause"]
        gateway.keeper.kept.pop("lines")
