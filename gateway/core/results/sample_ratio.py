"""Do the sizes of the groups match their weights? Evidence against it, valid however often one looks.

If users of one group get lost (a redirect that fails, a filter behind the gateway), every comparison is
worthless. The evidence is a ratio of two likelihoods of the counts: with shares drawn from a Dirichlet
distribution around the declared ones, over exactly the declared ones. While the split is sound, it is a
martingale with mean one, so it ever reaches 1000 with probability at most 1/1000 (Ville). For two groups
the distribution is a beta.

It does not know who counted, nor what follows from an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CONCENTRATION = 1000.0
"""How closely the alternative keeps to the declared shares: it looks for deviations of a few percent."""
ALARM = 1000.0
"""The evidence at which the split is called broken."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """The users of one epoch: how many arrived in each group, and the groups' weights then."""

    weights: tuple[float, ...]
    users: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """The check's answer: a p-value that is valid at any time, and whether the sizes may be believed."""

    p_value: float
    ok: bool


def check(epochs: Iterable[Dealt]) -> SampleRatio:
    """Judge all epochs together. Each user belongs to the epoch in which it was seen first."""
    total = sum(log_evidence(epoch.weights, epoch.users) for epoch in epochs)
    return SampleRatio(math.exp(-max(0.0, total)), total < math.log(ALARM))


def log_evidence(weights: Sequence[float], users: Sequence[int]) -> float:
    """The natural logarithm of the evidence against `weights`, given the users of each group.

    Infinite where a group without weight has users. The terms are taken together so that nothing
    large cancels: Stirling's main terms make a relative entropy, only his small errors remain.
    """
    total_weight = math.fsum(weights)
    count = sum(users)
    log_sum = [0.5 * math.log((CONCENTRATION + count) / CONCENTRATION)]
    log_sum += [stirling_error(CONCENTRATION), -stirling_error(CONCENTRATION + count)]
    for weight, size in zip(weights, users, strict=True):
        if weight <= 0.0:
            if size:
                return math.inf
            continue
        share = weight / total_weight
        prior = CONCENTRATION * share
        posterior = prior + size
        surplus = (size - count * share) / (share * (CONCENTRATION + count))
        log_sum += [posterior * math.log1p(surplus), -0.5 * math.log(posterior / prior)]
        log_sum += [stirling_error(posterior), -stirling_error(prior)]
    return math.fsum(log_sum)


def stirling_error(value: float) -> float:
    """ln Γ(value) - ((value - ½) ln value - value + ½ ln 2π), without the cancellation."""
    if value < _SERIES_BEGINS:
        return math.lgamma(value) - ((value - 0.5) * math.log(value) - value + _HALF_LOG_TWO_PI)
    inverse = 1.0 / value
    square = inverse * inverse
    return inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))))


_SERIES_BEGINS = 20.0
"""From here five terms of Stirling's series (DLMF 5.11.1) are exact to the last digit."""
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
