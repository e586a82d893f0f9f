"""`gateway rollback`: engage the latch and go one phase back."""

from __future__ import annotations

import argparse

from gateway.commands import steps


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = steps.add_step(
        subparsers,
        "rollback",
        "everything to control, and to the previous phase",
        "Send everything to control at once and go one phase back; latched until `gateway release`.",
    )
    parser.add_argument(
        "--graceful", action="store_true", help="first reduce treatment's share in steps (rollback.drain)"
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Roll back now, or begin to drain."""
    return steps.take(args, "rollout/rollback", _said, graceful=args.graceful)


def _said(answer: steps.Document) -> str:
    """What was done: without steps to take (`drain.over: 0s`) a graceful one is as quick as any."""
    if not answer["latched"]:
        return "The drain has begun; `gateway rollback` or `gateway emergency` ends it at once."
    if answer["repeated"]:
        return "It was latched before: recorded, and no further step back."
    return "Rolled back."
