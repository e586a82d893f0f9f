"""How the processes of a gateway talk: packets of bytes and descriptors over SOCK_SEQPACKET pairs.

A packet is whole or not there. Small payloads travel inline; large ones as a sealed memfd, so that
no socket buffer bounds them and one copy serves every reader. Nothing here ever blocks, but for
`receive_first`, which a process calls before it serves anything.

It does not know what the payloads mean.
"""

from __future__ import annotations

import array
import contextlib
import enum
import fcntl
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

_INLINE_BYTES = 64 * 1024
_MAX_PAYLOAD = 256 * 1024 * 1024  # a sender gone mad must not fill the receiver's memory
_MAX_DESCRIPTORS = 16
_DETACHED = 0x80
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_DESCRIPTOR_BYTES = array.array("i").itemsize


class PacketKind(enum.IntEnum):
    """What a packet is about. The comment says who sends it to whom, and with what."""

    # supervisor -> control process
    BOOT = 1  # Boot; descriptors: latch page, then a blob for each kept name
    START = 2  # Standing; descriptors: admin socket
    WORKER = 3  # WorkerStatus; descriptors: the control process's end of the worker's link
    WORKER_GONE = 4  # WorkerStatus
    STANDING = 5  # Standing
    RELOAD = 6
    # control process -> supervisor
    PLAN = 16  # BootPlan
    KEEP = 17  # name; descriptors: the blob
    DRAIN_TIMES = 18  # DrainTimes
    # supervisor -> worker
    BEGIN = 32  # WorkerStart; descriptors: latch page, listeners, probes
    # control process -> worker (the first one may come from the supervisor)
    SNAPSHOT = 33  # Snapshot
    HEALTH = 34  # pairs of (upstream, endpoint) and healthy
    REPORT_ANEW = 35
    # worker -> control process
    OBSERVATION = 48  # Observation
    RECORDS = 49  # RecordBatch, as `link.batches` writes it


class MalformedPacket(ValueError):
    """The other side sent what no version of this program sends."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One received packet. Whoever takes it owns its descriptors and closes them."""

    kind: PacketKind
    payload: bytes
    descriptors: tuple[int, ...] = ()

    def close(self) -> None:
        """Close the descriptors that nobody wants."""
        for fd in self.descriptors:
            os.close(fd)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, both non-blocking and close-on-exec."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def seal(data: bytes) -> int:
    """A descriptor of memory that holds `data` and can never change. The caller closes it."""
    fd = os.memfd_create("gateway-packet", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def unseal(fd: int) -> bytes:
    """The data behind a descriptor from `seal`. Raises MalformedPacket for any other descriptor."""
    try:
        sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        sealed = False
    size = os.fstat(fd).st_size
    if not sealed or size > _MAX_PAYLOAD:
        raise MalformedPacket(f"descriptor {fd} holds no sealed payload of a sane size")
    # The offset is shared with every other holder of the memory: read from where we say.
    return os.pread(fd, size, 0)


def send(end: socket.socket, kind: PacketKind, payload: bytes = b"", descriptors: Sequence[int] = ()) -> bool:
    """Send one packet; False if the other side's buffer is full or nobody is there any more."""
    with contextlib.ExitStack() as stack:
        header, body = kind.value, payload
        if len(payload) > _INLINE_BYTES:
            fd = seal(payload)
            stack.callback(os.close, fd)
            header, body, descriptors = kind.value | _DETACHED, b"", [*descriptors, fd]
        return _send(end, bytes([header]) + body, descriptors)


def send_sealed(end: socket.socket, kind: PacketKind, fd: int) -> bool:
    """Send a packet whose payload is the sealed memory `fd`; False as in `send`."""
    return _send(end, bytes([kind.value | _DETACHED]), [fd])


def _send(end: socket.socket, message: bytes, descriptors: Sequence[int]) -> bool:
    ancillary = []
    if descriptors:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    try:
        end.sendmsg([message], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        return False
    except OSError:
        # Too many descriptors in flight, no memory: the packet did not leave, which is all that counts.
        return False
    return True


def receive(end: socket.socket) -> Packet | None:
    """The next packet, None if there is none now.

    Raises EOFError once the other side is gone, MalformedPacket for a packet that makes no sense
    (it has been consumed; the next one may be good).
    """
    return _receive(end, socket.MSG_DONTWAIT)


def receive_first(end: socket.socket, patience: float) -> Packet:
    """The next packet, waiting up to `patience` seconds. Raises as `receive`, and TimeoutError."""
    end.settimeout(patience)
    try:
        packet = _receive(end, 0)
    finally:
        end.setblocking(False)
    if packet is None:
        raise TimeoutError("no packet came in time")
    return packet


def _receive(end: socket.socket, flags: int) -> Packet | None:
    try:
        message, ancillary, outcome = _receive_message(end, flags)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        # It had not read everything when it closed. That is said once, and before its own last packets.
        message, ancillary, outcome = _receive_message(end, flags)
    descriptors = _descriptors(ancillary)
    if not message and not descriptors:
        raise EOFError("the other side is gone")
    try:
        return _parse(message, descriptors, outcome)
    except ValueError as error:
        for fd in descriptors:
            os.close(fd)
        raise MalformedPacket(str(error)) from None


def _receive_message(end: socket.socket, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * _DESCRIPTOR_BYTES)
    message, ancillary, outcome, _ = end.recvmsg(_INLINE_BYTES + 1, space, flags | socket.MSG_CMSG_CLOEXEC)
    return message, ancillary, outcome


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % _DESCRIPTOR_BYTES])
    return descriptors.tolist()


def _parse(message: bytes, descriptors: list[int], outcome: int) -> Packet:
    if not message or outcome & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise MalformedPacket("the packet is empty or larger than any that we send")
    kind = PacketKind(message[0] & ~_DETACHED)
    if not message[0] & _DETACHED:
        return Packet(kind, message[1:], tuple(descriptors))
    if not descriptors:
        raise MalformedPacket("the packet's payload is missing")
    payload = unseal(descriptors[-1])
    os.close(descriptors.pop())
    return Packet(kind, payload, tuple(descriptors))
