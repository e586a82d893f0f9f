"""`gateway emergency`: send everything to control now, by any way that still works.

It tries the admin API, then SIGUSR1 to the process that holds the lock of the state directory, then
SIGUSR1 to workers that outlived that process, together with the latch file that the next start reads. It
imports nothing that reads a config or formats output: it must work when everything else is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.commands.options import DEFAULT_ADMIN, audit_options, client_options
from gateway.exits import Exit
from gateway.latch import DurableLatch, LatchKind
from gateway.processes.directory import StateDirectory
from gateway.processes.unattended import engage_without_supervisor, named, signal_processes, worker_pids

_API_SECONDS = 1.0
_SIGNAL_SECONDS = 1.0
_DEFAULT_DIRECTORIES = ("config/state", "state")
"""Where `gateway run` without further words keeps its state: beside its config."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "emergency",
        parents=[client_options(), audit_options()],
        help="everything to control, now; latched until `release`",
        description="Engage the latch: by the admin API (1 s); else by SIGUSR1 to the process that holds the "
        "state directory's lock; else by SIGUSR1 to workers that outlived it, and by the latch file.",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        default=os.environ.get("GATEWAY_STATE_DIR"),
        help="the gateway's state directory (env GATEWAY_STATE_DIR, default: beside the default config)",
    )
    parser.set_defaults(execute=execute, admin=os.environ.get("GATEWAY_ADMIN"))


@dataclass(frozen=True, slots=True)
class _Call:
    """What was asked for, and what came of it so far."""

    admin: str | None
    token_file: str | None
    directory: StateDirectory | None
    operator: str
    reason: str
    tell: Callable[[str], None]


def execute(args: argparse.Namespace) -> int:
    """Try the ways in their order; 0 as soon as one is known to work, 4 if none does."""
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if args.output == "text":
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    directory = _directory(args.state_dir)
    admin = args.admin or (directory.read_roster().admin if directory is not None else "")
    if not admin and args.state_dir is None:
        admin = DEFAULT_ADMIN
    call = _Call(admin, args.token_file, directory, args.operator, args.reason or "gateway emergency", tell)
    engaged = _by_api(call) or _by_directory(call)
    if args.output == "json":
        sys.stdout.write(json.dumps({"engaged": engaged, "log": said}) + "\n")
    return Exit.DONE if engaged else Exit.UNREACHABLE


def _directory(given: str | None) -> StateDirectory | None:
    candidates = [given] if given is not None else _DEFAULT_DIRECTORIES
    return next((StateDirectory(Path(path)) for path in candidates if os.path.isdir(path)), None)


def _by_api(call: _Call) -> bool:
    if not call.admin:
        return False
    answers: list[int | str] = []
    # In a thread, because a socket's timeout bounds each step and not the whole.
    asking = threading.Thread(target=lambda: answers.append(_post(call)), daemon=True)
    asking.start()
    asking.join(_API_SECONDS)
    answer = answers[0] if answers else f"no answer within {_API_SECONDS:g} s"
    if answer in range(200, 300):
        call.tell(f"engaged by the admin API at {call.admin}")
        return True
    call.tell(f"admin API at {call.admin}: {answer if isinstance(answer, str) else f'status {answer}'}")
    return False


def _post(call: _Call) -> int | str:
    """The status of the answer, or why there is none."""
    headers = {"Content-Type": "application/json"}
    try:
        if call.token_file:
            headers["Authorization"] = f"Bearer {Path(call.token_file).read_text().strip()}"
        connection, prefix = _connect(call.admin or "")
        with contextlib.closing(connection):
            body = json.dumps({"reason": call.reason, "operator": call.operator})
            connection.request("POST", f"{prefix}/api/v1/emergency", body, headers)
            return connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or repr(error)


def _connect(admin: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the admin API and the path before its own paths."""
    if admin.startswith("unix:"):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_API_SECONDS)
        connection.sock.connect(admin.removeprefix("unix:"))
        return connection, ""
    url = urlsplit(admin if "://" in admin else f"http://{admin}")
    if url.scheme == "https":
        context = ssl.create_default_context()
        tls = http.client.HTTPSConnection(url.netloc, timeout=_API_SECONDS, context=context)
        return tls, url.path.rstrip("/")
    return http.client.HTTPConnection(url.netloc, timeout=_API_SECONDS), url.path.rstrip("/")


def _by_directory(call: _Call) -> bool:
    if call.directory is None:
        call.tell("no state directory found: name it with --state-dir")
        return False
    holder = call.directory.holder()
    if holder is None:
        return engage_without_supervisor(call.directory, call.reason, call.operator, call.tell)
    if holder == 0:
        call.tell(f"{call.directory.path} is held by a process that cannot be signalled from here")
        return False
    if _signal_and_see(call, call.directory, [holder]):
        call.tell(f"engaged by SIGUSR1 to the main process, pid {holder}")
        return True
    call.tell(f"the main process, pid {holder}, was signalled; the disk does not show it")
    # A worker flips the page that all share; it needs neither its supervisor nor the disk for that.
    reached = signal_processes(worker_pids(call.directory), call.tell)
    if reached:
        call.tell(f"engaged by SIGUSR1 to the workers: {named(reached)}")
    return bool(reached)


def _signal_and_see(call: _Call, directory: StateDirectory, pids: list[int]) -> bool:
    """Signal them; True once the latch file shows it, False if it does not within a second."""
    before = _number(directory)
    reached = signal_processes(pids, call.tell)
    give_up = time.monotonic() + _SIGNAL_SECONDS
    while reached and time.monotonic() < give_up:
        if _number(directory) != before:
            return True
        time.sleep(0.01)
    return False


def _number(directory: StateDirectory) -> int:
    found = DurableLatch(directory.path).load()
    # A corrupt file has a new number each time it is read.
    return 0 if found is None or found.kind is LatchKind.CORRUPT else found.number
