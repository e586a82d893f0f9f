"""Who may ask the admin API, and for how long.

Three independent guards: names that a browser may have been tricked into using (DNS rebinding,
cross-site requests), bearer tokens, and connections that take their time. It does not know what is
asked for, beyond reading and writing.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from gateway.control.admin.problems import Problem
from gateway.model.units import Address, TcpAddress

HEAD_PATIENCE = 10.0
"""Seconds until a new connection must have sent a whole request head."""
REQUEST_PATIENCE = 30.0
"""Seconds from a request's head until the next one's: reading the body, answering and idling."""
SWEEP_INTERVAL = 1.0
"""Seconds between two looks for overdue connections."""
MAX_CONNECTIONS = 200
"""Open connections at once; a stranger cannot take all file descriptors."""

_SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})


def check_host(request: web.BaseRequest, address: Address) -> None:
    """Refuse a request that was made to another name than ours. Raises Problem 403.

    A web page may point its own name at a loopback address and so have its visitor's browser talk to
    us; the Host header then still holds the page's name. Where we listen on every address, names
    cannot be known beforehand: addresses are taken, as is the machine's own name.
    """
    if not isinstance(address, TcpAddress):
        return  # no browser reaches a unix socket
    if not _is_ours(_host_of(request.headers.get(hdrs.HOST, "")), address):
        raise Problem(HTTPStatus.FORBIDDEN, "the Host header does not name this gateway's admin address")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and not _is_ours(_host_of(urlsplit(origin).netloc), address):
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
        return _is_wildcard(address) and host == socket.gethostname().lower()
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


def is_write(request: web.BaseRequest) -> bool:
    """True for a request that changes something."""
    return request.method not in _SAFE_METHODS


class ConnectionGuard:
    """A protocol factory around aiohttp's, and the deadlines of the connections that came of it.

    aiohttp bounds neither a request's head nor a response's reader. Here a connection must begin a
    request within `head_patience` seconds of its start, and again within `request_patience` of the
    last one.
    """

    def __init__(
        self,
        server: web.Server,
        head_patience: float = HEAD_PATIENCE,
        request_patience: float = REQUEST_PATIENCE,
    ) -> None:
        self._server = server
        self._head_patience = head_patience
        self._request_patience = request_patience
        self._deadlines: dict[RequestHandler, float] = {}

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that was just accepted."""
        protocol = self._server()
        if len(self._server.connections) >= MAX_CONNECTIONS:
            asyncio.get_running_loop().call_soon(_abort, protocol)
        return protocol

    def request_began(self, request: web.BaseRequest) -> None:
        """The connection sent a whole head: it has until its next one."""
        self._deadlines[request.protocol] = asyncio.get_running_loop().time() + self._request_patience

    async def run(self) -> None:
        """Abort overdue connections for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            now = clock()
            self._deadlines = {
                protocol: self._deadlines.get(protocol, now + self._head_patience)
                for protocol in self._server.connections
            }
            for protocol, deadline in self._deadlines.items():
                if deadline < now:
                    _abort(protocol)


def _abort(protocol: RequestHandler) -> None:
    if isinstance(protocol.transport, asyncio.Transport):
        protocol.transport.abort()
