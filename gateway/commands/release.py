"""`gateway release`: lift the latch after an emergency or a rollback, or move the ceiling."""

from __future__ import annotations

import argparse
import contextlib
import json
from typing import Any

from gateway.commands import client, options, steps
from gateway.exits import Exit


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "release",
        help="lift the latch after a rollback or an emergency",
        parents=[options.client_options(), options.audit_options()],
        description="Lift the latch. Treatment gets the phase's share again, but at most the share it had "
        "before the rollback (the ceiling). Nothing else lifts the latch.",
    )
    parser.add_argument(
        "--percentage",
        metavar="N",
        type=_percentage,
        help="set another ceiling; works without a latch too",
    )
    parser.set_defaults(execute=execute)


def _percentage(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text.removesuffix("%"))
        if 0 <= value <= 100:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to 100")


def execute(args: argparse.Namespace) -> int:
    """Release the engagement that holds now, and no newer one."""

    def release(gateway: client.AdminClient) -> int:
        latch = gateway.get("status")["latch"]
        body = client.audit_fields(args) | {"number": latch["number"], "percentage": args.percentage}
        answer = gateway.post("release", body)
        print(json.dumps(answer) if args.output == "json" else describe(latch, answer, args.percentage))
        return Exit.DONE

    return client.run(args, release)


def describe(latch: dict[str, Any], answer: dict[str, Any], percentage: float | None) -> str:
    """What was done, in words; `latch` is how it stood before."""
    if not answer["released"] and percentage is None:
        return "The latch was not engaged; there was nothing to release."
    if not answer["released"]:
        return f"The ceiling is set. {steps.describe(answer)}"
    reason = f": {latch['reason']}" if latch["reason"] else ""
    then = "Treatment gets traffic again; watch it with: gateway status --watch"
    if answer["ceiling"] == 0:
        then = "Treatment has no traffic yet; to give it some: gateway release --percentage N"
    return (
        f"Released. It was engaged ({latch['kind']}) since {latch['since']} by {latch['operator']}{reason}.\n"
        f"{steps.describe(answer)}\n"
        f"{then}"
    )
