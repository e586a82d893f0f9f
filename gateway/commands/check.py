"""`gateway check`: load a config as `run` would, and print what it means or what is wrong with it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.control.config.loading import ConfigError, Loaded, Problem, load
from gateway.control.monitoring.forecast import Exposed, counted_unit, forecasts, in_words
from gateway.control.monitoring.views import detections, limits
from gateway.core.evidence.detection import Detection
from gateway.core.exposure import treatment_percentage
from gateway.core.limits import rollback_limits
from gateway.exits import Exit
from gateway.model.config import Config, Route
from gateway.model.metrics import Metric
from gateway.model.safety import Unit
from gateway.model.units import format_number

TRAFFIC = 10.0
"""Requests a second that detection times are printed for, unless asked otherwise."""
MOST_TRAFFIC = 1e6

_DESCRIPTION = """\
Load the config as `run` and every reload do, but do not apply it. What is wrong
goes to stderr, a line for each problem: FILE:LINE:COL: path.to.key: what is wrong; what was expected."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser("check", help="check a config file", description=_DESCRIPTION)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the file to check")
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="json for machines (default: text)"
    )
    parser.add_argument(
        "--traffic",
        type=_traffic,
        default=TRAFFIC,
        metavar="N",
        help=f"requests a second for which detection times are printed (default: {TRAFFIC:g})",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Print the summary; 0 for a valid config, with or without warnings, and 2 for any other."""
    machine = args.output == "json"
    try:
        loaded = load(args.config, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        if machine:
            print(json.dumps({"valid": False, "problems": _problems(error.problems)}, indent=2))
        return Exit.INVALID
    print(json.dumps(document(loaded, args.traffic), indent=2) if machine else render(loaded, args.traffic))
    return Exit.DONE


def _traffic(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < MOST_TRAFFIC:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and below {MOST_TRAFFIC:,.0f}")
    return value


def document(loaded: Loaded, traffic: float = TRAFFIC) -> dict[str, Any]:
    """The summary as JSON; percentages are of all users with an id, `traffic` is requests a second."""
    config = loaded.config
    return {
        "valid": True,
        "digest": loaded.digest,
        "initial_phase": config.deployment.initial_phase,
        "phases": [
            {
                "name": name,
                "user_percentage": float(config.deployment.phases[name].user_percentage),
                "treatment": {
                    route.name: float(treatment_percentage(config, name, route)) for route in config.routes
                },
                "limits": limits(rollback_limits(config.deployment, name)),
                "detection": detections(_found(config, name, traffic)),
            }
            for name in config.deployment.ladder
        ],
        "routes": [
            {
                "name": route.name,
                "match": _match(route),
                "control": route.control,
                "treatment": route.treatment,
                "experiment": route.experiment,
            }
            for route in config.routes
        ],
        "upstreams": {name: list(upstream.endpoints) for name, upstream in config.upstreams.items()},
        "traffic": traffic,
        "warnings": _problems(loaded.warnings),
    }


def _problems(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(problem) for problem in problems]


def render(loaded: Loaded, traffic: float = TRAFFIC) -> str:
    """The summary for people; `traffic` is requests a second."""
    config = loaded.config
    blocks = [
        [f"{loaded.path}: valid (digest {loaded.digest[:12]})"],
        ["phases: who is enrolled, and who of all users treatment gets", *_phase_lines(config)],
        [_detection_title(config, traffic), *_detection_lines(config, traffic)],
        ["routes", *_table([["", route.name, _match(route), _arms(route)] for route in config.routes])],
        [
            "upstreams",
            *_table([["", name, ", ".join(each.endpoints)] for name, each in config.upstreams.items()]),
        ],
    ]
    if needs := list(_needs(config)):
        blocks.append(["needed from outside", *(f"  {need}" for need in needs)])
    if loaded.warnings:
        blocks.append(["warnings", *(f"  {warning}" for warning in loaded.warnings)])
    return "\n\n".join("\n".join(block) for block in blocks)


def _phase_lines(config: Config) -> list[str]:
    deployment = config.deployment
    rows = [["", "", "enrolled", *(route.name for route in config.routes)]]
    for name in deployment.ladder:
        mark = "→" if name == deployment.initial_phase else ""
        enrolled = f"{format_number(deployment.phases[name].user_percentage)} %"
        shares = [f"{format_number(treatment_percentage(config, name, route))} %" for route in config.routes]
        rows.append([mark, name, enrolled, *shares])
    return _table(rows)


def _detection_title(config: Config, traffic: float) -> str:
    by_user = counted_unit(config.deployment.rollback) is Unit.USER
    counted = "users' first requests in ten minutes" if by_user else "requests"
    return f"how soon a broken treatment is rolled back, with {format_number(traffic)} {counted} a second"


def _detection_lines(config: Config, traffic: float) -> list[str]:
    """Phase by phase, for the route that gives treatment most."""
    rows = []
    for name in config.deployment.ladder:
        share = f"{format_number(_largest_share(config, name) * 100)} %"
        found = in_words(_found(config, name, traffic), _exposed(config, name, traffic))
        found = found or ["never: it has no limit of errors"]
        rows.append(["", name, share, found[0]])
        rows += [["", "", "", line] for line in found[1:]]
    return _table(rows)


def _found(config: Config, phase: str, traffic: float) -> tuple[Detection, ...]:
    limit = rollback_limits(config.deployment, phase).get(Metric.ERROR_RATE)
    if limit is None:
        return ()
    return forecasts(limit.value, config.deployment, _exposed(config, phase, traffic))


def _exposed(config: Config, phase: str, traffic: float) -> Exposed:
    return Exposed(traffic, _largest_share(config, phase))


def _largest_share(config: Config, phase: str) -> float:
    return max(float(treatment_percentage(config, phase, route)) for route in config.routes) / 100


def _match(route: Route) -> str:
    headers = [f"{name}: {value}" for name, value in route.match.headers.items()]
    return " ".join(
        [*([",".join(route.match.methods)] * bool(route.match.methods)), route.match.path_prefix, *headers]
    )


def _arms(route: Route) -> str:
    experiment = f", experiment {route.experiment}" if route.experiment else ""
    return f"{route.control} | {route.treatment}{experiment}"


def _needs(config: Config) -> Iterator[str]:
    """What the gates wait for and the gateway cannot measure by itself."""
    waiting = [
        name
        for name in config.deployment.ladder[:-1]
        if Metric.USER_SATISFACTION in config.deployment.phases[name].success_criteria.by_metric()
    ]
    if waiting:
        waits = "waits" if len(waiting) == 1 else "wait"
        yield f"ratings (POST /api/v1/outcomes): {', '.join(waiting)} {waits} for user_satisfaction"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
