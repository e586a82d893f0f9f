"""The seam between real processes: both ends of `link.api` over packets.

Snapshots and health maps go down, observations come up, and neither side ever waits for the other.
A worker that loses the control process keeps what it has; a packet that makes no sense is logged
and forgotten.

It does not know who starts the processes nor how the ends got where they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace

from gateway import logs
from gateway.link import packets
from gateway.link.api import EndpointHealth
from gateway.link.batches import decode_batch, encode_batch
from gateway.link.news import News
from gateway.link.packets import MalformedPacket, Packet, PacketKind
from gateway.link.queue import RecordQueue
from gateway.model.codec import decode, encode
from gateway.model.observation import Observation
from gateway.model.records import RecordBatch
from gateway.model.snapshot import Snapshot

_PACKETS_AT_ONCE = 64  # then the loop gets a turn
_RETRY_SECONDS = 0.1


def encode_health(health: EndpointHealth) -> bytes:
    """The health map as it travels."""
    return json.dumps([[*key, healthy] for key, healthy in health.items()]).encode()


def decode_health(data: bytes) -> dict[tuple[str, str], bool]:
    """Undo `encode_health`. Raises ValueError or TypeError on foreign data."""
    return {(str(upstream), str(endpoint)): bool(healthy) for upstream, endpoint, healthy in json.loads(data)}


class WorkerChannel:
    """A worker's end (`link.api.WorkerEnd`): serves from memory, listens on the worker's loop."""

    def __init__(self, end: socket.socket, snapshot: Snapshot) -> None:
        self.current = snapshot
        self.health: EndpointHealth = {}
        self._asked_anew = False
        self.connected = True
        """False once the supervisor and the control process are both gone: nobody starts others."""
        self._end = end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_snapshot: Callable[[Snapshot], None] = _ignore
        self._on_health: Callable[[EndpointHealth], None] = _ignore
        self._receive()

    def __repr__(self) -> str:
        return f"<WorkerChannel snapshot={self.current.version} connected={self.connected}>"

    def listen(
        self, on_snapshot: Callable[[Snapshot], None], on_health: Callable[[EndpointHealth], None]
    ) -> None:
        """See `link.api.WorkerEnd`."""
        self._on_snapshot, self._on_health = on_snapshot, on_health
        if self.connected:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._end, self._receive)

    def record(self, observation: Observation) -> bool:
        """See `link.api.WorkerEnd`."""
        return self.connected and packets.send(self._end, PacketKind.OBSERVATION, encode(observation))

    def asked_anew(self) -> bool:
        """See `link.api.WorkerEnd`."""
        asked, self._asked_anew = self._asked_anew, False
        return asked

    def send_records(self, batch: RecordBatch) -> bool:
        """See `link.api.WorkerEnd`."""
        return self.connected and packets.send(self._end, PacketKind.RECORDS, encode_batch(batch))

    def close(self) -> None:
        """Stop listening."""
        self.connected = False
        if self._loop is not None:
            self._loop.remove_reader(self._end)
        self._end.close()

    def _receive(self) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = packets.receive(self._end)
                if packet is None:
                    return
                self._take(packet)
            except EOFError:
                logs.warn("link lost", consequence="serving on with the last snapshot")
                self.close()
                return
            except Exception as error:
                # Whatever came, and whatever a listener made of it: the worker serves on.
                logs.error("packet ignored", error=repr(error))

    def _take(self, packet: Packet) -> None:
        packet.close()
        if packet.kind is PacketKind.SNAPSHOT:
            snapshot = decode(Snapshot, packet.payload)
            if snapshot.version > self.current.version:
                self.current = snapshot
                self._on_snapshot(snapshot)
        elif packet.kind is PacketKind.HEALTH:
            self.health = decode_health(packet.payload)
            self._on_health(self.health)
        elif packet.kind is PacketKind.REPORT_ANEW:
            self._asked_anew = True
        else:
            raise MalformedPacket(f"{packet.kind.name} is not for workers")


def _ignore(_: object) -> None:
    pass


class _Peer:
    """One live worker, as the control process's end sees it. `due` is what it has still to be sent."""

    __slots__ = ("due", "end", "incarnation", "pid", "serves")

    def __init__(self, pid: int, end: socket.socket, due: set[PacketKind]) -> None:
        self.pid = pid
        self.end = end
        self.due = due
        self.incarnation = ""
        self.serves = 0


class ControlChannel:
    """The control process's end (`link.api.ControlEnd`) towards all workers.

    `keep` takes every published snapshot's bytes before any worker does, so that a worker which is
    started later, with or without this process, begins with the newest.
    """

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        self._keep = keep
        self._peers: dict[int, _Peer] = {}
        self._observations: dict[str, Observation] = {}
        self._gone: set[str] = set()
        self._records = RecordQueue()
        self._snapshot_memory: int | None = None
        self._health: bytes | None = None
        self._changed = asyncio.Event()
        self._reported = News()
        self._retry: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<ControlChannel workers={sorted(self._peers)}>"

    def attach(self, pid: int, end: socket.socket) -> None:
        """Take over the link of a live worker; it gets the newest snapshot and health at once."""
        due = {PacketKind.REPORT_ANEW}
        if self._snapshot_memory is not None:
            due.add(PacketKind.SNAPSHOT)
        if self._health is not None:
            due.add(PacketKind.HEALTH)
        peer = self._peers[pid] = _Peer(pid, end, due)
        asyncio.get_running_loop().add_reader(end, self._receive, peer)
        self._flush()

    def detach(self, pid: int) -> None:
        """Forget a worker that ended. Its last observation stays until it was drained."""
        if (peer := self._peers.get(pid)) is not None:
            self._receive(peer)  # what it said last may still lie there
            self._drop(peer)

    def publish(self, snapshot: Snapshot) -> None:
        """See `link.api.ControlEnd`."""
        data = encode(snapshot)
        self._keep(data)
        if self._snapshot_memory is not None:
            os.close(self._snapshot_memory)
        self._snapshot_memory = packets.seal(data)
        for peer in self._peers.values():
            peer.due.add(PacketKind.SNAPSHOT)
        self._flush()

    def publish_health(self, health: EndpointHealth) -> None:
        """See `link.api.ControlEnd`."""
        self._health = encode_health(health)
        for peer in self._peers.values():
            peer.due.add(PacketKind.HEALTH)
        self._flush()

    def drain(self) -> list[Observation]:
        """See `link.api.ControlEnd`."""
        observations = list(self._observations.values())
        for incarnation in self._gone:
            self._observations.pop(incarnation, None)
        self._gone.clear()
        return observations

    async def reported(self, patience: float) -> None:
        """See `link.api.ControlEnd`."""
        await self._reported.wait(patience)

    def drain_records(self) -> list[RecordBatch]:
        """See `link.api.ControlEnd`."""
        return self._records.take()

    @property
    def records_dropped(self) -> int:
        """See `link.api.ControlEnd`."""
        return self._records.dropped

    async def acknowledged(self, version: int, patience: float) -> bool:
        """See `link.api.ControlEnd`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self._all_serve(version):
                    self._changed.clear()
                    await self._changed.wait()
        return self._all_serve(version)

    def close(self) -> None:
        """Let go of all workers; they serve on."""
        for pid in list(self._peers):
            self.detach(pid)
        if self._retry is not None:
            self._retry.cancel()
        if self._snapshot_memory is not None:
            os.close(self._snapshot_memory)
            self._snapshot_memory = None

    def _all_serve(self, version: int) -> bool:
        return all(peer.serves >= version for peer in self._peers.values())

    def _flush(self) -> None:
        """Send what is due; a worker whose buffer is full gets the newest a little later."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for peer in self._peers.values():
            peer.due = {kind for kind in peer.due if not self._send(peer, kind)}
        if any(peer.due for peer in self._peers.values()):
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._flush)

    def _send(self, peer: _Peer, kind: PacketKind) -> bool:
        if kind is PacketKind.SNAPSHOT and self._snapshot_memory is not None:
            return packets.send_sealed(peer.end, kind, self._snapshot_memory)
        if kind is PacketKind.REPORT_ANEW:
            return packets.send(peer.end, kind)
        return packets.send(peer.end, kind, self._health or b"[]")

    def _drop(self, peer: _Peer) -> None:
        if self._peers.get(peer.pid) is peer:
            del self._peers[peer.pid]
            self._gone.add(peer.incarnation)
            asyncio.get_running_loop().remove_reader(peer.end)
            peer.end.close()
            self._changed.set()

    def _receive(self, peer: _Peer) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = packets.receive(peer.end)
                if packet is None:
                    return
                self._take(peer, packet)
            except EOFError:
                self._drop(peer)
                return
            except Exception as error:
                logs.error("packet ignored", worker=peer.pid, error=repr(error))
                peer.due.add(PacketKind.REPORT_ANEW)  # it may have been a report
                self._flush()

    def _take(self, peer: _Peer, packet: Packet) -> None:
        packet.close()
        if packet.kind is PacketKind.RECORDS:
            self._records.put(decode_batch(packet.payload))
            return
        if packet.kind is not PacketKind.OBSERVATION:
            raise MalformedPacket(f"{packet.kind.name} is not for the control process")
        observation = decode(Observation, packet.payload)
        peer.incarnation = observation.incarnation
        before = self._observations.get(observation.incarnation)
        if before is not None or observation.ticks.whole:
            # Else it speaks to a control process of before; a whole one follows.
            ticks = observation.ticks if before is None else observation.ticks.after(before.ticks)
            self._observations[observation.incarnation] = replace(observation, ticks=ticks)
            self._reported.came()
        if observation.snapshot > peer.serves:
            peer.serves = observation.snapshot
            self._changed.set()
