"""Active health checks against a real small server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.control.health import HealthChecks, Tally
from gateway.link.api import EndpointHealth
from gateway.model.snapshot import HealthCheck, Upstream
from tests.support.polling import soon
from tests.support.snapshots import make_upstream

pytestmark = pytest.mark.socket

CHECK = HealthCheck(path="/healthz", interval=0.02, timeout=0.2, healthy_after=2, unhealthy_after=3)


def run(tally: Tally, answers: str) -> list[bool]:
    """The tally's verdict after each answer; `+` passed, `-` failed."""
    verdicts = []
    for answer in answers:
        tally.count("" if answer == "+" else "answered 500")
        verdicts.append(tally.healthy)
    return verdicts


@pytest.mark.parametrize(
    ("answers", "verdicts"),
    [
        ("---", [True, True, False]),
        ("--+--", [True] * 5),
        ("---++", [True, True, False, False, True]),
        ("---+-++", [True, True, False, False, False, False, True]),
    ],
)
def test_only_consecutive_answers_change_the_verdict(answers: str, verdicts: list[bool]) -> None:
    """Three failures in a row make unhealthy, two passes in a row make healthy."""
    assert run(Tally(CHECK), answers) == verdicts


class Endpoint:
    """A server that answers as told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.silent = False
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        if not self.silent:
            writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 2\r\n\r\nok".encode())
        await reader.read()  # one request a connection: a check that used it again would wait in vain
        writer.close()
        await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def listening(self, path: Path | None = None) -> AsyncIterator[str]:
        """The endpoint's address while it listens."""
        if path is None:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            address = f"http://{host}:{port}"
        else:
            server = await asyncio.start_unix_server(self.serve, path)
            address = f"unix:{path}"
        async with server:
            yield address


@contextlib.asynccontextmanager
async def checking(
    published: list[EndpointHealth], *upstreams: Upstream, known: EndpointHealth | None = None
) -> AsyncIterator[HealthChecks]:
    """Checks at work."""
    checks = HealthChecks(published.append, known or {}, spread=lambda: 0.0)
    checks.follow(upstreams)
    running = asyncio.create_task(checks.run())
    try:
        yield checks
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def checked(name: str, *endpoints: str) -> Upstream:
    return replace(make_upstream(name, *endpoints), health_check=CHECK)


async def test_an_endpoint_goes_and_comes_back() -> None:
    """Failing answers take it out, passing ones bring it back; only the changes are published."""
    endpoint, published = Endpoint(), list[EndpointHealth]()
    async with endpoint.listening() as address, checking(published, checked("dspy", address)):
        await soon(lambda: len(endpoint.asked) >= 3)
        assert published == [{("dspy", address): True}]
        endpoint.status = 503
        await soon(lambda: published[-1] == {("dspy", address): False})
        endpoint.status = 302  # not followed, and good enough
        await soon(lambda: published[-1] == {("dspy", address): True})
        assert len(published) == 3
        assert endpoint.asked[0].startswith(b"GET /healthz HTTP/1.1\r\n")


async def test_a_unix_socket_is_checked_too(tmp_path: Path) -> None:
    """Endpoints need not have a port."""
    endpoint, published = Endpoint(), list[EndpointHealth]()
    endpoint.status = 500
    async with (
        endpoint.listening(tmp_path / "sock") as address,
        checking(published, checked("dspy", address)),
    ):
        await soon(lambda: published[-1] == {("dspy", address): False})


async def test_refused_connections_and_silence_are_failures() -> None:
    """Who does not answer within the timeout is as bad as who is not there; people are told which it is."""
    endpoint, published = Endpoint(), list[EndpointHealth]()
    endpoint.silent = True
    nobody = "http://127.0.0.1:9"
    async with (
        endpoint.listening() as address,
        checking(published, checked("dspy", address, nobody)) as checks,
    ):
        await soon(lambda: published[-1] == {("dspy", address): False, ("dspy", nobody): False})
        assert checks.failure("dspy", address) == "no answer within 200ms"
        assert checks.failure("dspy", nobody) == "Connection refused"
        endpoint.silent, endpoint.status = False, 503
        await soon(lambda: checks.failure("dspy", address) == "answered 503")
        endpoint.status = 200
        await soon(lambda: published[-1] == {("dspy", address): True, ("dspy", nobody): False})
        assert checks.failure("dspy", address) is None
        assert checks.failure("dspy", "http://unknown") is None


async def test_upstreams_without_a_check_are_not_asked() -> None:
    """Checks are off unless they are written."""
    endpoint, published = Endpoint(), list[EndpointHealth]()
    async with (
        endpoint.listening() as address,
        endpoint.listening() as other,
        checking(published, make_upstream("quiet", other), checked("dspy", address)),
    ):
        await soon(lambda: len(endpoint.asked) >= 3)
    assert all(address.removeprefix("http://").encode() in head for head in endpoint.asked)


async def test_new_upstreams_replace_the_old_and_keep_what_is_known() -> None:
    """After a reload a bad endpoint that stays is still bad; one that left is out of the map."""
    good, bad, published = Endpoint(), Endpoint(), list[EndpointHealth]()
    bad.status = 500
    async with (
        good.listening() as first,
        bad.listening() as second,
        checking(published, checked("a", first), checked("b", second)) as checks,
    ):
        await soon(lambda: published[-1].get(("b", second)) is False)
        checks.follow([checked("b", second), checked("c", first)])
        assert published[-1] == {("b", second): False, ("c", first): True}
        asked = len(good.asked)
        await soon(lambda: len(good.asked) > asked)


async def test_a_reload_that_changes_no_check_disturbs_none() -> None:
    """An endpoint that is asked every ten minutes is not asked again at every reload."""
    rare, often, published = Endpoint(), Endpoint(), list[EndpointHealth]()
    async with rare.listening() as first, often.listening() as second:
        upstreams = [
            replace(checked("rare", first), health_check=replace(CHECK, interval=600.0)),
            checked("often", second),
        ]
        async with checking(published, *upstreams) as checks:
            await soon(lambda: len(rare.asked) == 1)
            checks.follow([*upstreams, make_upstream("unchecked", first)])
            asked = len(often.asked)
            await soon(lambda: len(often.asked) >= asked + 5)
            assert len(rare.asked) == 1
    assert len(published) == 1


async def test_a_restarted_control_process_begins_with_what_was_known() -> None:
    """An endpoint that was bad is not declared good for the time of a few checks."""
    endpoint, published = Endpoint(), list[EndpointHealth]()
    endpoint.status = 500
    async with (
        endpoint.listening() as address,
        checking(published, checked("dspy", address), known={("dspy", address): False}),
    ):
        assert published == [{("dspy", address): False}]
        await soon(lambda: len(endpoint.asked) >= 4)
    assert published == [{("dspy", address): False}]
