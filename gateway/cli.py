"""The command line: which commands there are, and how one is found.

Only the module of the requested command is imported, because `run` becomes the supervisor, which must stay
small. What a command does, and its options, are in `gateway.commands`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from gateway import __version__
from gateway.exits import SIGNAL_BASE, Exit
from gateway.garbage import uncollected

COMMANDS = (
    "run",
    "check",
    "demo",
    "explain",
    "diff",
    "status",
    "advance",
    "rollback",
    "pause",
    "resume",
    "approve",
    "reject",
    "emergency",
    "release",
    "history",
    "experiment",
    "schema",
)
"""The commands in the order of the manual; each is the module of its name in `gateway.commands`."""

_CHILDREN = {"_control": "gateway.app.control", "_worker": "gateway.app.worker"}


def main(arguments: Sequence[str]) -> int:
    """Run the command in `arguments`; returns its exit code. Wrong usage exits with 2."""
    if len(arguments) == 2 and arguments[0] in _CHILDREN:
        # A child of the supervisor: no parser, every millisecond counts.
        with uncollected():
            child: Callable[[int], int] = importlib.import_module(_CHILDREN[arguments[0]]).main
        return child(int(arguments[1]))
    parsed = parser(arguments).parse_args(arguments)
    execute: Callable[[argparse.Namespace], int] = parsed.execute
    try:
        code = int(execute(parsed))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return SIGNAL_BASE + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output left (`gateway status | head`); nothing more can be said to it.
        _write_no_more()
        return SIGNAL_BASE + signal.SIGPIPE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"gateway: cannot write: {error.strerror}", file=sys.stderr)
        _write_no_more()
        return Exit.FAILED


def _write_no_more() -> None:
    """What is still in the buffer of the output cannot be written, and must not fail at the end again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser for these arguments: of the one command that they name, else of all."""
    whole = argparse.ArgumentParser(
        prog="gateway",
        description="Roll out optimised pipelines safely: sticky split, rollout gates, instant rollback.",
        epilog="`gateway COMMAND --help` says more about a command.",
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = whole.add_subparsers(metavar="COMMAND", required=True)
    named = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name in COMMANDS if named is None else (named,):
        if find_spec(f"gateway.commands.{name}") is not None:
            importlib.import_module(f"gateway.commands.{name}").add(subparsers)
    return whole
