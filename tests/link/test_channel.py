"""The seam over real sockets: what is published arrives, what is recorded counts, nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.link import packets
from gateway.link.channel import ControlChannel, WorkerChannel
from gateway.link.packets import PacketKind
from gateway.model.codec import decode, encode
from gateway.model.observation import Histogram, Observation
from gateway.model.snapshot import Snapshot
from tests.support.snapshots import make_snapshot

FIRST = make_snapshot()


def version(number: int) -> Snapshot:
    return dataclasses.replace(FIRST, version=number)


def observation(incarnation: str, serves: int) -> Observation:
    empty = Histogram((0,) * 12, 0.0)
    return Observation(incarnation, 1, serves, 0.0, (), empty, (0, 0), (), (), 0, 0)


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not look():
            await asyncio.sleep(0)


class Seam:
    """A control end, and as many workers as a test attaches."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.control = ControlChannel(self.kept.append)
        self.workers: list[WorkerChannel] = []
        self.far_ends: list[socket.socket] = []

    def worker(self, listening: bool = True) -> WorkerChannel:
        near, far = packets.pair()
        channel = WorkerChannel(far, version(1))
        if listening:
            channel.listen(lambda _: None, lambda _: None)
        self.workers.append(channel)
        self.far_ends.append(far)
        self.control.attach(len(self.workers), near)
        return channel


@pytest.fixture
async def seam() -> AsyncIterator[Seam]:
    made = Seam()
    yield made
    made.control.close()
    for worker in made.workers:
        with contextlib.suppress(OSError, ValueError):
            worker.close()


async def test_a_snapshot_reaches_every_worker_and_whoever_starts_later(seam: Seam):
    """Published once: live workers get it, a later one gets it with its link, the keeper before all."""
    early = seam.worker()
    seam.control.publish(version(2))
    late = seam.worker()
    await until(lambda: early.current.version == late.current.version == 2)
    assert decode(Snapshot, seam.kept[-1]) == early.current


async def test_health_reaches_every_worker_whole(seam: Seam):
    """The map replaces the last one; its keys stay pairs."""
    worker = seam.worker()
    seam.control.publish_health({("dspy", "http://a:1"): False, ("dspy", "http://b:1"): True})
    await until(lambda: bool(worker.health))
    assert worker.health == {("dspy", "http://a:1"): False, ("dspy", "http://b:1"): True}
    seam.control.publish_health({})
    await until(lambda: not worker.health)


async def test_listeners_are_called_on_every_news(seam: Seam):
    """A worker hears of a snapshot and of health as they come."""
    worker = seam.worker(listening=False)
    heard: list[object] = []
    worker.listen(heard.append, heard.append)
    seam.control.publish(version(2))
    seam.control.publish_health({("u", "e"): True})
    await until(lambda: len(heard) == 2)
    assert heard == [version(2), {("u", "e"): True}]


async def test_an_older_snapshot_never_replaces_a_newer_one(seam: Seam):
    """Order is by version, whoever sends."""
    worker = seam.worker()
    seam.control.publish(version(5))
    await until(lambda: worker.current.version == 5)
    seam.control.publish(version(4))
    seam.control.publish_health({("u", "e"): True})
    await until(lambda: bool(worker.health))
    assert worker.current.version == 5


async def test_a_write_is_acknowledged_when_every_live_worker_serves_it(seam: Seam):
    """One worker that is behind keeps the answer waiting; its report, or its end, releases it."""
    first, second, third = seam.worker(), seam.worker(), seam.worker()
    assert not await seam.control.acknowledged(2, patience=0.01)
    waiting = asyncio.ensure_future(seam.control.acknowledged(2, patience=5))
    assert first.record(observation("first", 2))
    assert second.record(observation("second", 2))
    await until(lambda: len(seam.control.drain()) == 2)
    assert not waiting.done()
    third.close()
    assert await waiting


async def test_the_newest_report_of_every_worker_ever_is_there(seam: Seam):
    """Also of one that ended, whose last words were still on the way."""
    worker = seam.worker()
    worker.record(observation("a", 1))
    worker.record(observation("a", 2))
    worker.close()
    seam.control.detach(1)
    assert [(report.incarnation, report.snapshot) for report in seam.control.drain()] == [("a", 2)]


async def test_a_worker_that_reads_nothing_gets_the_newest_once_it_does(seam: Seam):
    """A stopped worker's buffer fills; nobody waits for it, and it misses nothing but what is old."""
    worker = seam.worker(listening=False)
    for number in range(2, 2000):
        seam.control.publish_health({("u", str(number)): True})
    seam.control.publish(version(2000))
    worker.listen(lambda _: None, lambda _: None)
    await until(lambda: worker.current.version == 2000 and ("u", "1999") in worker.health)


async def test_a_worker_that_loses_its_link_serves_on(seam: Seam):
    """The other side is gone: the last snapshot stays, reports are refused, nothing is raised."""
    worker = seam.worker()
    seam.control.publish(version(2))
    await until(lambda: worker.current.version == 2)
    seam.control.detach(1)
    await until(lambda: not worker.connected)
    assert worker.current.version == 2
    assert not worker.record(observation("a", 2))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (PacketKind.SNAPSHOT, b"{"),
        (PacketKind.SNAPSHOT, b"[1]"),
        (PacketKind.SNAPSHOT, b"\xff" * 100_000),
        (PacketKind.HEALTH, b"[[1]]"),
        (PacketKind.HEALTH, b"7"),
        (PacketKind.OBSERVATION, b"{}"),
        (PacketKind.RELOAD, b""),
    ],
)
async def test_a_packet_that_makes_no_sense_is_forgotten(kind: PacketKind, payload: bytes):
    """A worker outlives whatever it is sent, and takes the next good packet."""
    near, far = packets.pair()
    worker = WorkerChannel(far, version(1))
    worker.listen(lambda _: None, lambda _: None)
    packets.send(near, kind, payload)
    packets.send(near, PacketKind.SNAPSHOT, encode(version(2)))
    await until(lambda: worker.current.version == 2)
    worker.close()
    near.close()


async def test_a_listener_that_raises_does_not_end_the_worker(seam: Seam):
    """A snapshot that cannot be put into force is logged; the next one is heard."""
    worker = seam.worker(listening=False)
    heard: list[int] = []

    def fail(snapshot: Snapshot) -> None:
        heard.append(snapshot.version)
        raise RuntimeError("cannot")

    worker.listen(fail, lambda _: None)
    seam.control.publish(version(2))
    seam.control.publish(version(3))
    await until(lambda: heard == [2, 3])


async def test_nonsense_from_a_worker_is_forgotten(seam: Seam):
    """The control process outlives a worker that lost its mind."""
    worker = seam.worker()
    packets.send(seam.far_ends[0], PacketKind.OBSERVATION, b"[]")
    packets.send(seam.far_ends[0], PacketKind.PLAN, b"")
    seam.far_ends[0].send(b"\xff")
    worker.record(observation("a", 1))
    await until(lambda: len(seam.control.drain()) == 1)


async def test_publishing_leaks_no_memory_descriptor(seam: Seam):
    """A thousand snapshots leave as many descriptors open as one."""
    worker = seam.worker()
    seam.control.publish(version(2))
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3, 300):
        seam.control.publish(version(number))
        await asyncio.sleep(0)
    await until(lambda: worker.current.version == 299)
    assert len(os.listdir("/proc/self/fd")) == before
