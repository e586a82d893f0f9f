"""The HTTP server of the admin API: sockets, guards around every request, start and stop.

What the paths answer is in `resources`, and in the areas that are passed in.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from gateway.control.admin.guard import CONTINUE, ConnectionGuard, Deadlines, authenticate, check_host
from gateway.control.admin.problems import Problem, answer_problems
from gateway.control.admin.requests import BODY_LIMIT
from gateway.control.admin.resources import API, OPERATOR, Backend, Resources
from gateway.model.units import Address

_KEEPALIVE = 15.0
_LINGER = 1.0
_STOP_PATIENCE = 1.0
_LONGEST_LINE = 32_768
"""Bytes: a reason of a thousand characters takes twelve thousand in a query."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask: the address that is listened on, and the operators' tokens (name -> secret)."""

    address: Address
    tokens: Mapping[str, str] = field(repr=False)


class Area(Protocol):
    """A part of the admin API with a module of its own."""

    def routes(self) -> Iterable[web.RouteDef]:
        """Every path of it."""


class AdminServer:
    """Serves a backend on a listening socket that somebody else opened."""

    def __init__(
        self,
        backend: Backend,
        access: Access,
        listening: socket.socket,
        deadlines: Deadlines = Deadlines(),  # noqa: B008  # frozen
        areas: Iterable[Area] = (),
    ) -> None:
        """`areas` are served beside what `backend` answers."""
        self.access = access
        self._deadlines = deadlines
        self._listening = listening
        app = web.Application(middlewares=[answer_problems, self._guard], client_max_size=BODY_LIMIT)
        for area in (Resources(backend), *areas):
            app.add_routes(area.routes())
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=_KEEPALIVE,
            lingering_time=_LINGER,
            handle_signals=False,
            shutdown_timeout=_STOP_PATIENCE,
            max_line_size=_LONGEST_LINE,
        )
        self._connections: ConnectionGuard | None = None
        self._server: asyncio.AbstractServer | None = None

    def __repr__(self) -> str:
        return f"<AdminServer {self.access.address} tokens={len(self.access.tokens)}>"

    async def start(self) -> None:
        """Accept connections from now on."""
        await self._runner.setup()
        if self._runner.server is None:
            raise RuntimeError("aiohttp's runner made no server")
        self._connections = ConnectionGuard(self._runner.server, self._deadlines)
        loop = asyncio.get_running_loop()
        if self._listening.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(self._connections, sock=self._listening)
        else:
            self._server = await loop.create_server(self._connections, sock=self._listening)

    async def run(self) -> None:
        """Enforce the connections' deadlines for ever."""
        if self._connections is None:
            raise RuntimeError("the server was not started")
        await self._connections.run()

    async def close(self) -> None:
        """Stop accepting, end what is open within a second."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        self._admit(request)
        CONTINUE.set(lambda: self._admit(request))
        if (request.content_length or 0) > BODY_LIMIT:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {BODY_LIMIT} bytes")
        return await handler(request)

    def _admit(self, request: web.Request) -> None:
        """Check who asks by the access of this moment, and give the connection its time."""
        if self._connections is not None:
            self._connections.request_began(request)
        check_host(request, self.access.address)
        if request.path.startswith(API):
            OPERATOR.set(authenticate(request, self.access.tokens))
