"""Automated tests at work: real commands and real HTTP, bounded in time and in what they leave behind."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.control.actions import OUTPUT_KEPT
from gateway.control.rollout.testing import run_test
from gateway.model.gates import AutomatedTest
from gateway.model.units import HttpCall
from tests.support.polling import LATE, soon

pytestmark = pytest.mark.socket


def command(*arguments: str, timeout: float = 10.0) -> AutomatedTest:
    return AutomatedTest("g", arguments, None, timeout)


def python(script: str, timeout: float = 10.0) -> AutomatedTest:
    return command(sys.executable, "-c", script, timeout=timeout)


def is_alive(pid: int) -> bool:
    """True if a process runs; one that is only waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("code", "succeeded"), [(0, True), (1, False), (3, False)])
async def test_the_exit_code_says_it(tmp_path: Path, code: int, succeeded: bool) -> None:
    """Zero passes; what was printed is kept, from both streams."""
    script = f"import sys; print('out'); print('err', file=sys.stderr, flush=True); sys.exit({code})"
    ran = await run_test(python(script), tmp_path)
    assert (ran.succeeded, ran.detail) == (succeeded, f"exit code {code}")
    assert {"out", "err"} == set(ran.output.split())


async def test_a_command_runs_in_the_config_s_folder_without_input(tmp_path: Path) -> None:
    """Paths are relative to the config, and nobody types anything."""
    ran = await run_test(python("import os, sys; print(os.getcwd(), repr(sys.stdin.read()))"), tmp_path)
    assert ran.output == f"{tmp_path} ''\n"


async def test_a_command_that_cannot_be_run_fails(tmp_path: Path) -> None:
    """With the reason."""
    ran = await run_test(command("/no/such/command"), tmp_path)
    assert not ran.succeeded
    assert "/no/such/command" in ran.detail


async def test_a_command_that_dies_of_a_signal_fails(tmp_path: Path) -> None:
    """With the signal's number."""
    ran = await run_test(python("import os; os.kill(os.getpid(), 9)"), tmp_path)
    assert (ran.succeeded, ran.detail) == (False, "killed by signal 9")


async def test_of_a_flood_the_end_is_kept(tmp_path: Path) -> None:
    """Five megabytes cost a few kilobytes."""
    ran = await run_test(python("for n in range(50_000): print(f'{n:99d}')"), tmp_path)
    assert ran.succeeded
    assert len(ran.output) == OUTPUT_KEPT
    assert ran.output.endswith("49999\n")


@pytest.mark.process
async def test_at_the_timeout_it_is_killed_with_its_children(tmp_path: Path) -> None:
    """A child that ignores SIGTERM and holds the pipe ends too, at once; what was printed is kept."""
    child = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    script = (
        f"import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', {child!r}]);"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    began = time.monotonic()
    ran = await run_test(python(script, timeout=3.0), tmp_path)
    assert time.monotonic() - began < 3.0 + LATE
    assert (ran.succeeded, ran.detail) == (False, "did not end within 3s")
    await gone(int(ran.output))


@pytest.mark.process
async def test_what_a_command_leaves_running_is_killed(tmp_path: Path) -> None:
    """It ended well, and its background child ends with it instead of holding the pipe."""
    script = (
        "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(c.pid, flush=True)"
    )
    async with asyncio.timeout(8):
        ran = await run_test(python(script), tmp_path)
    assert ran.succeeded
    await gone(int(ran.output))


async def gone(pid: int) -> None:
    """Wait until a process runs no more."""
    await soon(lambda: not is_alive(pid))
    assert pid != os.getpid()


@pytest.fixture
async def url() -> AsyncIterator[
    Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]
]:
    servers: list[TestServer] = []

    async def serve(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        servers.append(TestServer(app))
        await servers[-1].start_server()
        return str(servers[-1].make_url("/smoke"))

    yield serve
    for server in servers:
        await server.close()


@pytest.mark.parametrize(
    ("status", "succeeded"), [(200, True), (204, True), (302, False), (404, False), (500, False)]
)
async def test_an_http_status_says_it(
    tmp_path: Path, url: Callable[..., Awaitable[str]], status: int, succeeded: bool
) -> None:
    """200 to 299 pass, redirects are not followed, the method is the one that is written."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, text="" if status == 204 else request.method)

    gate = AutomatedTest("g", (), HttpCall("POST", await url(handler)), 5.0)
    ran = await run_test(gate, tmp_path)
    assert (ran.succeeded, ran.detail) == (succeeded, f"status {status}")
    assert ran.output == ("" if status == 204 else "POST")


async def test_an_answer_that_never_ends_fails_at_the_timeout(
    tmp_path: Path, url: Callable[..., Awaitable[str]]
) -> None:
    """A drip of bytes is no answer; what came is kept, its end only."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)
            await asyncio.sleep(0.01)

    gate = AutomatedTest("g", (), HttpCall("GET", await url(handler)), 0.5)
    ran = await run_test(gate, tmp_path)
    assert (ran.succeeded, ran.detail) == (False, "did not end within 500ms")
    assert 0 < len(ran.output) <= OUTPUT_KEPT


async def test_nobody_there_fails(tmp_path: Path) -> None:
    """At once, with the address."""
    ran = await run_test(AutomatedTest("g", (), HttpCall("GET", "http://127.0.0.1:9/x"), 5.0), tmp_path)
    assert not ran.succeeded
    assert "http://127.0.0.1:9/x does not answer" in ran.detail
