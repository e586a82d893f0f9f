"""`gateway history`: what happened, who did it, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from gateway.commands import client, options
from gateway.exits import Exit

MOST = 500
"""How many events a gateway shows at once."""
_DIGEST_SHOWN = 12
_MARGIN = " " * 26


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "history",
        help="transitions, approvals, alerts, rollbacks, reloads",
        parents=[options.client_options()],
        description="What happened, who did it and why; newest last.",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_limit,
        default=50,
        help=f"how many of the newest events, at most {MOST} (default: %(default)s)",
    )
    parser.set_defaults(execute=execute)


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MOST}")
    return int(text)


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
    news = {name: value for name, value in event["evidence"].items() if not _is_said(event, name, value)}
    return "\n".join(client.printable(each) for each in (line, *_evidence(news)))


def _is_said(event: dict[str, Any], name: str, value: Any) -> bool:
    """True for what the line itself says: an alert's words, and whether it is over."""
    return event["type"] == "alert" and (value == event["reason"] or name == "resolved")


def _evidence(evidence: dict[str, Any]) -> Iterator[str]:
    """What is said of an event: the short facts on a line, then a line for each gate and each finding."""
    facts: list[str] = []
    below: list[str] = []
    for name, value in evidence.items():
        match value:
            case None | []:
                pass  # nothing to say
            case [{"id": _, "verdict": _, "reason": _}, *_]:
                below += [f"{gate['verdict']:<12} {gate['id']}: {gate['reason']}" for gate in value]
            case dict():
                below.append(f"{name}: {_members(value)}")
            case [dict(), *_]:
                below += [f"{name}: {_members(each)}" for each in value]
            case str() if "\n" in value:
                below += [f"{name}:", *(f"  {each}" for each in value.rstrip().splitlines())]
            case _:
                facts.append(f"{name} {value}")
    lines = [", ".join(facts), *below] if facts else below
    return (f"{_MARGIN}{each}" for each in lines)


def _members(value: dict[str, Any]) -> str:
    """What it says by name, on one line; what is empty is left out."""
    said = {name: " / ".join(str(each).split("\n")).removesuffix(" / ") for name, each in value.items()}
    return ", ".join(f"{name} {each}" for name, each in said.items() if each)


def _short(name: str | None) -> str:
    """A digest cut to what people compare; other names whole."""
    name = name or "none"
    is_digest = len(name) == 64 and set(name) <= set("0123456789abcdef")
    return name[:_DIGEST_SHOWN] if is_digest else name
