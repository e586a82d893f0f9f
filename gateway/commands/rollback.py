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
        "Everything to control at once and the phase one back; latched until `gateway release`.",
    )
    parser.add_argument(
        "--graceful", action="store_true", help="take treatment's share down in steps before (rollback.drain)"
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Roll back now, or begin to drain."""
    said = "The drain has begun; an emergency ends it." if args.graceful else "Rolled back."
    return steps.take(args, "rollout/rollback", said, graceful=args.graceful)
