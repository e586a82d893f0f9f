"""Fault 36: the name server changes its mind, fails, stalls or says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.proxy import resolver as resolver_module
from gateway.proxy.resolver import Resolver
from tests.faults.places import can_unshare, with_hosts
from tests.support.polling import eventually, soon, turns
from tests.support.processes import Gateway, Load
from tests.support.raw import Upstream, answering

pytestmark = pytest.mark.socket

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
NAME = "pipeline.test"


class NameServer(uvloop.Loop):
    """A loop whose name server says what the test says, and nothing while `silent` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: list[str] | Exception = [FIRST]
        self.asked = 0
        self.silent = False

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        """See asyncio.AbstractEventLoop."""
        self.asked += 1
        while self.silent:
            await turns()
        if isinstance(self.answer, Exception):
            raise self.answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.answer]


def with_names(scenario: Callable[[NameServer, Resolver], Awaitable[None]]) -> None:
    """Run a scenario over one port that listens on both addresses."""

    async def run() -> None:
        names = asyncio.get_running_loop()
        assert isinstance(names, NameServer)
        async with listening() as port:
            resolver = Resolver(f"http://{NAME}:{port}", names)
            await scenario(names, resolver)
            resolver.close()

    with asyncio.Runner(loop_factory=NameServer) as runner:
        runner.run(run())


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[int]:
    first = await asyncio.start_server(lambda _, writer: writer.close(), FIRST, 0)
    port = first.sockets[0].getsockname()[1]
    async with first, await asyncio.start_server(lambda _, writer: writer.close(), SECOND, port):
        yield port


async def peer(resolver: Resolver) -> str:
    """The address that a new connection leads to."""
    connected: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Look(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            connected.set_result(transport.get_extra_info("peername")[0])
            transport.close()

    await resolver.connect(Look)
    return await connected


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up every 5 ms in place of every 10 s."""
    monkeypatch.setattr(resolver_module, "REFRESH_SECONDS", 0.005)


def test_a_new_address_is_used_from_the_next_look_on():
    """The name moves: new connections go to the new address, and what led to the old one is outdated."""

    async def scenario(names: NameServer, resolver: Resolver) -> None:
        assert await peer(resolver) == FIRST
        names.answer = [SECOND]
        await soon(lambda: resolver.departures == 1)
        assert await peer(resolver) == SECOND
        assert resolver.means(SECOND)
        assert not resolver.means(FIRST)

    with_names(scenario)


def test_who_waits_for_a_name_is_served_though_a_reload_removed_it():
    """The config drops the upstream during the first look-up: the request that waits for it goes on."""

    async def scenario(names: NameServer, resolver: Resolver) -> None:
        names.silent = True
        waiting = asyncio.create_task(peer(resolver))
        await soon(lambda: names.asked == 1)
        resolver.close()
        names.silent = False
        assert await waiting == FIRST

    with_names(scenario)


def test_an_address_that_joins_makes_nothing_outdated():
    """A second address, or another order, is no reason to let go of a connection."""

    async def scenario(names: NameServer, resolver: Resolver) -> None:
        assert await peer(resolver) == FIRST
        names.answer = [SECOND, FIRST]
        await soon(lambda: resolver.means(SECOND))
        assert resolver.departures == 0
        assert {await peer(resolver), await peer(resolver)} == {FIRST, SECOND}

    with_names(scenario)


@pytest.mark.parametrize(
    "failure",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        UnicodeError("label too long"),
        [],
    ],
    ids=["NXDOMAIN", "SERVFAIL", "malformed", "empty"],
)
def test_a_failure_keeps_the_last_good_address(failure: list[str] | Exception):
    """Whatever the name server says but an address: connections go on to where they went."""

    async def scenario(names: NameServer, resolver: Resolver) -> None:
        assert await peer(resolver) == FIRST
        names.answer, asked = failure, names.asked
        await soon(lambda: names.asked > asked + 2)
        assert await peer(resolver) == FIRST
        assert resolver.departures == 0
        names.answer = [SECOND]
        await soon(lambda: resolver.means(SECOND))

    with_names(scenario)


def test_a_stalled_name_server_stalls_nobody_who_knows_the_address():
    """While a look-up hangs connections go on, and no second look-up is begun."""

    async def scenario(names: NameServer, resolver: Resolver) -> None:
        assert await peer(resolver) == FIRST
        names.silent = True
        asked = names.asked
        await soon(lambda: names.asked > asked)
        assert [await peer(resolver) for _ in range(20)] == [FIRST] * 20
        assert names.asked == asked + 1
        names.silent = False

    with_names(scenario)


def test_a_hundred_requests_for_an_unknown_address_are_one_look_up():
    """A slow name server must not take every thread that could ask for another name."""

    async def scenario(names: NameServer, resolver: Resolver) -> None:
        names.silent = True
        waiting = [asyncio.ensure_future(peer(resolver)) for _ in range(100)]
        await soon(lambda: names.asked)
        await turns(100)  # chances enough for a hundred of them
        assert names.asked == 1
        gone = waiting.pop()
        gone.cancel()
        await turns()
        names.silent = False
        assert set(await asyncio.gather(*waiting)) == {FIRST}
        assert gone.cancelled()

    with_names(scenario)


def test_a_name_that_never_had_an_address_is_an_error_that_says_why():
    """No last good one: the connect fails at once, with the name server's words."""

    async def scenario(names: NameServer, resolver: Resolver) -> None:
        names.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with pytest.raises(OSError, match="Name or service not known"):
            await peer(resolver)
        names.answer = [FIRST]
        await soon(lambda: resolver.means(FIRST))
        assert await peer(resolver) == FIRST

    with_names(scenario)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(not can_unshare("--mount"), reason="no right to make a mount namespace here")
def test_a_busy_gateway_follows_a_name_that_moves(gateways: Callable[..., Gateway], tmp_path: Path):
    """Under load, over kept connections: a lost name changes nothing, a moved one is followed in 30 s."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{FIRST} {NAME}\n")
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    old = Upstream(answering(body + b"1"))
    new = Upstream(answering(body + b"2"), address=(SECOND, old.port))
    gateway = gateways(upstreams={"traditional": old.port, "dspy": old.port}, upstream_host=NAME)
    gateway.start(prefix=with_hosts(hosts))
    try:
        with Load(gateway) as load:
            load.more(50)
            hosts.write_text("")
            time.sleep(11)  # longer than the names are believed
            assert not new.heads
            hosts.write_text(f"{SECOND} {NAME}\n")
            eventually("the new address is used", lambda: len(new.heads) > 50, patience=30)
            eventually("the old one is let go", lambda: not old.open_connections)
            load.more(50)
        assert load.failures == []
    finally:
        old.close()
        new.close()
