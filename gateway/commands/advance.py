"""`gateway advance`: to the next phase, if its gates allow it."""

from __future__ import annotations

import argparse

from gateway.commands import steps


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = steps.add_step(
        subparsers,
        "advance",
        "to the next phase, if its gates allow it",
        "Go to the next phase. If the gates do not allow it, exits with 3 and says why for each gate.",
    )
    parser.add_argument("--force", action="store_true", help="skip gates and holds; the history shows it")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Ask for the next phase."""
    return steps.take(args, "rollout/advance", "Advanced.", force=args.force)
