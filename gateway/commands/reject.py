"""`gateway reject`: record a person's rejection of a gate."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from gateway.commands import steps


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = steps.add_step(
        subparsers, "reject", "reject a gate", "Reject a gate. It fails until the same operator approves it."
    )
    parser.add_argument(
        "gate", metavar="GATE", help="its id as `status` prints it, or its type where only one is pending"
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Reject the gate."""
    return steps.take(
        args, f"gates/{quote(args.gate, safe='')}/reject", "Rejected; the same operator can still approve."
    )
