"""What asyncio does not offer for sockets: a hard reset, unread bytes at the end, and whose fault an
error is.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Iterator

_KEEPALIVE_SECONDS = 60
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})
_LARGEST_READ = 65_536
_RECEIVE_BUFFER = 262_144  # the kernel doubles it for its own bookkeeping
_MOST_READS = 64


def abort(transport: asyncio.Transport) -> None:
    """Close so that the peer sees a reset: `transport.abort()` alone sends an ordinary FIN.

    A response cut short must never look complete, and one that ends with its connection would.
    """
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        try:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            pass  # the socket is gone already, and with it the peer's hope
    transport.abort()


def bound_receive_buffer(transport: asyncio.BaseTransport) -> None:
    """Keep the kernel from buffering megabytes of an answer that a slow client does not take."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel find out if the peer vanished, where no deadline of ours would."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_SECONDS)


def is_shortage(error: Exception) -> bool:
    """True if a connection failed for want of descriptors, ports or memory here: no peer is to blame."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES


def receive_rest(transport: asyncio.BaseTransport) -> Iterator[bytes]:
    """What the kernel still holds of a connection whose transport gave up on it. Never blocks."""
    raw = transport.get_extra_info("socket")
    if raw is None:
        return
    try:
        duplicate = socket.socket(fileno=socket.dup(raw.fileno()))
    except OSError:
        return
    with duplicate:
        for _ in range(_MOST_READS):
            try:
                data = duplicate.recv(_LARGEST_READ, socket.MSG_DONTWAIT)
            except OSError:
                return
            if not data:
                return
            yield data
