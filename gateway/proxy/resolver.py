"""The addresses of an endpoint: its name is resolved again and again, and the last good answer is kept.

If a name server fails, stalls or returns nothing, nothing changes: connections still go to the last known
addresses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

REFRESH_SECONDS = 10.0

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Resolver:
    """Opens connections to one configured endpoint: `http://host:port` or `unix:PATH`."""

    __slots__ = (
        "_addresses",
        "_fault",
        "_host",
        "_lookup",
        "_loop",
        "_path",
        "_port",
        "_refresher",
        "_turn",
        "address",
        "departures",
    )

    def __init__(self, address: str, loop: asyncio.AbstractEventLoop, known: tuple[str, ...] = ()) -> None:
        """`known` is what the name meant last, as far as somebody knows."""
        self.address = address
        self._loop = loop
        self._path: str | None = None
        self._host = ""
        self._port = 0
        self._addresses = known
        self._turn = 0
        self._refresher: asyncio.Task[None] | None = None
        self._lookup: asyncio.Task[None] | None = None
        self._fault: Exception | None = None
        self.departures = 0
        """How often the name stopped meaning an address that it had meant."""
        if address.startswith("unix:"):
            self._path = address.removeprefix("unix:")
            return
        url = urlsplit(address)
        self._host, self._port = url.hostname or "", url.port or 80
        if _is_literal(self._host):
            self._addresses = (self._host,)
        else:
            self._refresher = loop.create_task(self._refresh())

    @property
    def addresses(self) -> tuple[str, ...]:
        """What the name meant last; nothing for a unix socket."""
        return self._addresses

    @property
    def authority(self) -> bytes:
        """What a request without a Host names instead."""
        if self._path is not None:
            return b"localhost"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}".encode()

    async def connect(self, factory: Callable[[], P]) -> P:
        """Open a connection. Tries each known address once; raises OSError when none accepts."""
        if self._path is not None:
            return (await self._loop.create_unix_connection(factory, self._path))[1]
        if not self._addresses:
            await self._resolve()
        if not self._addresses:
            raise OSError(f"{self._host} has no address: {self._fault}")
        self._turn += 1
        first = self._turn % len(self._addresses)
        *others, last = self._addresses[first:] + self._addresses[:first]
        for address in others:
            try:
                return (await self._loop.create_connection(factory, address, self._port))[1]
            except OSError:
                continue
        return (await self._loop.create_connection(factory, last, self._port))[1]

    def means(self, address: str) -> bool:
        """True while the name still means this IP address; always true of a unix socket."""
        return self._path is not None or address in self._addresses

    def close(self) -> None:
        """Stop resolving again and again; a look-up that runs is left to those who wait for it."""
        if self._refresher is not None:
            self._refresher.cancel()

    async def _refresh(self) -> None:
        while True:
            await self._resolve()
            await asyncio.sleep(REFRESH_SECONDS)

    async def _resolve(self) -> None:
        """Ask the name server, once for all who wait: a slow one must not take every thread there is."""
        if self._lookup is None or self._lookup.done():
            self._lookup = self._loop.create_task(self._look_up())
        await asyncio.shield(self._lookup)

    async def _look_up(self) -> None:
        try:
            found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._fault = error  # the last good addresses stand
            return
        addresses = tuple(dict.fromkeys(str(info[4][0]) for info in found)) or self._addresses
        if not set(self._addresses) <= set(addresses):
            self.departures += 1
        self._addresses = addresses


def _is_literal(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
