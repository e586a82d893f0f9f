"""Packets between processes: whole or not there, and nobody ever waits."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.link import packets
from gateway.link.packets import MalformedPacket, PacketKind
from tests.support.descriptors import open_descriptors

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = packets.pair()
    yield made
    for end in made:
        end.close()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_000])
def test_a_payload_of_any_size_arrives_whole(ends: Ends, size: int):
    """Small ones inline, large ones as sealed memory: the receiver sees no difference."""
    near, far = ends
    before = open_descriptors()
    payload = os.urandom(size)
    assert packets.send(near, PacketKind.SNAPSHOT, payload)
    packet = packets.receive(far)
    assert packet is not None
    assert (packet.kind, packet.payload, packet.descriptors) == (PacketKind.SNAPSHOT, payload, ())
    assert open_descriptors() == before


def test_descriptors_travel_beside_a_payload_of_any_size(ends: Ends):
    """A large payload's own memory is not mistaken for one of them."""
    near, far = ends
    reading, writing = os.pipe()
    assert packets.send(near, PacketKind.WORKER, b"x" * 100_000, [writing])
    packet = packets.receive(far)
    assert packet is not None
    assert packet.payload == b"x" * 100_000
    (copy,) = packet.descriptors
    assert not os.get_inheritable(copy)
    os.write(copy, b"through")
    assert os.read(reading, 10) == b"through"
    packet.close()
    os.close(reading)
    os.close(writing)


def test_nothing_there_is_none_and_nobody_there_is_the_end(ends: Ends):
    """Receiving never waits, and tells silence from death."""
    near, far = ends
    assert packets.receive(far) is None
    near.close()
    with pytest.raises(EOFError):
        packets.receive(far)


def test_what_was_sent_before_the_end_is_heard_before_the_end(ends: Ends):
    """Last words count."""
    near, far = ends
    packets.send(near, PacketKind.OBSERVATION, b"last words")
    near.close()
    packet = packets.receive(far)
    assert packet is not None
    assert packet.payload == b"last words"


def test_sending_never_waits_and_says_whether_it_left(ends: Ends):
    """A full buffer or a dead reader is False, at once."""
    near, far = ends
    sent = 0
    while packets.send(near, PacketKind.OBSERVATION, b"x" * 10_000):
        sent += 1
    assert 0 < sent < 1000
    assert packets.receive(far) is not None
    assert packets.send(near, PacketKind.OBSERVATION, b"x" * 10_000)
    far.close()
    assert not packets.send(near, PacketKind.OBSERVATION, b"x")


def test_sealed_memory_serves_many_readers_and_cannot_change(ends: Ends):
    """One copy for all: each reads it from its beginning, none can write to it."""
    near, far = ends
    fd = packets.seal(b"snapshot")
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"X", 0)
    for _ in range(2):
        assert packets.send_sealed(near, PacketKind.SNAPSHOT, fd)
        packet = packets.receive(far)
        assert packet is not None
        assert packet.payload == b"snapshot"
    os.close(fd)


@pytest.mark.parametrize(
    "message",
    [
        b"\x00",
        b"\xff",
        b"\x7fpayload",
        bytes([PacketKind.SNAPSHOT | 0x80]),
        bytes([PacketKind.SNAPSHOT]) + b"x" * 100_000,
    ],
)
def test_what_makes_no_sense_is_refused_and_the_next_packet_is_good(ends: Ends, message: bytes):
    """An unknown kind, a missing payload, an oversized message: one error, then life goes on."""
    near, far = ends
    near.send(message)
    packets.send(near, PacketKind.RELOAD)
    with pytest.raises(MalformedPacket):
        packets.receive(far)
    packet = packets.receive(far)
    assert packet is not None
    assert packet.kind is PacketKind.RELOAD


def test_as_many_descriptors_travel_as_a_packet_holds_and_none_of_more(ends: Ends):
    """What the kernel had to leave out makes the packet malformed, and what came of it is closed."""
    near, far = ends
    reading, writing = os.pipe()
    before = open_descriptors()
    assert packets.send(near, PacketKind.WORKER, descriptors=[writing] * 16)
    packet = packets.receive(far)
    assert packet is not None
    assert len(packet.descriptors) == 16
    packet.close()
    assert packets.send(near, PacketKind.WORKER, descriptors=[writing] * 17)
    with pytest.raises(MalformedPacket):
        packets.receive(far)
    assert open_descriptors() == before
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_could_still_change_is_refused_and_closed(ends: Ends, tmp_path: Path, kind: str):
    """Only sealed memory is read: a sender cannot change it under the reader, or truncate it."""
    near, far = ends
    memory = kind == "memory"
    fd = os.memfd_create("unsealed") if memory else os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"data")
    before = open_descriptors()
    socket.send_fds(near, [bytes([PacketKind.SNAPSHOT | 0x80])], [fd])
    with pytest.raises(MalformedPacket):
        packets.receive(far)
    assert open_descriptors() == before
    os.close(fd)


def test_the_first_packet_is_waited_for_with_patience(ends: Ends):
    """At a process's start there is nothing else to do; but not for ever."""
    near, far = ends
    with pytest.raises(TimeoutError):
        packets.receive_first(far, 0.01)
    packets.send(near, PacketKind.BOOT, b"now")
    assert packets.receive_first(far, 1.0).payload == b"now"
    later = threading.Timer(0.02, packets.send, (near, PacketKind.BOOT, b"later"))
    later.start()
    assert packets.receive_first(far, 10.0).payload == b"later"
    later.join()
