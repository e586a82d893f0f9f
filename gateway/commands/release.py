"""`gateway release`: lift the latch after an emergency or a rollback."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.commands import client, options
from gateway.exits import Exit


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "release",
        help="lift the latch after a rollback or an emergency",
        parents=[options.client_options(), options.audit_options()],
        description="Lift the latch: treatment gets traffic again as the phase says. Nothing else does.",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Release the engagement that holds now, and no newer one."""

    def release(gateway: client.AdminClient) -> int:
        latch = gateway.get("status")["latch"]
        answer = gateway.post("release", client.audit_fields(args) | {"number": latch["number"]})
        print(json.dumps(answer) if args.output == "json" else describe(latch, answer))
        return Exit.DONE

    return client.run(args, release)


def describe(latch: dict[str, Any], answer: dict[str, Any]) -> str:
    """What was done, in words; `latch` is how it stood before."""
    if not answer["released"]:
        return "The latch was not engaged; there was nothing to release."
    reason = f": {latch['reason']}" if latch["reason"] else ""
    return (
        f"Released. It was engaged ({latch['kind']}) since {latch['since']} by {latch['operator']}{reason}.\n"
        "Treatment gets traffic again; watch it with: gateway status --watch"
    )
