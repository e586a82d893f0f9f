"""`gateway demo`: the command line of the demo. What it does is `gateway.demo`'s."""

from __future__ import annotations

import argparse

from gateway.demo.faults import Fault, parse_fault
from gateway.demo.play import Options
from gateway.demo.scenarios import SANDBOX, SCENARIOS, TOUR, Scenario
from gateway.demo.session import run
from gateway.model.units import parse_duration

_DEFAULT_RATE = 40.0
MAX_RATE = 500.0
"""Requests per second that one client process can still time honestly."""

_DESCRIPTION = """\
Two sample pipelines, the gateway in front of them, and a few hundred users, with a live view of what
happens. It needs nothing but itself, takes free ports, and leaves nothing behind."""

_STORIES = "\n".join(f"  {scenario.name:<11}{scenario.about}" for scenario in SCENARIOS.values())

_EPILOG = f"""\
scenarios:
{_STORIES}

faults: ARM.KIND=VALUE@TIME, where ARM is control or treatment, TIME counts from the start, and KIND is
  errors, hang, reset, truncate   a share of the requests: 0.3 or 30%
  latency                         a factor on every delay: 2x
A later fault of the same kind replaces an earlier one: treatment.errors=0@40s heals it."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "demo",
        help="see it work: sample pipelines, traffic and a live view",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--duration", type=_duration, metavar="TIME", help="end by itself after, e.g., 30s")
    parser.add_argument(
        "--rps",
        type=_rate,
        default=_DEFAULT_RATE,
        metavar="N",
        help=f"requests per second, up to {MAX_RATE:g} (default: {_DEFAULT_RATE:g})",
    )
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="FAULT",
        help="let a pipeline fail, e.g. treatment.errors=0.3@20s or treatment.latency=2x@20s; repeatable",
    )
    parser.add_argument(
        "--scenario",
        choices=tuple(SCENARIOS),
        help=f"what happens (default: {TOUR.name}; with --fault: {SANDBOX.name})",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Run the demo; its exit code."""
    faults = tuple(args.fault)
    return run(Options(args.duration, args.rps, faults, _scenario(args.scenario, faults)))


def _scenario(name: str | None, faults: tuple[Fault, ...]) -> Scenario:
    if name is not None:
        return SCENARIOS[name]
    # Whoever plays faults wants to see their own.
    return SANDBOX if faults else TOUR


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; expected one like 30s or 5m") from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time at all; expected one like 30s or 5m")
    return seconds


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; expected one like 40") from None
    if not 0 < rate <= MAX_RATE:
        raise argparse.ArgumentTypeError(
            f"{text} is out of range; expected more than 0 and up to {MAX_RATE:g}"
        )
    return rate


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
