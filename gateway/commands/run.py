"""`gateway run`: serve. This process becomes the supervisor."""

from __future__ import annotations

import argparse
import os

from gateway.model.process import MAX_WORKERS, BootOptions
from gateway.supervisor import Supervisor

DEFAULT_CONFIG = "config/gateway.yaml"


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "run",
        help="serve",
        description="Serve by a config file until SIGTERM. SIGHUP reloads it; SIGUSR1 is the emergency.",
    )
    parser.add_argument(
        "config", nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG", help="default: %(default)s"
    )
    parser.add_argument("--workers", type=_count, metavar="N", help="data-plane processes (listen.workers)")
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        default=os.environ.get("GATEWAY_STATE_DIR"),
        help="latch, pid file, store (state.directory; env GATEWAY_STATE_DIR)",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Supervise until the end; returns its exit code."""
    return Supervisor(BootOptions(args.config, args.workers, args.state_dir)).run()


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_WORKERS}")
    return int(text)
