"""Who may use the admin API, and for how long.

Three independent guards: against names that a browser was tricked into using (DNS rebinding,
cross-site requests), for bearer tokens, and against connections that take too long. Of a request it only
knows whether it reads or writes.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from gateway.control.admin.problems import Problem
from gateway.model.units import Address, TcpAddress

MAX_CONNECTIONS = 200
"""Open connections at once; a stranger cannot take all file descriptors."""
CONTINUE: ContextVar[Callable[[], None]] = ContextVar("continue")
"""For an answer without an end: gives the connection its time anew, and asks again who it is.

To be called whenever the reader has taken what was written. Raises Problem once the request would not
be let in any more, as after a change of the tokens.
"""


def check_host(request: web.BaseRequest, address: Address) -> None:
    """Refuse a request that was made to another name than ours. Raises Problem 403.

    A web page may point its own name at a loopback address and so have its visitor's browser talk to
    us; the Host header then still holds the page's name. Where we listen on every address, names
    cannot be known beforehand: addresses are taken, as is the machine's own name, alone or with a domain
    (a pod is `pipeline-0` to itself, and `pipeline-0.pipeline.default.svc` to others).
    """
    if not isinstance(address, TcpAddress):
        return  # no browser reaches a unix socket
    if not _is_ours(_host_of(request.headers.get(hdrs.HOST, "")), address):
        raise Problem(HTTPStatus.FORBIDDEN, "the Host header does not name this gateway's admin address")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and not _is_ours(_host_of(origin.partition("://")[2]), address):
        raise Problem(HTTPStatus.FORBIDDEN, "requests of other sites' pages are refused")


def _host_of(authority: str) -> str:
    """The host of `host:port`, `[v6]:port` or `host`; "" where there is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _is_ours(host: str, address: TcpAddress) -> bool:
    if host in {"localhost", address.host.lower()} or host.endswith(".localhost"):
        return True
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        own = socket.gethostname().lower()
        return _is_wildcard(address) and (host == own or host.startswith(f"{own}."))
    return literal.is_loopback or _is_wildcard(address)


def _is_wildcard(address: TcpAddress) -> bool:
    return address.host in {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound


def authenticate(request: web.BaseRequest, tokens: Mapping[str, str]) -> str | None:
    """The operator whose bearer token the request holds; None where no tokens are configured.

    `tokens` maps operators to secrets. Every secret is compared, in constant time, so that the time
    an answer takes says nothing. Raises Problem 401.
    """
    if not tokens:
        return None
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    secret = given.strip().encode(errors="surrogateescape") if scheme.lower() == "bearer" else b""
    matches = [name for name, token in tokens.items() if hmac.compare_digest(token.encode(), secret)]
    if not matches or not secret:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "a bearer token of an operator is needed (--token-file, GATEWAY_TOKEN_FILE)",
            {"WWW-Authenticate": 'Bearer realm="gateway"'},
        )
    return matches[0]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What connections are given, in seconds.

    `head` until a new connection must have sent a whole request head; `request` from one head to the
    next, which covers reading the body, answering and idling; `sweep` between two looks.
    """

    head: float = 10.0
    request: float = 30.0
    sweep: float = 1.0


class ConnectionGuard:
    """A protocol factory around aiohttp's, and the deadlines of the connections that came of it.

    aiohttp bounds neither a request's head nor a response's reader.
    """

    def __init__(self, server: web.Server, deadlines: Deadlines) -> None:
        self._server = server
        self._deadlines = deadlines
        self._due: dict[RequestHandler, float] = {}

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that was just accepted."""
        surplus = len(self._server.connections) >= MAX_CONNECTIONS
        return _Refusal() if surplus else self._server()

    def request_began(self, request: web.BaseRequest) -> None:
        """The connection sent a whole head: it has until its next one."""
        self._due[request.protocol] = asyncio.get_running_loop().time() + self._deadlines.request

    async def run(self) -> None:
        """Abort overdue connections for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._deadlines.sweep)
            now = clock()
            self._due = {
                protocol: self._due.get(protocol, now + self._deadlines.head)
                for protocol in self._server.connections
            }
            for protocol, due in self._due.items():
                if due < now:
                    _abort(protocol)


class _Refusal(asyncio.Protocol):
    """Ends a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


def _abort(protocol: RequestHandler) -> None:
    if protocol.transport is not None:
        protocol.transport.abort()
