"""`python -m bench.faults ROW...`: faults that are too long, too large or too tightly timed for the tests.

A row is an experiment's name or the number of a fault in tests/faults/README.md; without one, all there
are is listed. Prints each figure with its limit, and exits 1 where one misses it. `--scale 0.1` makes a
run a tenth as long or as large: a smoke test. Load and upstreams are on this machine too, so figures of
milliseconds are true on a quiet one only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.faults.clock import clock
from bench.faults.configs import odd, storm, swaps, wrong
from bench.faults.deaths import orphans, restarts
from bench.faults.findings import Findings
from bench.faults.flapping import flapping
from bench.faults.hanging import hanging
from bench.faults.logs import logs
from bench.faults.memory import memory
from bench.faults.outage import outage
from bench.faults.soak import soak
from bench.faults.streams import streams

ISOLATED = "GATEWAY_BENCH_ISOLATED"
"""Set in the environment of a run that is in a network of its own."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """`rows` are the faults that it measures; `isolated` ones want a network of their own (root)."""

    name: str
    rows: tuple[int, ...]
    what: str
    run: Callable[[float], Findings]
    isolated: bool = False


EXPERIMENTS = (
    Experiment("wrong", (1, 2), "300 files with an invalid meaning under load (3 min)", wrong),
    Experiment("odd", (4,), "what can lie at the config's path and is no config (20 s)", odd),
    Experiment("swaps", (5,), "100 swaps of a ConfigMap under load (1 min)", swaps),
    Experiment("storm", (6,), "200 SIGHUP in a second under load (80 s)", storm),
    Experiment("restarts", (9,), "20 restarts while latched, of five kinds (5 min)", restarts),
    Experiment("orphans", (12,), "control and main process killed, workers alone for a minute", orphans),
    Experiment("logs", (17,), "nobody reads standard output (50 s)", logs),
    Experiment("clock", (19,), "the wall clock jumps by hours and days in a ramp (40 s)", clock),
    Experiment("hanging", (27,), "treatment accepts and never answers (110 s)", hanging),
    Experiment("flapping", (30,), "treatment is up for a second and down for a second (10 min)", flapping),
    Experiment("outage", (31,), "both arms are down, then back (50 s)", outage, isolated=True),
    Experiment("memory", (34,), "1,000 slow readers under a memory limit (cgroup v1, root)", memory),
    Experiment("streams", (35,), "10,000 idle event streams (as far as descriptors reach)", streams),
    Experiment("soak", (50,), "steady load with a random fault every few seconds (20 min)", soak),
)


def chosen(text: str) -> Experiment:
    """The experiment of a name or a fault's number. Raises ArgumentTypeError where there is none."""
    for experiment in EXPERIMENTS:
        if text == experiment.name or text in map(str, experiment.rows):
            return experiment
    raise argparse.ArgumentTypeError(f"no experiment measures {text}")


def run(experiment: Experiment, scale: float) -> bool:
    """Run one and print what it found; True if every figure keeps its limit."""
    if experiment.isolated and ISOLATED not in os.environ:
        again = [sys.executable, "-m", "bench.faults", experiment.name, "--scale", str(scale)]
        command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *again]
        return subprocess.run(command, env={**os.environ, ISOLATED: "1"}, check=False).returncode == 0
    print(f"{', '.join(map(str, experiment.rows))} {experiment.name}: {experiment.what}", flush=True)
    findings = experiment.run(scale)
    for finding in findings:
        print(finding, flush=True)
    return not findings.missed


def main() -> int:
    """Run those that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults",
        description=__doc__,
        epilog="\n".join(
            f"  {each.name:<10} {', '.join(map(str, each.rows)):<12} {each.what}" for each in EXPERIMENTS
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", metavar="ROW", nargs="*", type=chosen)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    if not options.rows:
        parser.print_help()
        return 0
    held = [run(experiment, options.scale) for experiment in options.rows]
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
