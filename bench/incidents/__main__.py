"""`python -m bench.incidents [--only NAME] [--quick]`: what real incidents come to, as a table.

Each is brought about with real processes and said beside what must hold; it exits with 1 where something
does not. About six minutes with `--quick`, which shortens the healthy run from ten minutes to one.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from bench.incidents.scenarios import Outcome, scenarios


def main() -> int:
    """Run what was asked for; 0 where everything holds."""
    parser = argparse.ArgumentParser(prog="python -m bench.incidents", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one healthy minute instead of ten")
    parser.add_argument("--only", action="append", choices=scenarios(True), help="run these; may be repeated")
    options = parser.parse_args()
    console = Console(width=150)
    table = Table(title="Incidents: 2 workers, 200 requests/s, a tenth on treatment")
    for column in (
        "incident",
        "failed",
        "early",
        "seconds",
        "users",
        "decision → last",
        "what happened",
        "must hold",
        "",
    ):
        table.add_column(column)
    held = True
    for name, run in scenarios(options.quick).items():
        if options.only and name not in options.only:
            continue
        console.print(f"[dim]{name}: {(run.__doc__ or 'Both arms are well and alike.').strip()}")
        outcome = run()
        held = held and outcome.holds
        table.add_row(name, *_cells(outcome))
    console.print(table)
    console.print(
        "failed: requests to treatment from the fault until everything is on control; early: those before "
        "the last tick; seconds: until then; users: who saw an error"
    )
    return 0 if held else 1


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
        "holds" if outcome.holds else "MISSED",
    )


if __name__ == "__main__":
    raise SystemExit(main())
