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
    return steps.take(args, f"gates/{quote(args.gate, safe='')}/reject", _said)


def _said(answer: steps.Document) -> str:
    """What the word did: the gate of a rollback is gone with it, another one stands and fails."""
    if answer["gate"] is None:
        return "Rejected: treatment keeps its users, and the evidence against it begins at zero."
    return "Rejected; the same operator can still approve."
