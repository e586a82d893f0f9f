"""The base classes through which an exchange and the connections on its two sides know each other.

Each side knows the other only by its role, so the modules of the relay form no import cycle. The roles
are base classes, not protocols: compiled, a call through a base class costs a tenth of a call by name.
"""

from __future__ import annotations

import asyncio

from gateway.proxy.tunnel import Tunnel
from gateway.wire.faults import Fault
from gateway.wire.response import Response


class Client:
    """The client's connection as its exchange sees it."""

    __slots__ = ("congested", "deadline", "forwarded_for", "keep_alive", "paused")

    congested: bool
    """True while the client takes bytes slower than they are written."""
    deadline: float
    """Monotonic seconds; the worker's sweep looks at it."""
    forwarded_for: bytes
    """Its address, as X-Forwarded-For has it; b"" where it has none."""
    keep_alive: bool
    """False once no further request is taken from here."""
    paused: bool
    """True while nothing is read from it."""

    @property
    def transport(self) -> asyncio.Transport:
        """For a tunnel."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        raise NotImplementedError

    def abort(self) -> None:
        """End so that the client sees an answer cut short."""
        raise NotImplementedError

    def refuse(
        self, fault: Fault, detail: str, request_id: bytes, fields: bytes, *, body: bool, complete: bool
    ) -> None:
        """Answer with an error of the gateway's own and end the exchange."""
        raise NotImplementedError

    def exchange_finished(self, request_complete: bool, now: float) -> None:
        """The answer was sent whole."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Let the client wait."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Let it go on."""
        raise NotImplementedError

    def start_tunnel(self, tunnel: Tunnel) -> None:
        """From now on bytes go to the tunnel."""
        raise NotImplementedError

    def close(self) -> None:
        """End after what was written has left, or after a while."""
        raise NotImplementedError


class Carried:
    """Whoever a connection carries: what it is told."""

    __slots__ = ()

    def interim(self, response: Response) -> None:
        """A 1xx came; the answer is still to come."""
        raise NotImplementedError

    def response_head(self, response: Response, data: bytes) -> None:
        """The final head, and what came with it."""
        raise NotImplementedError

    def response_data(self, data: bytes) -> None:
        """More of the answer's body, as it came."""
        raise NotImplementedError

    def bad_response(self, detail: str) -> None:
        """What came is no HTTP."""
        raise NotImplementedError

    def upstream_closed(self, error: Exception | None) -> None:
        """The connection ended, cleanly if `error` is None."""
        raise NotImplementedError

    def pause_client(self) -> None:
        """The upstream takes the body slower than it comes."""
        raise NotImplementedError

    def resume_client(self) -> None:
        """The upstream takes more."""
        raise NotImplementedError
