"""What an exchange is to the connections on its two sides, and the client's connection to it.

Each side knows the other by its role alone, so the modules of the relay have an order.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.proxy.tunnel import Tunnel
from gateway.wire.faults import Fault
from gateway.wire.response import Response


class Client(Protocol):
    """The client's connection as its exchange sees it. `deadline` is monotonic seconds."""

    deadline: float
    keep_alive: bool
    paused: bool
    forwarded_for: bytes

    @property
    def congested(self) -> bool:
        """True while the client takes bytes slower than they are written."""

    @property
    def transport(self) -> asyncio.Transport:
        """For a tunnel."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""

    def abort(self) -> None:
        """End so that the client sees an answer cut short."""

    def refuse(
        self, fault: Fault, detail: str, request_id: bytes, fields: bytes, *, body: bool, complete: bool
    ) -> None:
        """Answer with an error of the gateway's own and end the exchange."""

    def exchange_finished(self, request_complete: bool, now: float) -> None:
        """The answer was sent whole."""

    def pause_reading(self) -> None:
        """Let the client wait."""

    def resume_reading(self) -> None:
        """Let it go on."""

    def start_tunnel(self, tunnel: Tunnel) -> None:
        """From now on bytes go to the tunnel."""

    def close(self) -> None:
        """End after what was written has left, or after a while."""


class Carried(Protocol):
    """Whoever a connection carries: what it is told."""

    def interim(self, response: Response) -> None:
        """A 1xx came; the answer is still to come."""

    def response_head(self, response: Response, data: bytes) -> None:
        """The final head, and what came with it."""

    def response_data(self, data: bytes) -> None:
        """More of the answer's body, as it came."""

    def bad_response(self, detail: str) -> None:
        """What came is no HTTP."""

    def upstream_closed(self, error: Exception | None) -> None:
        """The connection ended, cleanly if `error` is None."""

    def pause_client(self) -> None:
        """The upstream takes the body slower than it comes."""

    def resume_client(self) -> None:
        """The upstream takes more."""
