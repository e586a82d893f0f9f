"""`gateway history`: what happened, by whom and why."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.commands import client, options
from gateway.exits import Exit

_DIGEST_SHOWN = 12


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "history",
        help="transitions, approvals, alerts, rollbacks, reloads",
        parents=[options.client_options()],
        description="What happened, by whom and why; newest last.",
    )
    parser.add_argument("--limit", metavar="N", type=int, default=50, help="how many of the newest events")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Print the newest events."""

    def show(gateway: client.AdminClient) -> int:
        events = gateway.get("history", [("limit", str(args.limit))])
        if args.output == "json":
            print(json.dumps(events))
        else:
            print("\n".join(map(describe, events)) or "Nothing happened yet.")
        return Exit.DONE

    return client.run(args, show)


def describe(event: dict[str, Any]) -> str:
    """One event as a line, its evidence indented below."""
    change = ""
    if event["from"] != event["to"]:
        change = f" {_short(event['from'])} -> {_short(event['to'])}"
    reason = f": {event['reason']}" if event["reason"] else ""
    line = f"{event['at']}  {event['type']:<16}{change} by {event['operator']}{reason}"
    evidence = ", ".join(f"{name} {value}" for name, value in event["evidence"].items())
    return f"{line}\n{'':26}{evidence}" if evidence else line


def _short(name: str | None) -> str:
    """A digest cut to what people compare; other names whole."""
    name = name or "none"
    is_digest = len(name) == 64 and set(name) <= set("0123456789abcdef")
    return name[:_DIGEST_SHOWN] if is_digest else name
