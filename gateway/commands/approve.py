"""`gateway approve`: record a person's approval of a gate."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from gateway.commands import steps


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = steps.add_step(
        subparsers,
        "approve",
        "approve a gate",
        "Approve a gate. The approval becomes void when what was approved changes, or when it expires.",
    )
    parser.add_argument(
        "gate", metavar="GATE", help="its id as `status` prints it, or its type where only one is pending"
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Approve the gate."""
    return steps.take(args, f"gates/{quote(args.gate, safe='')}/approve", _said)


def _said(answer: steps.Document) -> str:
    """What the word did."""
    return "Approved: rolled back." if answer["latched"] else "Approved."
