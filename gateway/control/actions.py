"""Runs a command, or requests a URL, on the gateway's behalf and within a time limit.

A command runs in its own session. It is killed with all its children when it is over, late or no
longer wanted. The end of its output is kept. Nothing here blocks the loop.

It does not know whether it runs a gate's test or a rollback's hook, nor what the result means.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from gateway.model.units import HttpCall, format_duration

OUTPUT_KEPT = 4096
"""Bytes of the output that are kept: the end, where it says what was wrong."""
_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Ran:
    """How it ended. `detail` is one line, `output` the end of what it printed or answered."""

    succeeded: bool
    detail: str
    output: str


@dataclass(frozen=True, slots=True)
class Action:
    """A program and its arguments, or a request; exactly one of the two. `timeout` is seconds."""

    command: tuple[str, ...]
    http: HttpCall | None
    timeout: float


async def carry_out(action: Action, folder: Path) -> Ran:
    """Run it to its end, at latest at its timeout; a command runs in `folder`.

    It succeeded with exit code 0, or a status of 200 to 299.
    """
    output = _End()
    try:
        async with asyncio.timeout(action.timeout):
            if action.http is not None:
                return await _ask(action.http, output)
            return await _execute(action.command, folder, output)
    except TimeoutError:
        return Ran(False, f"did not end within {format_duration(action.timeout)}", str(output))


class _End:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Take a piece, and forget the oldest that are not needed any more."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._chunks[0]) >= OUTPUT_KEPT:
            self._size -= len(self._chunks.popleft())

    def __str__(self) -> str:
        return b"".join(self._chunks)[-OUTPUT_KEPT:].decode(errors="replace")


async def _execute(command: tuple[str, ...], folder: Path, output: _End) -> Ran:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Ran(False, f"{command[0]} cannot be run: {error}", "")
    assert process.stdout is not None
    reading = asyncio.create_task(_read_on(process.stdout, output))
    try:
        await _exit(process.pid)
    finally:
        # What it left running would hold the pipe, and the machine, for ever.
        _kill_session(process.pid)
        code = await process.wait()
        await reading
    ended = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
    return Ran(code == 0, ended, str(output))


async def _exit(pid: int) -> None:
    """Wait until a child has ended; asyncio's own wait also waits for whoever else holds its pipe."""
    ended = asyncio.Event()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _read_on(stream: asyncio.StreamReader, output: _End) -> None:
    while chunk := await stream.read(_CHUNK):
        output.add(chunk)


def _kill_session(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


async def _ask(call: HttpCall, output: _End) -> Ran:
    session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "gateway"})
    try:
        async with session, session.request(call.method, call.url, allow_redirects=False) as response:
            async for chunk in response.content.iter_any():
                output.add(chunk)
            return Ran(200 <= response.status < 300, f"status {response.status}", str(output))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Ran(False, f"{call.public} does not answer: {_reason(error)}", str(output))


def _reason(error: Exception) -> str:
    """What went wrong; errors about the URL itself would quote it whole."""
    if isinstance(error, aiohttp.InvalidURL):
        return "it is no URL"
    return str(error) or type(error).__name__
