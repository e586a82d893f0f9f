"""`python -m bench.decisions`: print the figures of automatic rollback beside what must hold.

Seeds are fixed. A run takes about twenty-five minutes of one core; `--quick` does a tenth of the runs,
`--full` (two hours) as many as are asked of the rows in which nobody may be rolled back, `--rows 6-9,12a`
some of the rows only. Rows are numbered as in `docs/decisions.md`.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from bench.decisions import broken, exact, plain, quiet
from bench.decisions.quiet import Runs
from bench.decisions.report import HEAD, Line

QUICK = 0.1
LEAST_RUNS = 3
ROWS: Mapping[Callable[[Runs], Iterator[Line]], tuple[str, ...]] = {
    quiet.at_the_limit: ("1",),
    quiet.equal_arms: ("2",),
    quiet.everything_at_once: ("2",),
    quiet.shared_outages: ("3",),
    quiet.shared_drift_of_errors: ("4",),
    quiet.sticky_failing_clients: ("5",),
    broken.errors: ("6", "7", "8", "9", "12"),
    broken.within_a_tick: ("7",),
    broken.full_production: ("7", "12a"),
    broken.latency: ("10",),
    quiet.equal_latency: ("11",),
    exact.slow_successes: ("12b",),
    broken.missing: ("12c",),
    broken.hanging: ("12c",),
    exact.split_over_workers: ("16",),
    exact.expectations: ("17",),
    exact.cost: ("18",),
    plain.thresholds: ("T",),
}
"""What computes which rows; lines of others that come along are printed as well."""


def wanted_rows(text: str) -> set[str]:
    """`1,6-9,12a` as a set of rows. Raises ValueError."""
    known = {row for rows_of in ROWS.values() for row in rows_of}
    rows: set[str] = set()
    for part in text.split(","):
        if span := re.fullmatch(r"(\d+)-(\d+)", part):
            rows |= known & set(map(str, range(int(span[1]), int(span[2]) + 1)))
        elif part in known:
            rows.add(part)
        else:
            raise ValueError(f"no such row: {part}")
    return rows


def main() -> int:
    """Print the table. Exit code 1 if a row was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.decisions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--runs", type=float, default=1.0, metavar="TIMES", help="so many times the runs")
    parser.add_argument("--full", action="store_true", help="as many runs as the rows ask for")
    parser.add_argument("--rows", metavar="1,6-9,…")
    options = parser.parse_args()
    times = options.runs * (QUICK if options.quick else 1.0)
    try:
        rows = wanted_rows(options.rows) if options.rows else None
    except ValueError as error:
        parser.error(str(error))

    def runs(default: int, asked: int | None = None) -> range:
        number = asked if options.full and asked is not None else default
        return range(max(LEAST_RUNS, round(number * times)))

    begun, missed = time.process_time(), 0
    print(HEAD)
    for compute, has in ROWS.items():
        if rows is None or rows & set(has):
            for line in compute(runs):
                missed += line.holds is False
                print(line, flush=True)
    print(f"\n{missed} missed; {time.process_time() - begun:.0f} s of processor time", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
