"""The commands that ask a running gateway, over a real socket."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway import cli
from gateway.commands import client
from gateway.exits import Exit
from gateway.latch import LatchKind
from tests.support.control import CONFIG, Gateway, make_counts, make_gateway, make_observation
from tests.support.polling import OF_PROCESSES, soon

pytestmark = pytest.mark.socket


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    gateway = make_gateway(tmp_path)
    gateway.report(
        make_observation(
            "a",
            11,
            make_counts("control", ((200, "ok", 900), (502, "reset", 100)), (0.02,)),
            make_counts("treatment", ((200, "ok", 10),), (2.2,)),
        )
    )
    return gateway


async def command(*arguments: str) -> int:
    """Run a command as the shell would, beside the loop that serves it."""
    return await asyncio.to_thread(cli.main, arguments)


async def test_status_says_what_holds_and_what_to_type(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Phase, share, both arms side by side, workers, config; and how to stop it."""
    async with gateway.control() as control:
        assert await command("status", "--admin", control.url) == Exit.DONE
    shown = capsys.readouterr().out
    assert re.search(r"Phase canary, 1 % of users", shown)
    assert re.search(r"control +treatment", shown)
    assert re.search(r"requests .* 1,000 +10\n", shown)
    assert re.search(r"errors .* 10\.00 % +0\.00 %\n", shown)
    assert re.search(r"worker +11 ", shown)
    assert "gateway emergency" in shown
    assert "LATCHED" not in shown


async def test_status_is_loud_while_latched(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing to see is that nothing reaches treatment, why, and the way out."""
    gateway.page.engage(LatchKind.EMERGENCY, "the answers are nonsense", "ann")
    async with gateway.control() as control:
        await command("status", "--admin", control.url)
    shown = capsys.readouterr().out
    assert "LATCHED (emergency)" in shown
    assert "by ann: the answers are nonsense" in shown
    assert "gateway release" in shown


async def test_status_says_that_treatment_has_no_usable_endpoint(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right below the phase, with what becomes of it; nobody is advised to send it more users."""
    gateway.report(make_observation("a", 11, endpoints=[("dspy", 9002, False)]))
    async with gateway.control() as control:
        await command("status", "--admin", control.url)
    shown = capsys.readouterr().out
    phase, missing, *_ = shown.splitlines()
    assert phase.startswith("Phase canary")
    assert missing.startswith("Treatment has no usable endpoint: control answers; ")
    assert re.search(r"endpoint +http://127.0.0.1:9002 +its requests failed", shown)
    assert "gateway advance" not in shown
    assert "gateway emergency" in shown


async def test_status_says_why_an_endpoint_fails_its_health_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused, silent or an error: the first thing that somebody asks who is to repair it."""
    check = "health_check: {interval: 100ms, timeout: 100ms, unhealthy_after: 1}"
    text = CONFIG.replace('"http://127.0.0.1:9002"]', f'"http://127.0.0.1:9"], {check}')
    gateway = make_gateway(tmp_path, text)
    async with gateway.control() as control:
        await soon(lambda: gateway.link.health.get(("dspy", "http://127.0.0.1:9")) is False)
        await command("status", "--admin", control.url)
        (endpoint,) = (await control.status())["upstreams"]["dspy"]["endpoints"]
    shown = capsys.readouterr().out
    assert re.search(r"endpoint +http://127.0.0.1:9 +health check: Connection refused", shown)
    assert (endpoint["check"], endpoint["check_error"]) == (False, "Connection refused")


async def test_status_shows_a_config_that_is_not_in_force(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken file is said in full."""
    async with gateway.control() as control:
        gateway.config.write_text(CONFIG.replace("endpoints", "endpionts"))

        async def refused() -> bool:
            return bool((await control.status())["config"]["error"])

        await soon(refused)
        await command("status", "--admin", control.url)
    assert "endpionts" in capsys.readouterr().out


async def test_json_is_the_api_s_own_document(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """`-o json` prints the admin API's answer, whole: one that was kept, for the next has later moments."""
    async with gateway.control() as control:
        answered = await control.status()
    application = web.Application()

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(answered)

    application.router.add_get("/api/v1/status", answer)
    async with TestServer(application) as admin:
        assert await command("status", "--admin", str(admin.make_url("/")), "-o", "json") == Exit.DONE
    assert json.loads(capsys.readouterr().out) == answered


async def test_status_without_a_worker_is_unhealthy(tmp_path: Path) -> None:
    """Exit code 1: nobody serves."""
    async with make_gateway(tmp_path).control() as control:
        assert await command("status", "--admin", control.url) == Exit.FAILED


async def test_release_lifts_the_latch_and_says_what_it_was(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Operator and reason go to the history; a second release has nothing to do and says so."""
    gateway.page.engage(LatchKind.EMERGENCY, "fire", "ann")
    async with gateway.control() as control:
        options = ("--admin", control.url, "--operator", "bob", "--reason", "fixed")
        assert await command("release", *options) == Exit.DONE
        assert "Released" in capsys.readouterr().out
        assert not gateway.page.engaged
        assert await command("release", *options) == Exit.DONE
        assert "nothing to release" in capsys.readouterr().out

        assert await command("history", "--admin", control.url) == Exit.DONE
        lines = capsys.readouterr().out.splitlines()
        assert await command("history", "--admin", control.url, "--limit", "1", "-o", "json") == Exit.DONE
        (event,) = json.loads(capsys.readouterr().out)
    assert any("emergency" in line and "by ann: fire" in line for line in lines)
    assert (event["type"], event["operator"], event["reason"]) == ("release", "bob", "fixed")


async def test_a_token_opens_and_its_absence_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """401 is exit 1 with the way out; the token is read from the file."""
    token = tmp_path / "ann.token"
    token.write_text("secret\n")
    gateway = make_gateway(tmp_path, CONFIG + "admin: {tokens: {ann: ann.token}}\n")
    gateway.report(make_observation("a", 11))
    async with gateway.control() as control:
        assert await command("status", "--admin", control.url) == Exit.FAILED
        assert "--token-file" in capsys.readouterr().err
        assert await command("status", "--admin", control.url, "--token-file", str(token)) == Exit.DONE


async def test_a_unix_socket_is_an_admin_address(gateway: Gateway, tmp_path: Path) -> None:
    """`--admin unix:PATH`."""
    path = tmp_path / "admin.sock"
    gateway.config.write_text(CONFIG + f"admin: {{address: 'unix:{path}'}}\n")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    async with gateway.control(listening):
        assert await command("status", "--admin", f"unix:{path}") == Exit.DONE


@pytest.mark.parametrize("name", ["status", "release", "history"])
async def test_no_gateway_is_exit_4(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line that names the address, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for admin in (f"http://127.0.0.1:{port}", f"unix:{tmp_path}/none.sock"):
        assert await command(name, "--admin", admin) == Exit.UNREACHABLE
        error = capsys.readouterr().err
        assert admin in error
        assert error.count("\n") == 1


async def test_another_server_at_the_address_is_no_gateway() -> None:
    """Something answers, but not in JSON: exit 4."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await command("status", "--admin", f"127.0.0.1:{port}") == Exit.UNREACHABLE


@pytest.mark.parametrize("name", ["status", "history", "release"])
async def test_a_server_that_speaks_another_json_is_no_gateway(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a pipeline behind the gateway's own port for traffic: exit 4, no traceback."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"answer": 1}')
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await command(name, "--admin", f"127.0.0.1:{port}") == Exit.UNREACHABLE
    assert capsys.readouterr().err.startswith(f"gateway: what answers at 127.0.0.1:{port} is no admin API")


@pytest.mark.parametrize("limit", ["0", "-3", "501", "x", "1.5"])
def test_a_limit_that_makes_no_sense_is_exit_2(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anybody is asked, and with what would do."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["history", "--limit", limit])
    assert ended.value.code == Exit.INVALID
    assert "from 1 to 500" in capsys.readouterr().err


@pytest.mark.parametrize(
    "admin", ["ftp://x", "http://", "http://h:port", "http://h:1/path", "http://[", "https://h"]
)
async def test_an_address_that_makes_no_sense_is_exit_2(admin: str) -> None:
    """Usage, not reachability."""
    assert await command("status", "--admin", admin) == Exit.INVALID


@pytest.mark.parametrize("content", [None, b"", b"a\nb", b"\xff"])
async def test_a_token_file_that_holds_no_token_is_exit_2(tmp_path: Path, content: bytes | None) -> None:
    """A second line would become a second header."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    assert await command("status", "--token-file", str(file)) == Exit.INVALID


@pytest.mark.parametrize(
    ("status", "code"), [(409, Exit.GATE_NOT_PASSED), (412, Exit.FAILED), (503, Exit.FAILED)]
)
def test_refusals_have_exit_codes(status: int, code: Exit) -> None:
    """What the rollout's state does not allow is 3; all else is 1."""
    assert client.Refused(status, {"detail": "why"}).exit is code


@pytest.mark.process
async def test_watch_goes_on_until_it_is_interrupted(gateway: Gateway) -> None:
    """A real process, interrupted as from the keyboard, ends with 0."""
    async with gateway.control() as control:
        watching = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "status", "--watch", "--admin", control.url),
            stdout=asyncio.subprocess.PIPE,
            # Whoever runs the tests in the background of a script has them ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert watching.stdout is not None
        try:
            async with asyncio.timeout(OF_PROCESSES):
                for _ in range(2):
                    await watching.stdout.readuntil(b"Phase canary")
                watching.send_signal(signal.SIGINT)
                await watching.communicate()
            assert watching.returncode == Exit.DONE
        finally:
            if watching.returncode is None:
                watching.kill()
                await watching.wait()
