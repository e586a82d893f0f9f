"""`gateway pause`: prevent advances until `gateway resume`."""

from __future__ import annotations

import argparse

from gateway.commands import steps


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = steps.add_step(
        subparsers,
        "pause",
        "no advance and no time gate until resume",
        "Advances and time gates stand still; alerts and rollback go on.",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Pause."""
    return steps.take(args, "rollout/pause", "Paused until `gateway resume`.")
