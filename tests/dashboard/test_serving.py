"""The dashboard's paths over real sockets: who gets what, and streams that neither hang nor hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.control.admin import dashboard
from gateway.control.admin.dashboard import MAX_STREAMS, DashboardResources
from gateway.control.admin.guard import Deadlines
from gateway.control.admin.server import Access, AdminServer
from gateway.control.dashboard.document import Reach
from gateway.control.dashboard.files import DIGEST, address
from gateway.model.units import TcpAddress
from tests.control.test_admin import Broken
from tests.support.control import CONFIG, make_gateway
from tests.support.polling import soon

pytestmark = pytest.mark.socket

DASHBOARD, PANELS, EVENTS = "/api/v1/dashboard", "/api/v1/dashboard/panels", "/api/v1/events"
PATIENCE = 10.0


@dataclass
class Happening:
    """A backend in which something happens whenever the test says, or all the time."""

    version: int = 1
    always: bool = False
    weight: int = 0
    told: int = 0

    def mark(self) -> tuple[object, ...]:
        return (object(),) if self.always else (self.version,)

    def standing(self) -> dict[str, Any]:
        self.told += 1
        return {"version": self.version, "ballast": "x" * self.weight}

    async def document(self, reach: Reach) -> dict[str, Any]:
        return {"version": self.version, "reach": reach.value}

    async def panels(self, reach: Reach) -> str:
        return f"<div>{reach.value}</div>"


@dataclass
class Served:
    """A server with the dashboard alone."""

    server: AdminServer
    resources: DashboardResources
    session: aiohttp.ClientSession
    url: str
    port: int
    backend: Happening = field(default_factory=Happening)


@contextlib.asynccontextmanager
async def serving(
    backend: Happening, deadlines: Deadlines | None = None, tokens: dict[str, str] | None = None
) -> AsyncIterator[Served]:
    """Serve the dashboard over a backend."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    resources = DashboardResources(backend)
    access = Access(TcpAddress("127.0.0.1", port), tokens or {})
    server = AdminServer(Broken(), access, listening, deadlines or Deadlines(), areas=(resources,))
    await server.start()
    sweeping = asyncio.create_task(server.run())
    try:
        async with aiohttp.ClientSession() as session:
            yield Served(server, resources, session, f"http://127.0.0.1:{port}", port, backend)
    finally:
        sweeping.cancel()
        resources.end_streams()
        await server.close()


async def read_event(response: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
    """The next event of a stream: its name and data; comments are passed over."""
    name = ""
    async with asyncio.timeout(PATIENCE):
        while True:
            line = (await response.content.readline()).decode()
            assert line, "the stream ended"
            if line.startswith("event: "):
                name = line[7:].strip()
            if line.startswith("data: "):
                return name, json.loads(line[6:])


async def ends(response: aiohttp.ClientResponse) -> None:
    """Read on until the stream is over, however it ends."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while await response.content.read(65536):
                pass


# --- who gets what ---


async def test_the_page_is_for_everybody_and_its_data_are_not(tmp_path: Path) -> None:
    """Page and files hold no data and need no token; document, sections and stream do."""
    (tmp_path / "ann.token").write_text("secret-of-ann")
    gateway = make_gateway(tmp_path, CONFIG + "admin: {tokens: {ann: ann.token}}\n")
    async with gateway.control() as client:
        status, page = await client.ask("GET", "/")
        assert status == 200
        assert address("dashboard.js") in page
        assert (await client.ask("GET", address("dashboard.css")))[0] == 200
        for path in (DASHBOARD, PANELS, EVENTS):
            assert (await client.ask("GET", path))[0] == 401
        bearer = {"Authorization": "Bearer secret-of-ann"}
        status, document = await client.ask("GET", DASHBOARD, headers=bearer)
        assert (status, document["named_operators"]) == (200, True)
        assert document["deployment"]["current_phase"] == "canary"
        status, panels = await client.ask("GET", PANELS, headers=bearer)
        assert status == 200
        assert 'id="state"' in panels
        assert (await client.ask("GET", "/", headers={"Host": "evil.example"}))[0] == 403


async def test_the_page_is_locked_in() -> None:
    """Nothing but this server's own files may be loaded, nor may the page be framed or sniffed."""
    async with serving(Happening()) as served, served.session.get(served.url) as response:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-cache"


async def test_files_are_kept_for_ever_under_their_own_digest_only() -> None:
    """The address of an older version gives the file of now, which must not be kept as the old one."""
    async with serving(Happening()) as served:
        async with served.session.get(served.url + address("dashboard.js")) as response:
            assert "immutable" in response.headers["Cache-Control"]
            assert response.content_type == "text/javascript"
        old = address("dashboard.js").replace(DIGEST, "0" * 16)
        async with served.session.get(served.url + old) as response:
            assert response.headers["Cache-Control"] == "no-store"
        async with served.session.get(served.url + address("secrets.txt")) as response:
            assert response.status == 404


async def test_the_reach_is_one_of_four() -> None:
    """How far back is chosen by name; anything else is a clear 400."""
    async with serving(Happening()) as served:
        async with served.session.get(f"{served.url}{DASHBOARD}?reach=6h") as response:
            assert (await response.json())["reach"] == "6h"
            assert response.headers["ETag"] == '"1"'
        async with served.session.get(f"{served.url}{PANELS}?reach=1y") as response:
            assert response.status == 400
            assert "15m, 1h, 6h, 48h" in (await response.json())["detail"]


# --- the stream ---


async def test_a_stream_tells_at_once_what_happened(tmp_path: Path) -> None:
    """An emergency is on the stream as an event of its own, with where the rollout stands then."""
    async with (
        make_gateway(tmp_path).control() as client,
        client.session.get(client.url + EVENTS) as response,
    ):
        name, standing = await read_event(response)
        assert (name, standing["latched"]) == ("hello", False)
        await client.ask("POST", "/api/v1/emergency", reason="fire")
        while name != "state" or not standing["latched"]:
            name, standing = await read_event(response)
        assert standing["mode"] in ("latched", "running")  # the step that follows may still be under way


async def test_a_stream_ticks_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traffic moves without events: a tick says that it is worth a look."""
    monkeypatch.setattr(dashboard, "TICK_INTERVAL", 0.2)
    async with serving(Happening()) as served, served.session.get(served.url + EVENTS) as response:
        assert (await read_event(response))[0] == "hello"
        assert (await read_event(response))[0] == "tick"


async def test_a_stream_outlives_the_deadline_of_requests_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is read renews the connection's time; the deadline is for readers that stopped."""
    monkeypatch.setattr(dashboard, "TICK_INTERVAL", 0.6)
    async with (
        serving(Happening(), Deadlines(request=1.5, sweep=0.05)) as served,
        served.session.get(served.url + EVENTS) as response,
    ):
        names = [(await read_event(response))[0] for _ in range(5)]
        assert names == ["hello", "tick", "tick", "tick", "tick"]


async def test_a_reader_that_stops_reading_is_dropped() -> None:
    """It gets nothing more once its buffers are full, holds a bounded amount, and loses its place."""
    backend = Happening(always=True, weight=2000)
    async with serving(backend, Deadlines(request=1.0, sweep=0.05)) as served:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", served.port))
            request = f"GET {EVENTS} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            await loop.sock_sendall(client, request.encode())
            await soon(lambda: "streams=1" in repr(served.resources))
            await soon(lambda: "streams=0" in repr(served.resources), 3 * PATIENCE)
            assert backend.told < 30  # the kernel's buffers were filled, and not our own behind them


async def test_streams_are_bounded() -> None:
    """One too many is told when to come again, and a place that becomes free is given."""
    async with serving(Happening()) as served, contextlib.AsyncExitStack() as stack:
        # One connection each: a pool of its own would queue them.
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        held = [await session.get(served.url + EVENTS) for _ in range(MAX_STREAMS)]
        assert {response.status for response in held} == {200}
        async with session.get(served.url + EVENTS) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "5"
        held[0].close()
        await soon(lambda: f"streams={MAX_STREAMS - 1}" in repr(served.resources), PATIENCE)
        async with session.get(served.url + EVENTS) as response:
            assert response.status == 200
        for response in held:
            response.close()


async def test_a_stream_ends_with_the_token_that_opened_it() -> None:
    """A token that is taken away by a reload does not go on listening."""
    async with serving(Happening(), tokens={"ann": "a"}) as served:
        headers = {"Authorization": "Bearer a"}
        async with served.session.get(served.url + EVENTS, headers=headers) as response:
            await read_event(response)
            served.server.access = Access(served.server.access.address, {"ann": "another"})
            await ends(response)


async def test_no_stream_holds_up_the_end_of_the_control_process() -> None:
    """Streams end by themselves when the process does: within a look, before anybody is cancelled."""
    async with serving(Happening()) as served, served.session.get(served.url + EVENTS) as response:
        await read_event(response)
        served.resources.end_streams()
        await soon(lambda: "streams=0" in repr(served.resources), 5 * dashboard.LOOK_INTERVAL + 1)
        await ends(response)
