"""`python -m bench.experiments`: print the figures of gates and experiments beside what must hold.

Seeds are fixed. `--quick` does a tenth of the runs, `--rows 13,14` some of the rows only. Rows 13 to 15 are
simulated or exact; `hotpath` is what the worker pays, `table` the participants' table by itself, and `scale`
starts a real gateway with a million participants and posts outcomes to it.
Rows 16 to 18 are in `python -m bench.decisions`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping

from bench.decisions.report import HEAD, Line
from bench.experiments import hotpath, scale, simulated

QUICK = 10
ROWS: Mapping[str, Callable[[int], Iterator[Line]]] = {
    "13": simulated.gates,
    "14": simulated.peeking,
    "15": simulated.sample_ratio,
    "hotpath": hotpath.record,
    "table": scale.table,
    "scale": scale.gateway,
}


def main() -> int:
    """Print the table. Exit code 1 if a row was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.experiments", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs and of the participants")
    parser.add_argument("--rows", metavar=",".join(ROWS), default=",".join(ROWS))
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := sorted(set(rows).difference(ROWS)):
        parser.error(f"no such row: {', '.join(unknown)}")
    missed = 0
    print(HEAD)
    for row in rows:
        for line in ROWS[row](QUICK if options.quick else 1):
            missed += line.holds is False
            print(line, flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
