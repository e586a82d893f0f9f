"""Liveness and readiness for a kubelet, answered by the worker from memory.

The kubelet must not kill workers because the control process is dead, so nothing here depends on that
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

LARGEST_PROBE = 8192
PATIENCE_SECONDS = 5.0


class ProbeConnection(asyncio.Protocol):
    """One probe: the request line decides, the connection closes after the answer."""

    def __init__(self, ready: Callable[[], tuple[bool, str]], loop: asyncio.AbstractEventLoop) -> None:
        self._ready = ready
        self._loop = loop
        self._inbox = b""
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(PATIENCE_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._inbox += data
        if b"\r\n\r\n" in self._inbox:
            self._transport.write(self._answer())
            self._transport.close()
        elif len(self._inbox) > LARGEST_PROBE:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        if self._timer is not None:
            self._timer.cancel()

    def _answer(self) -> bytes:
        method, _, rest = self._inbox.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _plain(405, "Method Not Allowed", "expected GET or HEAD", method)
        if path == b"/livez":
            return _plain(200, "OK", "alive", method)
        if path in (b"/readyz", b"/healthz"):
            ready, reason = self._ready()
            return (
                _plain(200, "OK", reason, method)
                if ready
                else _plain(503, "Service Unavailable", reason, method)
            )
        return _plain(404, "Not Found", "expected /livez, /readyz or /healthz", method)


def _plain(status: int, title: str, text: str, method: bytes) -> bytes:
    body = text + "\n"
    head = (
        f"HTTP/1.1 {status} {title}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return (head if method == b"HEAD" else head + body).encode()
