"""Percentages and weights as exact integers of the hash space.

All arithmetic is rational and rounded once, upwards. A position is under p percent exactly if it
is under `share_of(p)`. So 0 is nobody, 100 is everybody, and a larger percentage or weight only adds
positions and never removes one.

It does not know users, phases or experiments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

from gateway.model.snapshot import FULL_SHARE


def share_of(percentage: Fraction) -> int:
    """How many of the 2**64 positions are under `percentage` (0 to 100)."""
    return math.ceil(percentage * FULL_SHARE / 100)


def whole_total(weights: Sequence[Fraction]) -> int:
    """The sum of the weights as whole numbers: as written, or scaled by their common denominator."""
    scale = math.lcm(*(weight.denominator for weight in weights))
    return int(sum(weights) * scale)


def slices(weights: Sequence[Fraction], total: int) -> tuple[tuple[int, int], ...]:
    """Cut `[0, total)` into consecutive `[start, end)`, one per weight and in proportion to it.

    The slices leave no hole and do not overlap; a weight of zero gives an empty one. At least one
    weight must be positive.
    """
    unit = total / sum(weights)
    ends = (math.ceil(end * unit) for end in accumulate(weights, initial=Fraction(0)))
    return tuple(pairwise(ends))


def format_share(share: Fraction | float) -> str:
    """A share from 0 to 1 as people read it: `1 %`, `33.3 %`, never `0 %` for somebody."""
    percentage = f"{float(share * 100):.4f}".rstrip("0").rstrip(".")
    return "<0.0001 %" if share > 0 and percentage == "0" else f"{percentage} %"
