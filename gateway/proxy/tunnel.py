"""Two connections that became one: bytes both ways after a 101 (RFC 9110 section 7.8).

No deadline of HTTP applies any more, so the kernel detects peers that vanish (keep-alive). A half-close
is passed on, and the tunnel ends when both sides have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.proxy.sockets import keep_alive


class Tunnel:
    """Joins the client's and the upstream's transport. `on_end` is called once.

    `bytes_up` and `bytes_down` count what came from the client and from the upstream.
    """

    __slots__ = (
        "_client",
        "_client_ended",
        "_ended",
        "_on_end",
        "_upstream",
        "_upstream_ended",
        "bytes_down",
        "bytes_up",
        "treatment",
    )

    def __init__(
        self,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        on_end: Callable[[Tunnel], None],
        *,
        treatment: bool,
    ) -> None:
        """`treatment`: the upstream serves that arm."""
        self.treatment = treatment
        self._client = client
        self._upstream = upstream
        self._on_end = on_end
        keep_alive(client)
        keep_alive(upstream)
        self._client_ended = self._upstream_ended = self._ended = False
        self.bytes_up = 0
        self.bytes_down = 0

    def from_client(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self.bytes_up += len(data)
        if not self._ended:
            self._upstream.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the upstream sent."""
        self.bytes_down += len(data)
        if not self._ended:
            self._client.write(data)

    def client_eof(self) -> bool:
        """The client sends no more; True keeps its connection open for the other direction."""
        self._client_ended = True
        return self._half_closed(self._upstream)

    def upstream_eof(self) -> bool:
        """The upstream sends no more; True keeps its connection open for the other direction."""
        self._upstream_ended = True
        return self._half_closed(self._client)

    def client_lost(self) -> None:
        """The client's connection is gone."""
        self._end()

    def upstream_lost(self) -> None:
        """The upstream's connection is gone."""
        self._end()

    def pause_client(self) -> None:
        """The upstream takes bytes slower than the client sends them."""
        self._client.pause_reading()

    def resume_client(self) -> None:
        """The upstream takes bytes again."""
        if not self._ended:
            self._client.resume_reading()

    def pause_upstream(self) -> None:
        """The client takes bytes slower than the upstream sends them."""
        self._upstream.pause_reading()

    def resume_upstream(self) -> None:
        """The client takes bytes again."""
        if not self._ended:
            self._upstream.resume_reading()

    def _half_closed(self, other: asyncio.Transport) -> bool:
        if self._client_ended and self._upstream_ended:
            self._end()
            return False
        if not self._ended and other.can_write_eof():
            other.write_eof()
        return True

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        # `close` flushes what is still to be written on the side that lives.
        self._client.close()
        self._upstream.close()
        self._on_end(self)
