"""`gateway diff`: how many users a change of the config would move, before it is made.

It prints what `core.diff` computed. Both files are loaded as `check` loads them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.commands.offline import report_invalid, snapshot_of
from gateway.core.diff import Difference, Move, Place, RouteDifference, compare
from gateway.core.shares import format_share
from gateway.exits import Exit

_DESCRIPTION = """\
The share of users that would change arm, or go from one group to another, by route: exact, computed
from the ranges. Users on override lists are named. Hashes that a change makes different (another salt,
seed or id) are independent: such users are assigned anew."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser("diff", help="who would change arm", description=_DESCRIPTION)
    parser.add_argument("old", type=Path, metavar="OLD", help="the config as it is")
    parser.add_argument("new", type=Path, metavar="NEW", help="the config as it would be")
    parser.add_argument("--phase", metavar="NAME", help="compare in this phase, not in the initial ones")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Print the difference; 0 whether or not somebody moves, 2 if a file is invalid."""
    return report_invalid(lambda: _compare(args))


def _compare(args: argparse.Namespace) -> int:
    difference = compare(snapshot_of(args.old, args.phase), snapshot_of(args.new, args.phase))
    print(json.dumps(document(difference), indent=2) if args.output == "json" else render(difference))
    return Exit.DONE


def document(difference: Difference) -> dict[str, Any]:
    """The difference as JSON; shares are in [0, 1], null where nothing can be compared."""
    return {
        "phase": {"old": difference.old_phase, "new": difference.new_phase},
        "routes": [_route_document(route) for route in difference.routes],
        "remarks": list(difference.remarks),
    }


def _route_document(route: RouteDifference) -> dict[str, Any]:
    return {
        "request": str(route.request),
        "old_route": route.old,
        "new_route": route.new,
        "arm_share": float(route.arm_share) if route.comparable else None,
        "group_share": float(route.group_share) if route.comparable else None,
        "moves": [
            {"share": float(move.share), "from": _place_document(move.old), "to": _place_document(move.new)}
            for move in route.moves
        ],
        "listed": [
            {"user": move.user, "from": move.old.label, "to": move.new.label} for move in route.listed
        ],
        "causes": list(route.causes),
    }


def _place_document(place: Place) -> dict[str, Any]:
    return {
        "arm": place.arm.label,
        "enrolled": place.enrolled,
        "experiment": place.experiment,
        "group": place.group,
    }


def render(difference: Difference) -> str:
    """The difference for people: the two shares of each route first, then who moves and why."""
    lines = [f"phase {difference.old_phase} → {difference.new_phase}", *difference.remarks]
    for route in difference.routes:
        lines += ["", *_route_lines(route)]
    return "\n".join(lines)


def _route_lines(route: RouteDifference) -> Iterator[str]:
    name = route.new or route.old
    if not route.comparable:
        change = "is new: nothing served" if route.old is None else "goes: nothing serves"
        yield f"route {name} {change} {route.request}"
        return
    yield (
        f"route {name} ({route.request}): {format_share(route.arm_share)} of the users change arm, "
        f"{format_share(route.group_share)} change group"
    )
    yield from (_move_line(move) for move in route.moves)
    for listed in route.listed:
        yield f"  listed user {listed.user}: {listed.old.label} → {listed.new.label}"
    yield from (f"  because {cause}" for cause in route.causes)


def _move_line(move: Move) -> str:
    mark = "*" if move.changes_arm else " "
    return f"  {mark}{format_share(move.share):>9}  {_place(move.old)} → {_place(move.new)}"


def _place(place: Place) -> str:
    if not place.enrolled:
        return f"{place.arm.label}, not enrolled"
    return f"{place.arm.label}, {f'group {place.group}' if place.group else 'no experiment'}"
