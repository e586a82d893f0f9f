"""A line of the table: what was tried, what must hold, what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Found = tuple[float, float]
"""Requests to treatment, and seconds, until the rollback."""

HEAD = "| row | what | runs | must hold | found | |\n|---|---|---:|---|---|---|"


@dataclass(frozen=True, slots=True)
class Line:
    """`holds` None where there is nothing to hold."""

    row: str
    what: str
    runs: int
    must: str
    found: str
    holds: bool | None

    def __str__(self) -> str:
        mark = {True: "holds", False: "**missed**", None: ""}[self.holds]
        return f"| {self.row} | {self.what} | {self.runs} | {self.must} | {self.found} | {mark} |"


def false_rollbacks(row: str, what: str, ended: Sequence[bool], most_share: float, note: str = "") -> Line:
    """A line that counts rollbacks which should not be."""
    count = sum(ended)
    must = f"≤ {most_share:.2%}" if most_share else "none"
    return Line(row, what, len(ended), must, f"{count} rolled back{note}", count <= most_share * len(ended))


def detections(row: str, what: str, found: Sequence[Found | None], most: float, in_tick: float) -> Line:
    """A line of requests until rollback: 5, 50 and 95 % of the runs had no more.

    `most` may be exceeded by one tick, that is `in_tick` requests.
    """
    requests = [np.inf if one is None else one[0] for one in found]
    seconds = [np.inf if one is None else one[1] for one in found]
    low, middle, high = np.percentile(requests, [5, 50, 95], method="higher")
    by_then = np.percentile(seconds, 95, method="higher")
    shown = f"{low:.0f} · {middle:.0f} · {high:.0f} requests; 95 % in {by_then:.0f} s"
    if math.isinf(most):
        return Line(row, what, len(found), "", shown, None if math.isfinite(high) else False)
    holds = bool(high <= most + max(1.0, in_tick))
    return Line(row, what, len(found), f"95 % ≤ {most:.0f} + one tick", shown, holds)
