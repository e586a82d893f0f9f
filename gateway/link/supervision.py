"""The control process's link to its supervisor: what it is told, and what it has remembered.

It does not know what the control process does with any of it; `app` connects the two.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway import logs
from gateway.link import packets
from gateway.link.packets import MalformedPacket, Packet, PacketKind
from gateway.model.codec import decode, encode
from gateway.model.process import Boot, BootOptions, BootPlan, DrainTimes, Standing, WorkerStatus

_BOOT_PATIENCE = 30.0
_RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is called when the supervisor says something; `orphaned` when it is no more."""

    worker_started: Callable[[WorkerStatus, socket.socket], None]
    worker_ended: Callable[[WorkerStatus], None]
    reload: Callable[[], None]
    orphaned: Callable[[], object]


class SupervisorLink:
    """The supervisor as a `model.process.Keeper`, and as the source of workers and orders.

    Starting goes in three steps that wait for the supervisor: `SupervisorLink(end)` hears the
    options, `plan` offers the plan and hears that the gateway may start, `listen` hears the rest.
    Each raises EOFError when the supervisor is gone (it refused to start, mostly).
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        packet = _expect(end, PacketKind.BOOT)
        boot = decode(Boot, packet.payload)
        self.options: BootOptions = boot.options
        self.latch_descriptor, *blobs = packet.descriptors
        self._kept = {name: packets.unseal(fd) for name, fd in zip(boot.kept, blobs, strict=True)}
        Packet(packet.kind, b"", tuple(blobs)).close()
        self._standing = Standing(0, 0.0, "", 0, 0)
        self._due: dict[str, bytes] = {}
        self._drain_times: DrainTimes | None = None
        self._retry: asyncio.TimerHandle | None = None

    @property
    def kept(self) -> Mapping[str, bytes]:
        """See `model.process.Keeper`."""
        return self._kept

    @property
    def standing(self) -> Standing:
        """See `model.process.Keeper`."""
        return self._standing

    def plan(self, plan: BootPlan, fallback: bytes) -> socket.socket:
        """Offer the plan and wait for the start; returns the listening admin socket.

        `fallback` is a snapshot to serve by, latched, should none ever be published.
        """
        fd = packets.seal(fallback)
        packets.send(self._end, PacketKind.PLAN, encode(plan), [fd])
        os.close(fd)
        packet = _expect(self._end, PacketKind.START)
        self._standing = decode(Standing, packet.payload)
        (admin,) = packet.descriptors
        return socket.socket(fileno=admin)

    def listen(self, listener: Listener) -> None:
        """Hear the supervisor from now on, on the running loop."""
        asyncio.get_running_loop().add_reader(self._end, self._receive, listener)

    def keep(self, name: str, data: bytes) -> None:
        """See `model.process.Keeper`."""
        self._kept[name] = self._due[name] = data
        self._flush()

    def set_drain_times(self, times: DrainTimes) -> None:
        """See `model.process.Keeper`."""
        self._drain_times = times
        self._flush()

    def close(self) -> None:
        """Stop listening."""
        if self._retry is not None:
            self._retry.cancel()
        asyncio.get_running_loop().remove_reader(self._end)
        self._end.close()

    def _flush(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._due = {name: data for name, data in self._due.items() if not self._send_blob(name, data)}
        times = self._drain_times
        if times is not None and packets.send(self._end, PacketKind.DRAIN_TIMES, encode(times)):
            self._drain_times = None
        if self._due or self._drain_times is not None:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._flush)

    def _send_blob(self, name: str, data: bytes) -> bool:
        fd = packets.seal(data)
        try:
            return packets.send(self._end, PacketKind.KEEP, json.dumps(name).encode(), [fd])
        finally:
            os.close(fd)

    def _receive(self, listener: Listener) -> None:
        try:
            while (packet := packets.receive(self._end)) is not None:
                self._take(listener, packet)
        except EOFError:
            self.close()
            listener.orphaned()
        except MalformedPacket as error:
            logs.error("packet ignored", sender="supervisor", error=str(error))

    def _take(self, listener: Listener, packet: Packet) -> None:
        match packet.kind:
            case PacketKind.WORKER:
                (end,) = packet.descriptors
                listener.worker_started(decode(WorkerStatus, packet.payload), socket.socket(fileno=end))
            case PacketKind.WORKER_GONE:
                listener.worker_ended(decode(WorkerStatus, packet.payload))
            case PacketKind.STANDING:
                self._standing = decode(Standing, packet.payload)
            case PacketKind.RELOAD:
                listener.reload()
            case _:
                packet.close()
                raise MalformedPacket(f"{packet.kind.name} is not for a running control process")


def _expect(end: socket.socket, kind: PacketKind) -> Packet:
    packet = packets.receive_first(end, _BOOT_PATIENCE)
    if packet.kind is not kind:
        packet.close()
        raise MalformedPacket(f"{packet.kind.name} came in place of {kind.name}")
    return packet
