"""The admin API over real sockets: who may ask, what they get, and that nobody holds it up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from gateway.control.admin.guard import MAX_CONNECTIONS, Deadlines
from gateway.control.admin.openapi import DOCUMENT
from gateway.control.admin.requests import BODY_LIMIT
from gateway.control.admin.server import Access, AdminServer
from gateway.control.latching import Operator
from gateway.core.explain import Question
from gateway.latch import LatchKind
from gateway.model.rollout import Event
from gateway.model.units import TcpAddress, UnixAddress
from tests.support.control import CONFIG, Gateway, make_gateway, make_observation
from tests.support.polling import OF_TASKS, soon, turns

pytestmark = pytest.mark.socket

EMERGENCY, RELEASE, STATUS = "/api/v1/emergency", "/api/v1/release", "/api/v1/status"


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path)


@pytest.fixture
def guarded(tmp_path: Path) -> Gateway:
    """A gateway with the operators ann and bob."""
    for name in ("ann", "bob"):
        (tmp_path / f"{name}.token").write_text(f"secret-of-{name}\n")
    return make_gateway(tmp_path, CONFIG + "admin: {tokens: {ann: ann.token, bob: bob.token}}\n")


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer secret-of-{name}"}


# --- what is answered ---


async def test_probes_answer_without_treatment_and_without_a_token(guarded: Gateway) -> None:
    """Liveness is the process's own; readiness is a worker's, and ends with a drain."""
    async with guarded.control() as client:
        assert await client.ask("GET", "/livez") == (200, "ok\n")
        assert await client.ask("GET", "/healthz") == (200, "ok\n")
        assert await client.ask("GET", "/readyz") == (503, "no worker serves yet\n")
        guarded.report(make_observation("a", 11))
        assert await client.ask("GET", "/readyz") == (200, "ok\n")
        guarded.page.engage(LatchKind.EMERGENCY, "", "")
        assert (await client.ask("GET", "/readyz"))[0] == 200
        guarded.page.start_draining()
        assert (await client.ask("GET", "/readyz"))[0] == 503


async def test_status_has_the_contract_s_shape(gateway: Gateway) -> None:
    """The keys that dashboards and scripts rely on."""
    gateway.report(make_observation("a", 11))
    async with gateway.control() as client:
        status = await client.status()
    assert set(status) >= {
        *("version", "phase", "phase_since", "user_percentage", "latch", "gates", "arms", "ceiling"),
        *("alerts", "workers", "config"),
    }
    assert set(status["latch"]) >= {"engaged", "kind", "reason", "operator", "since"}
    assert set(status["arms"]) == {"control", "treatment"}
    assert set(status["arms"]["treatment"]) >= {"requests", "error_rate", "latency"}
    assert set(status["config"]) >= {"digest", "loaded_at", "error"}
    (worker,) = status["workers"]
    assert worker["pid"] == 11
    assert worker["snapshot"] == 1


async def test_explain_asks_the_table_that_workers_decide_by(gateway: Gateway) -> None:
    """The decision, its reason and its figures; the latch shows at once."""
    async with gateway.control() as client:
        _, before = await client.ask("GET", "/api/v1/explain?user=u1&path=/v1/x&method=POST")
        gateway.page.engage(LatchKind.EMERGENCY, "", "")
        _, after = await client.ask("GET", "/api/v1/explain?user=u1&header=A:b")
    assert (before["route"], before["phase"], before["snapshot"]) == ("default", "canary", 1)
    assert before["reason"] == "not_enrolled"
    assert before["enrolment"]["threshold"] == pytest.approx(0.01)
    assert after["reason"] == "latch"


async def test_emergency_and_release(gateway: Gateway) -> None:
    """Engaged with reason and operator, in the status and the history, and lifted again."""
    async with gateway.control() as client:
        answer = await client.ask("POST", EMERGENCY, reason="fire", operator="ann", metadata={"ticket": 7})
        assert answer == (200, {"engaged": True, "number": 1, "durable": True})
        assert gateway.page.engaged
        latch = (await client.status())["latch"]
        assert (latch["kind"], latch["reason"], latch["operator"]) == ("emergency", "fire", "ann")

        again = await client.ask("POST", EMERGENCY)
        assert again == (200, {"engaged": True, "number": 2, "durable": True})
        assert (await client.ask("POST", RELEASE, number=1))[0] == 409
        assert gateway.page.engaged
        code, released = await client.ask("POST", RELEASE, number=2, reason="fixed", operator="bob")
        assert (code, released["engaged"], released["released"], released["number"]) == (200, False, True, 2)
        assert not gateway.page.engaged
        assert (await client.ask("POST", RELEASE))[1]["released"] is False

        history = await client.history()
        _, newest = await client.ask("GET", "/api/v1/history?limit=1")
    assert [event["type"] for event in history] == ["emergency", "emergency", "release"]
    assert history[0]["evidence"]["ticket"] == 7
    assert newest == history[-1:]
    assert set(newest[0]) >= {"at", "type", "operator", "reason", "from", "to", "evidence", "digest"}


async def test_a_release_depends_on_what_was_read(gateway: Gateway) -> None:
    """If-Match takes the status's version; an emergency meanwhile makes it 412, without If-Match too late."""
    async with gateway.control() as client:
        await client.ask("POST", EMERGENCY)
        version = (await client.status())["version"]
        gateway.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
        headers = {"If-Match": f'"{version}"'}
        status, problem = await client.ask("POST", RELEASE, headers=headers)
        assert status == 412
        assert "moved" in problem["detail"]
        assert gateway.page.engaged
        headers = {"If-Match": f'"{(await client.status())["version"]}"'}
        assert (await client.ask("POST", RELEASE, headers=headers))[0] == 200


async def test_the_version_moves_with_events_never_with_looks(gateway: Gateway) -> None:
    """Two looks at a gateway where nothing happened show the same version, as an ETag too."""
    async with gateway.control() as client:
        gateway.report(make_observation("a", 11))
        first = (await client.status())["version"]
        async with client.session.get(client.url + STATUS) as response:
            assert response.headers["ETag"] == f'"{first}"'


async def test_events_survive_a_restart_of_the_control_process(gateway: Gateway) -> None:
    """History, version and the number that was worked off go on; nothing is written down twice."""
    async with gateway.control() as client:
        await client.ask("POST", EMERGENCY)
        await client.ask("POST", RELEASE, operator="ann")
        before = await client.status()
    gateway.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    async with gateway.control() as client:
        history = await client.history()
        after = await client.status()
    assert [event["operator"] for event in history] == ["anonymous", "ann", "signal"]
    assert after["version"] == before["version"] + 1
    assert (before["phase"], after["phase"]) == ("staging", "development")
    assert after["config"]["loaded_at"] == before["config"]["loaded_at"]


async def test_a_hundred_writes_at_once_are_served_one_after_the_other(gateway: Gateway) -> None:
    """Each engagement has its own number, and each is in the history."""
    async with gateway.control() as client:
        answers = await asyncio.gather(*(client.ask("POST", EMERGENCY) for _ in range(100)))
        history = await client.history()
    assert sorted(answer["number"] for _, answer in answers) == list(range(1, 101))
    assert [event["type"] for event in history].count("emergency") == 100


# --- who may ask ---


async def test_tokens_guard_the_api_and_name_the_operator(guarded: Gateway) -> None:
    """Without a token nothing under /api; with one, its name is the operator whatever the body says."""
    async with guarded.control() as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret-of-ann"}):
            for method, path in (
                ("GET", STATUS),
                ("POST", EMERGENCY),
                ("POST", RELEASE),
                ("GET", "/api/v1/x"),
            ):
                status, problem = await client.ask(method, path, headers=headers)
                assert (status, problem["title"]) == (401, "Unauthorized")
        assert not guarded.page.engaged
        status, _ = await client.ask("POST", EMERGENCY, headers=bearer("bob"), operator="mallory")
        assert status == 200
        _, history = await client.ask("GET", "/api/v1/history", headers=bearer("ann"))
    assert history[-1]["operator"] == "bob"


async def test_a_changed_token_file_is_a_reload(guarded: Gateway) -> None:
    """Tokens rotate without a restart."""
    async with guarded.control() as client:
        (guarded.config.parent / "ann.token").write_text("new-secret")
        headers = {"Authorization": "Bearer new-secret"}

        async def is_let_in() -> bool:
            return (await client.ask("GET", STATUS, headers=headers))[0] == 200

        await soon(is_let_in)
        assert (await client.ask("GET", STATUS, headers=bearer("ann")))[0] == 401


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9900", "[::1]:1", "app.localhost", "LOCALHOST:80"])
async def test_loopback_names_are_ours(gateway: Gateway, host: str) -> None:
    """Whatever the port: it may have been forwarded."""
    async with gateway.control() as client:
        assert (await client.ask("GET", STATUS, headers={"Host": host}))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9900", "localhost.evil.example", "10.0.0.1", "[", ""]
)
@pytest.mark.parametrize("path", [STATUS, "/metrics", "/livez", "/nowhere"])
async def test_other_names_are_refused(gateway: Gateway, host: str, path: str) -> None:
    """A page that points its own name at 127.0.0.1 gets nothing (DNS rebinding)."""
    async with gateway.control() as client:
        assert (await client.ask("GET", path, headers={"Host": host}))[0] == 403


async def test_another_site_s_page_cannot_write(gateway: Gateway) -> None:
    """A form posted across sites names the right Host; its Origin gives it away."""
    async with gateway.control() as client:
        for origin in ("http://evil.example", "null", "http://["):
            assert (await client.ask("POST", EMERGENCY, headers={"Origin": origin}))[0] == 403
        assert not gateway.page.engaged
        assert (await client.ask("POST", EMERGENCY, headers={"Origin": client.url}))[0] == 200


# --- what makes no sense ---


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/", 404),
        ("GET", "/api/v1/status/", 404),
        ("GET", "//api/v1/status", 404),
        ("GET", "/api/v1/../../etc/passwd", 404),
        ("GET", "/api/v1/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", EMERGENCY, 405),
        ("DELETE", STATUS, 405),
        ("POST", "/metrics", 405),
        ("PATCH", STATUS, 405),
        ("GET", "/api/v1/history?limit=0", 400),
        ("GET", "/api/v1/history?limit=501", 400),
        ("GET", "/api/v1/history?limit=x", 400),
        ("GET", "/api/v1/explain?header=x", 400),
    ],
)
async def test_faults_are_problem_documents(gateway: Gateway, method: str, path: str, status: int) -> None:
    """Every refusal says what is wrong as application/problem+json."""
    async with gateway.control() as client, client.session.request(method, client.url + path) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        problem = await response.json(content_type=None)
        assert ("Allow" in response.headers) == (status == 405)
    assert problem["status"] == status
    assert problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b"\xff",
        b'{"reason": 1}',
        b'{"reason": "' + b"x" * 1001 + b'"}',
        b'{"metadata": []}',
        b'{"metadata": {"x": NaN}}',
        b'{"number": true}',
        b'{"number": -1}',
        b'{"resaon": "x"}',
        b"[" * 60_000,
    ],
)
async def test_bodies_that_make_no_sense_change_nothing(gateway: Gateway, body: bytes) -> None:
    """400, and the latch stays as it was."""
    async with (
        gateway.control() as client,
        client.session.post(client.url + EMERGENCY, data=body) as response,
    ):
        assert response.status == 400
    assert not gateway.page.engaged


async def test_a_lone_surrogate_in_the_reason_is_replaced(gateway: Gateway) -> None:
    """JSON may hold what UTF-8 may not; the emergency does not fail over it."""
    async with gateway.control() as client:
        async with client.session.post(client.url + EMERGENCY, data=b'{"reason": "\\ud800"}') as response:
            assert response.status == 200
        assert (await client.status())["latch"]["reason"] == "?"


async def test_a_large_body_is_refused_by_its_announcement(gateway: Gateway) -> None:
    """A gigabyte is answered with 413 before it is sent."""
    async with gateway.control() as client:
        reader, writer = await asyncio.open_connection(*client.address)
        writer.write(
            f"POST {EMERGENCY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n")
        writer.close()
        await writer.wait_closed()
    assert b" 413 " in head
    assert not gateway.page.engaged


async def test_a_chunked_body_is_refused_once_it_is_too_large(gateway: Gateway) -> None:
    """No announcement, the same limit."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(BODY_LIMIT // 1024 + 2):
            yield b" " * 1024

    async with (
        gateway.control() as client,
        client.session.post(client.url + EMERGENCY, data=chunks()) as response,
    ):
        assert response.status == 413
    assert not gateway.page.engaged


async def test_an_unforeseen_fault_shows_nothing_internal() -> None:
    """500 as a problem document, without a traceback."""
    async with serving(Broken()) as (session, url), session.get(url + STATUS) as response:
        text = await response.text()
        assert response.status == 500
        assert response.content_type == "application/problem+json"
    assert "injected" not in text
    assert "Traceback" not in text


# --- who takes their time ---

QUICK = Deadlines(head=0.2, request=0.4, sweep=0.01)
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
both_loops = pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
"""The transports of the two loops differ; the gateway runs on uvloop."""


def run(loop_factory: LoopFactory, scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario)


async def is_cut_off(url: str, sent: str) -> bool:
    """True if a connection that sends this and then nothing is ended by the server, without an answer."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent.encode())
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(OF_TASKS):
            answer = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionResetError):
        await writer.wait_closed()
    return answer == b""


@both_loops
@pytest.mark.parametrize(
    "sent",
    [
        "",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        f"POST {EMERGENCY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{{",
    ],
    ids=["nothing", "head", "body"],
)
def test_who_never_ends_a_request_is_cut_off(loop_factory: LoopFactory, sent: str) -> None:
    """Slow loris on the admin port: the connection is aborted, and others are served meanwhile."""

    async def scenario() -> None:
        async with serving(Broken(), deadlines=QUICK) as (session, url):
            slow = asyncio.create_task(is_cut_off(url, sent))
            assert await is_live(session, url)
            assert await slow

    run(loop_factory, scenario())


@both_loops
def test_strangers_cannot_take_all_connections(loop_factory: LoopFactory) -> None:
    """Beyond the cap new connections end at once; when idle ones are cut off there is room again."""

    async def scenario() -> None:
        deadlines = Deadlines(head=1.0, request=5, sweep=0.05)
        async with serving(Broken(), deadlines=deadlines) as (session, url):
            host, port = url.removeprefix("http://").split(":")
            with contextlib.ExitStack() as idle:
                for _ in range(MAX_CONNECTIONS):
                    idle.enter_context(socket.create_connection((host, int(port))))
                    await turns()
                async with asyncio.timeout(15):
                    while await is_live(session, url):
                        # The last was not accepted yet, or, on a busy machine, the first was cut off again.
                        idle.enter_context(socket.create_connection((host, int(port))))
                    await soon(lambda: is_live(session, url), patience=15)

    run(loop_factory, scenario())


async def is_live(session: aiohttp.ClientSession, url: str) -> bool:
    """True if the server answers a new connection."""
    try:
        async with session.get(url + "/livez", headers={"Connection": "close"}) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


class Broken:
    """A backend whose status fails."""

    def not_ready(self) -> str:
        return ""

    async def status(self) -> dict[str, Any]:
        raise RuntimeError("injected")

    async def history(self, limit: int) -> list[dict[str, Any]]:
        return []

    def explain(self, question: Question) -> dict[str, Any]:
        return {}

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"", "text/plain"

    async def engage(self, by: Operator) -> dict[str, Any]:
        return {}

    async def release(
        self, by: Operator, number: int | None, percentage: Fraction | None, expected: Collection[int] | None
    ) -> dict[str, Any]:
        raise RuntimeError("injected")

    async def carry_out(self, event: Event, expected: Collection[int] | None) -> dict[str, Any]:
        raise RuntimeError("injected")


@contextlib.asynccontextmanager
async def serving(
    backend: Broken,
    deadlines: Deadlines = Deadlines(),  # noqa: B008
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """An admin server alone."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = AdminServer(backend, Access(TcpAddress("127.0.0.1", port), {}), listening, deadlines)
    await server.start()
    sweeping = asyncio.create_task(server.run())
    try:
        async with aiohttp.ClientSession() as session:
            yield session, f"http://127.0.0.1:{port}"
    finally:
        sweeping.cancel()
        await server.close()


# --- other addresses ---


async def test_a_unix_socket_serves_any_host_name(tmp_path: Path) -> None:
    """No browser gets there, so the Host header proves nothing."""
    path = str(tmp_path / "admin.sock")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    server = AdminServer(Broken(), Access(UnixAddress(path), {}), listening)
    await server.start()
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
        session.get("http://whatever.example/livez") as response,
    ):
        assert response.status == 200
    await server.close()


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        ("0.0.0.0", "10.1.2.3:9900", 200),
        ("0.0.0.0", socket.gethostname(), 200),
        ("0.0.0.0", f"{socket.gethostname()}.pipeline.default.svc:9900", 200),
        ("0.0.0.0", f"{socket.gethostname()}evil.example", 403),
        ("0.0.0.0", "evil.example", 403),
        ("10.1.2.3", "10.1.2.3", 200),
        ("10.1.2.3", "10.9.9.9", 403),
        ("admin.internal", "admin.internal:9900", 200),
    ],
)
async def test_the_configured_address_is_ours(address: str, host: str, status: int) -> None:
    """On a wildcard, addresses and the machine's own name, with any domain; else the very address."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/livez"
    server = AdminServer(Broken(), Access(TcpAddress(address, 9900), {}), listening)
    await server.start()
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Host": host}) as response:
        assert response.status == status
    await server.close()


# --- the description ---


async def test_the_description_names_every_path_and_no_other(gateway: Gateway) -> None:
    """A path that is added must be described, but for the files that a page consists of."""
    async with gateway.control() as client:
        await client.status()
        routes = client.controller._front.server._runner.app.router.routes()
        served = {(route.method.lower(), route.resource.canonical) for route in routes if route.resource}
    described = {(method, path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert {(method, path) for method, path in served if method != "head" and "/{digest}/" not in path} == (
        described
    )


def test_the_description_s_references_resolve() -> None:
    """Every $ref points at something."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                target: Any = DOCUMENT
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(DOCUMENT)
    json.dumps(DOCUMENT)


async def test_answers_hold_what_the_description_requires(gateway: Gateway) -> None:
    """The documents have at least the keys that their schemas require."""
    async with gateway.control() as client:
        await client.ask("POST", EMERGENCY)
        await soon(lambda: gateway.page.engaged)
        for path in (STATUS, "/api/v1/history", "/api/v1/explain"):
            _, answer = await client.ask("GET", path)
            schema = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"][
                "schema"
            ]
            if schema["type"] == "array":
                answer, schema = answer[-1], schema["items"]
            assert set(schema["required"]) <= set(answer)
