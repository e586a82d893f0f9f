"""`python -m bench.incidents [--only NAME] [--quick]`: what real incidents come to, as a table.

Each is brought about with real processes and said beside what must hold. About sixteen minutes; `--quick`
shortens the healthy run from ten minutes to one, and the whole to seven. What breaks off or hangs is a row
like the others, after five minutes at most. Exit code 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from bench.incidents.scenarios import HEALTHY, QUICK_HEALTHY, Outcome, scenarios

WIDTH = 190
"""Characters: no row takes two lines."""
MOST_SECONDS = 300.0
"""Beyond the healthy time that is watched: by then every incident is over, or something hangs."""
_COLUMNS = (
    "incident",
    "failed",
    "early",
    "seconds",
    "users",
    "decision → last",
    "what happened",
    "must hold",
    "",
)
_LEGEND = """
failed: requests to treatment from the fault until everything is on control
early: those of them that were sent sooner than a tick and control's first byte before the last one
seconds: from the fault to the last of them; decision → last: from the latch to it
users: who saw an error, of 100,000"""


def main() -> int:
    """Run what was asked for; 0 where everything holds."""
    parser = argparse.ArgumentParser(prog="python -m bench.incidents", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one healthy minute instead of ten")
    parser.add_argument("--only", action="append", choices=scenarios(0.0), help="run these; may be repeated")
    options = parser.parse_args()
    healthy = QUICK_HEALTHY if options.quick else HEALTHY
    chosen = {
        name: run for name, run in scenarios(healthy).items() if not options.only or name in options.only
    }
    table = Table(*_COLUMNS, box=MARKDOWN)
    begun, missed = time.monotonic(), 0
    for name, run in chosen.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        outcome = _outcome(run, healthy + MOST_SECONDS)
        missed += not outcome.holds
        table.add_row(name, *_cells(outcome))
    console = Console(width=WIDTH)
    console.print(
        "2 workers, 200 requests/s, a tenth of them to treatment; alone: all of them", highlight=False
    )
    console.print(table, highlight=False)
    console.print(_LEGEND, highlight=False)
    print(f"{missed} of {len(chosen)} missed, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return 1 if missed else 0


def _outcome(run: Callable[[], Outcome], seconds: float) -> Outcome:
    """What came of it; that it broke or took too long, where nothing did."""
    begun = time.monotonic()
    try:
        with _at_most(seconds):
            return run()
    except Exception as error:
        happened = f"BROKE OFF: {type(error).__name__} {error}".splitlines()[0]
        return Outcome(0, 0, time.monotonic() - begun, 0, None, happened, "that it can be measured", False)


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"not over after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    cutover = "" if outcome.cutover is None else f"{outcome.cutover * 1000:.0f} ms"
    return (
        str(outcome.failed),
        str(outcome.early),
        f"{outcome.seconds:.1f}",
        str(outcome.users),
        cutover,
        outcome.happened,
        outcome.must,
        "holds" if outcome.holds else "**missed**",
    )


if __name__ == "__main__":
    raise SystemExit(main())
