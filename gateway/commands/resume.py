"""`gateway resume`: end a pause."""

from __future__ import annotations

import argparse

from gateway.commands import steps


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = steps.add_step(
        subparsers, "resume", "end a pause", "Advances are allowed again and time gates go on."
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Resume."""
    return steps.take(args, "rollout/resume", "Resumed.")
