"""The figures of `python -m bench.decisions`, with a handful of runs: the command has the many."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bench.decisions import broken, exact, quiet
from bench.decisions.quiet import Runs
from bench.decisions.report import Line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compute", "runs"),
    [
        (broken.errors, 2),
        (broken.within_a_tick, 10),
        (broken.missing, 10),
        (broken.hanging, 2),
        (quiet.shared_outages, 1),
        (exact.expectations, 1),
    ],
)
def test_figures_hold(compute: Callable[[Runs], Iterator[Line]], runs: int) -> None:
    """Every line of the row holds."""
    for line in compute(lambda default, asked=None: range(runs)):
        assert line.holds is not False, str(line)
