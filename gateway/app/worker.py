"""The worker process: a worker of the data plane with its link, its latch page and its sockets."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from pathlib import Path

from gateway import logs
from gateway.app.process import handle_emergency, run
from gateway.latch import DurableLatch, LatchPage
from gateway.link import packets
from gateway.link.channel import WorkerChannel
from gateway.link.packets import MalformedPacket, Packet, PacketKind
from gateway.marks import UserMarks
from gateway.model.codec import decode
from gateway.model.process import WorkerStart
from gateway.model.snapshot import Snapshot
from gateway.processes.persist import LatchSaver
from gateway.proxy.worker import Worker

_FIRST_PACKET_SECONDS = 10.0  # they were sent before the process was started


def main(link: int) -> int:
    """The life of a worker process; `link` is the descriptor of its link. Returns the exit code."""
    logs.start("worker")
    end = socket.socket(fileno=link)
    begin = _first(end, PacketKind.BEGIN)
    start = decode(WorkerStart, begin.payload)
    snapshot = decode(Snapshot, _first(end, PacketKind.SNAPSHOT).payload)
    page_descriptor, marks_descriptor, *descriptors = begin.descriptors
    page = LatchPage(page_descriptor)
    saver = LatchSaver(page, DurableLatch(Path(start.state_directory)))
    saver.start()
    handle_emergency(page, "a worker", saver.poke)
    sockets = [socket.socket(fileno=fd) for fd in descriptors]
    split = len(sockets) - start.probes
    channel = WorkerChannel(end, snapshot)
    marks = UserMarks(marks_descriptor)
    return run(_serve(channel, page, marks, start.slot, sockets[:split], sockets[split:]))


async def _serve(
    channel: WorkerChannel,
    page: LatchPage,
    marks: UserMarks,
    slot: int,
    listeners: list[socket.socket],
    probes: list[socket.socket],
) -> None:
    worker = Worker(channel, page, marks, slot=slot, listeners=listeners, probes=probes)
    loop = asyncio.get_running_loop()

    def drain() -> None:
        loop.add_signal_handler(signal.SIGTERM, worker.abort)  # the next one is not as patient
        worker.drain()

    loop.add_signal_handler(signal.SIGTERM, drain)
    await worker.start()
    # What lives now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    await worker.wait_closed()
    channel.close()


def _first(end: socket.socket, kind: PacketKind) -> Packet:
    packet = packets.receive_first(end, _FIRST_PACKET_SECONDS)
    if packet.kind is not kind:
        raise MalformedPacket(f"{packet.kind.name} came in place of {kind.name}")
    return packet
