"""What a pool counts when its dials go wrong, and what a new pool knows of its upstream's names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from gateway.proxy.resolver import Resolver
from gateway.proxy.upstream import UpstreamConnection, UpstreamEndpoint, UpstreamPool
from gateway.wire.response import ResponseReader
from tests.support.control import PATIENCE
from tests.support.dataplane import DataPlane
from tests.support.polling import soon, turns
from tests.support.raw import Upstream, echo
from tests.support.serving import PATIENT, serving
from tests.support.snapshots import make_upstream

pytestmark = pytest.mark.socket


class Slow(Resolver):
    """Connects, and then takes its time to say so."""

    def __init__(self, address: str, meanwhile: Callable[[UpstreamConnection], Awaitable[None]]) -> None:
        super().__init__(address, asyncio.get_running_loop())
        self._meanwhile = meanwhile

    async def connect(self, factory: Callable[[], Any]) -> Any:
        connection = await super().connect(factory)
        await self._meanwhile(connection)
        await asyncio.sleep(30)
        return connection


class Waiter:
    """Wants a connection; what it got instead."""

    cancelled = False

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def connected(self, connection: UpstreamConnection, reused: bool) -> bool:
        raise AssertionError("it connected")

    def connect_failed(self, endpoint: UpstreamEndpoint, error: Exception) -> None:
        self.errors.append(error)

    def queued(self) -> None:
        raise AssertionError("it was queued")

    def overloaded(self) -> None:
        raise AssertionError("it was refused")


async def nothing(_: UpstreamConnection) -> None:
    """The connection stands while the time runs out."""


async def its_end(connection: UpstreamConnection) -> None:
    """The upstream ends the connection before the time has run out."""
    await soon(lambda: connection.closed)


@pytest.mark.parametrize("meanwhile", [nothing, its_end])
def test_a_time_out_in_the_moment_of_success_counts_once(
    meanwhile: Callable[[UpstreamConnection], Awaitable[None]],
) -> None:
    """The connection opened, and perhaps ended, before the dial heard of it: none is open, none is owed."""
    accepted: list[asyncio.StreamWriter] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        if meanwhile is its_end:
            writer.close()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        upstream = replace(make_upstream("u", url), timeouts=replace(PATIENT, connect=0.1))
        buffer = memoryview(bytearray(65_536))

        def make(pool: UpstreamPool, endpoint: UpstreamEndpoint) -> UpstreamConnection:
            return UpstreamConnection(buffer, ResponseReader(), pool, endpoint)

        pool: UpstreamPool = UpstreamPool(upstream, make, loop, {})
        pool.endpoints[0].resolver = Slow(url, meanwhile)
        waiter = Waiter()
        pool.acquire(waiter)
        await soon(lambda: bool(waiter.errors))
        assert isinstance(waiter.errors[0], TimeoutError)
        await soon(lambda: len(accepted) == 1)
        await accepted[0].wait_closed() if meanwhile is its_end else await _gone(accepted[0])
        await turns(5)
        assert pool._open == 0
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def _gone(writer: asyncio.StreamWriter) -> None:
    """Wait until the other side has closed."""
    async with asyncio.timeout(PATIENCE):
        while not writer.is_closing():
            try:
                writer.write(b"x")
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0.005)
    writer.close()


def test_a_reload_that_changes_an_upstream_keeps_what_its_names_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name server has gone since: the new pool goes on to the addresses that the old one knew."""
    real = socket.getaddrinfo
    silent = False

    async def look_up(self: Resolver) -> None:
        if silent:
            self._fault = OSError("the name server is gone")
        else:
            found = real(self._host, self._port, socket.AF_INET, socket.SOCK_STREAM)
            self._addresses = tuple(str(info[4][0]) for info in found)

    monkeypatch.setattr(Resolver, "_look_up", look_up)
    control, treatment = Upstream(echo), Upstream(echo)
    named = control.url.replace("127.0.0.1", "localhost")
    plane = DataPlane(serving([named], [treatment.url], 0))
    try:
        for version in (1, 2):
            with plane.connect() as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
                assert client.response().status == 200
            silent = True
            slower = replace(PATIENT, first_byte=19.0)
            plane.publish(serving([named], [treatment.url], 0, timeouts=slower, version=version + 1))
        assert len(control.heads) == 2
    finally:
        plane.close()
        control.close()
        treatment.close()
