"""What the commands share that ask the rollout for a step: send it, print the state afterwards."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from gateway.commands import client, options
from gateway.exits import Exit

Document = Mapping[str, Any]


def add_step(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    """Register a command that takes who and why, and that talks to the running gateway."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=description,
        parents=[options.client_options(), options.audit_options()],
    )


def take(args: argparse.Namespace, path: str, said: Callable[[Document], str] | str, **body: Any) -> int:
    """Post a step; print `said` and where the rollout stands, or why not; returns the exit code."""

    def post(gateway: client.AdminClient) -> int:
        answer = gateway.post(path, client.audit_fields(args) | body)
        words = said if isinstance(said, str) else said(answer)
        whole = f"{words} {_missing(answer)}{describe(answer)}"
        print(json.dumps(answer) if args.output == "json" else whole)
        return Exit.DONE

    return client.run(args, post)


def _missing(answer: Document) -> str:
    """What a gate still waits for after somebody's word for it; "" where that is nothing, or no gate's."""
    gate = answer.get("gate")
    if gate is None or gate["verdict"] == "pass":
        return ""
    return f"{client.printable(gate['id'])} is {gate['verdict']}: {client.printable(gate['reason'])}.\n"


def describe(answer: Document) -> str:
    """Where the rollout stands, in a line or two."""
    enrolled = f"{answer['user_percentage']:g} % of users enrolled"
    if answer["latched"]:
        enrolled = "latched, everything goes to control until `gateway release`"
    elif answer["ceiling"] is not None:
        enrolled += f" (under the ceiling of {answer['ceiling']:g} %)"
    lines = [f"Phase {answer['phase']}: {enrolled}."]
    if not answer["acknowledged"]:
        lines.append("Not every worker serves by it yet; see: gateway status")
    return "\n".join(lines)
