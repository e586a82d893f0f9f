"""The seam over real sockets: what is published arrives, what is recorded counts, nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.link import packets
from gateway.link.channel import ControlChannel, WorkerChannel
from gateway.link.packets import PacketKind
from gateway.link.queue import MOST_WAITING as MOST_HELD
from gateway.link.queue import RecordQueue
from gateway.model.codec import decode, encode
from gateway.model.observation import Histogram, Observation, TickReport, TickReports
from gateway.model.records import MOST_RECORDS, RECORD, REQUEST, RecordBatch
from gateway.model.snapshot import Snapshot
from gateway.model.ticks import Series
from gateway.proxy.records import MOST_WAITING, Records
from tests.support.descriptors import open_descriptors
from tests.support.polling import soon, turns
from tests.support.snapshots import make_snapshot

FIRST = make_snapshot()


def version(number: int) -> Snapshot:
    return dataclasses.replace(FIRST, version=number)


def observation(incarnation: str, serves: int) -> Observation:
    empty = Histogram((0,) * 12, 0.0)
    return Observation(incarnation, 1, serves, 0.0, (), empty, (0, 0), (), (), 0, 0)


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
    await soon(lambda: early.current.version == late.current.version == 2)
    assert decode(Snapshot, seam.kept[-1]) == early.current


async def test_health_reaches_every_worker_whole(seam: Seam):
    """The map replaces the last one; its keys stay pairs."""
    worker = seam.worker()
    seam.control.publish_health({("dspy", "http://a:1"): False, ("dspy", "http://b:1"): True})
    await soon(lambda: bool(worker.health))
    assert worker.health == {("dspy", "http://a:1"): False, ("dspy", "http://b:1"): True}
    seam.control.publish_health({})
    await soon(lambda: not worker.health)


async def test_listeners_are_called_on_every_news(seam: Seam):
    """A worker hears of a snapshot and of health as they come."""
    worker = seam.worker(listening=False)
    heard: list[object] = []
    worker.listen(heard.append, heard.append)
    seam.control.publish(version(2))
    seam.control.publish_health({("u", "e"): True})
    await soon(lambda: len(heard) == 2)
    assert heard == [version(2), {("u", "e"): True}]


async def test_an_older_snapshot_never_replaces_a_newer_one(seam: Seam):
    """Order is by version, whoever sends."""
    worker = seam.worker()
    seam.control.publish(version(5))
    await soon(lambda: worker.current.version == 5)
    seam.control.publish(version(4))
    seam.control.publish_health({("u", "e"): True})
    await soon(lambda: bool(worker.health))
    assert worker.current.version == 5


async def test_a_write_is_acknowledged_when_every_live_worker_serves_it(seam: Seam):
    """One worker that is behind keeps the answer waiting; its report, or its end, releases it."""
    first, second, third = seam.worker(), seam.worker(), seam.worker()
    assert not await seam.control.acknowledged(2, patience=0.01)
    waiting = asyncio.ensure_future(seam.control.acknowledged(2, patience=5))
    assert first.record(observation("first", 2))
    assert second.record(observation("second", 2))
    await soon(lambda: len(seam.control.drain()) == 2)
    assert not waiting.done()
    third.close()
    assert await waiting


async def test_the_newest_report_of_every_worker_ever_is_there(seam: Seam):
    """Also of one that ended, whose last words were still on the way; then it is forgotten."""
    worker, other = seam.worker(), seam.worker()
    other.record(observation("b", 1))
    worker.record(observation("a", 1))
    worker.record(observation("a", 2))
    worker.close()
    seam.control.detach(1)
    await soon(lambda: [report.incarnation for report in seam.control.drain()] == ["b"])


async def test_last_words_are_given_out_before_they_are_forgotten(seam: Seam):
    """What a worker said as it died counts."""
    worker = seam.worker()
    worker.record(observation("a", 1))
    worker.record(observation("a", 2))
    worker.close()
    seam.control.detach(1)
    assert [(report.incarnation, report.snapshot) for report in seam.control.drain()] == [("a", 2)]
    assert seam.control.drain() == []


def ticking(*ticks: TickReport, whole: bool, oldest: int = 0) -> Observation:
    """A report of ticks."""
    return dataclasses.replace(observation("a", 1), ticks=TickReports(9000, (), ticks, oldest, whole))


async def test_whoever_waits_for_reports_is_woken_by_one(seam: Seam):
    """And by none a second time; who gets none goes on when patience ends."""
    worker = seam.worker()
    waiting = asyncio.ensure_future(seam.control.reported(patience=60))
    await turns()
    assert not waiting.done()
    worker.record(observation("a", 1))
    await asyncio.wait_for(waiting, 10)
    assert len(seam.control.drain()) == 1
    await seam.control.reported(patience=0.001)
    assert len(seam.control.drain()) == 1


def known_ticks(control: ControlChannel) -> dict[int, str]:
    """The ticks that the control process's end knows of."""
    return {tick.at: tick.counts for report in control.drain() for tick in report.ticks.ticks}


async def test_reports_of_what_changed_make_a_whole_one(seam: Seam):
    """What is not said again stays as it was, until it is too old."""
    worker = seam.worker()
    one, two, three = (TickReport(at, f"{at}") for at in (1000, 2000, 3000))
    worker.record(ticking(one, two, whole=True))
    worker.record(ticking(TickReport(2000, "changed"), three, whole=False))
    await soon(lambda: known_ticks(seam.control) == {1000: "1000", 2000: "changed", 3000: "3000"})
    worker.record(ticking(whole=False, oldest=2000))
    await soon(lambda: known_ticks(seam.control) == {2000: "changed", 3000: "3000"})
    worker.record(ticking(three, whole=True))
    await soon(lambda: known_ticks(seam.control) == {3000: "3000"})


async def test_a_control_process_that_takes_over_hears_everything(seam: Seam):
    """A report of changes is none to whoever knows nothing of before; the worker is asked for all of it."""
    worker = seam.worker()
    await soon(worker.asked_anew)
    assert not worker.asked_anew()
    worker.record(ticking(TickReport(1000, "news"), whole=False))
    assert worker.record(observation("b", 3))
    await soon(lambda: [report.incarnation for report in seam.control.drain()] == ["b"])
    worker.record(ticking(TickReport(1000, "all"), whole=True))
    await soon(lambda: known_ticks(seam.control) == {1000: "all"})


async def test_a_report_that_was_lost_on_the_way_is_asked_for_again(seam: Seam):
    """Whatever came and made no sense may have been one."""
    worker = seam.worker()
    await soon(worker.asked_anew)
    packets.send(seam.far_ends[0], PacketKind.OBSERVATION, b"[]")
    await soon(worker.asked_anew)


def batch(incarnation: str, number: int, user: int = 7) -> RecordBatch:
    """So many records of a user."""
    series = {3: Series(1, "default", "treatment", "exp", "b", True)}
    record = RECORD.pack(user, 3, REQUEST, 0.25)
    return RecordBatch(incarnation, series, ("accuracy",), record * number)


async def test_records_arrive_as_they_were_made_and_once(seam: Seam):
    """Full batches of two workers, in order; what was fetched is not there again."""
    one, other = seam.worker(), seam.worker()
    sent = [batch("a", MOST_RECORDS), batch("a", 1, user=2**64 - 1), batch("b", 5)]
    assert one.send_records(sent[0])
    assert one.send_records(sent[1])
    assert other.send_records(sent[2])
    came: list[RecordBatch] = []

    def all_came() -> bool:
        came.extend(seam.control.drain_records())
        return len(came) >= 3

    await soon(all_came)
    assert sorted(came, key=lambda one: (one.incarnation, -len(one))) == sent
    assert seam.control.drain_records() == []


async def test_records_that_cannot_leave_now_are_the_senders(seam: Seam):
    """A control process that reads nothing fills the buffer: the worker is told, and never waits."""
    near, far = packets.pair()
    worker = WorkerChannel(far, version(1))
    took = 0
    while worker.send_records(batch("a", MOST_RECORDS)):
        took += 1
        assert took < 1000
    assert packets.receive(near) is not None
    assert worker.send_records(batch("a", MOST_RECORDS))
    near.close()
    assert not worker.send_records(batch("a", 1))
    worker.close()


async def test_a_worker_s_buffer_of_records_waits_for_the_other_side_and_is_bounded():
    """Nothing is repeated, nothing is lost without being counted."""
    came: list[RecordBatch] = []
    open_now = False

    def send(one: RecordBatch) -> bool:
        if open_now:
            came.append(one)
        return open_now

    records = Records("a")
    records.send = send
    records.follow(("accuracy",))
    key = Series(1, "default", "treatment", "exp", "b")
    surplus = 3 * MOST_RECORDS
    for user in range(MOST_WAITING * MOST_RECORDS + surplus):
        records.add(user, 1, key, REQUEST, 0.5)
    records.flush()
    open_now = True
    records.flush()
    records.flush()
    assert records.dropped == surplus
    users = [record.user for one in came for record in one.records()]
    assert users == list(range(MOST_WAITING * MOST_RECORDS))
    records.add(9, 1, key, 1, 0.75)
    records.follow(("mood",))
    records.add(9, 1, key, 1, -2.0)
    records.flush()
    assert [(one.metrics, [record.value for record in one.records()]) for one in came[-2:]] == [
        (("accuracy",), [0.75]),
        (("mood",), [-2.0]),
    ]


def test_records_that_nobody_fetches_are_dropped_and_counted():
    """The control process holds so many and no more; the oldest are whole."""
    queue = RecordQueue()
    for number in range(MOST_HELD // MOST_RECORDS + 2):
        queue.put(batch(str(number), MOST_RECORDS))
    assert queue.dropped == 2 * MOST_RECORDS
    taken = queue.take()
    assert (taken[0].incarnation, sum(map(len, taken))) == ("0", MOST_HELD)
    queue.put(batch("later", 1))
    assert [one.incarnation for one in queue.take()] == ["later"]


async def test_a_worker_that_reads_nothing_gets_the_newest_once_it_does(seam: Seam):
    """A stopped worker's buffer fills; nobody waits for it, and it misses nothing but what is old."""
    worker = seam.worker(listening=False)
    for number in range(2, 2000):
        seam.control.publish_health({("u", str(number)): True})
    seam.control.publish(version(2000))
    worker.listen(lambda _: None, lambda _: None)
    await soon(lambda: worker.current.version == 2000 and ("u", "1999") in worker.health)


async def test_a_worker_that_loses_its_link_serves_on(seam: Seam):
    """The other side is gone: the last snapshot stays, reports are refused, nothing is raised."""
    worker = seam.worker()
    seam.control.publish(version(2))
    await soon(lambda: worker.current.version == 2)
    seam.control.detach(1)
    await soon(lambda: not worker.connected)
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
        (PacketKind.RECORDS, b"[]\n"),
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
    await soon(lambda: worker.current.version == 2)
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
    await soon(lambda: heard == [2, 3])


async def test_nonsense_from_a_worker_is_forgotten(seam: Seam):
    """The control process outlives a worker that lost its mind."""
    worker = seam.worker()
    packets.send(seam.far_ends[0], PacketKind.OBSERVATION, b"[]")
    packets.send(seam.far_ends[0], PacketKind.PLAN, b"")
    packets.send(seam.far_ends[0], PacketKind.RECORDS, b'["a",[],[]]')
    packets.send(seam.far_ends[0], PacketKind.RECORDS, b'["a",[],[]]\n' + bytes(23))
    packets.send(seam.far_ends[0], PacketKind.RECORDS, b"")
    seam.far_ends[0].send(b"\xff")
    worker.record(observation("a", 1))
    await soon(lambda: len(seam.control.drain()) == 1)
    assert seam.control.drain_records() == []


async def test_publishing_leaks_no_memory_descriptor(seam: Seam):
    """A thousand snapshots leave as many descriptors open as one."""
    worker = seam.worker()
    seam.control.publish(version(2))
    before = open_descriptors()
    for number in range(3, 300):
        seam.control.publish(version(number))
        await turns()
    await soon(lambda: worker.current.version == 299)
    assert open_descriptors() == before
