"""The capital of a bet against treatment: a test martingale over a grid of odds ratios.

A bet of 1 that the hypothesis "treatment is no worse" is wrong is multiplied, step by step, by
likelihood ratios whose expectation under that hypothesis is at most 1. So capital of c has a probability
of at most 1/c however often one looks (Ville's inequality; Howard, Ramdas, McAuliffe and Sekhon 2021,
arXiv 1810.08240). Half of the stake is placed at the beginning and the rest second by second, without
end, so that what breaks late is found as fast as what breaks early (start weights in the manner of
Shin, Ramdas and Rinaldo, arXiv 2203.03532): a false alarm has probability 1/c over the first 30 days,
and half of that over each further 30.

The rules that this follows pay the same by the minute. But a busy treatment answers a thousand requests
in a minute, and good ones ruin within seconds what was staked before them: a break would have to wait for
the next minute's stake.

It does not know what the likelihood ratios are made of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GRID = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 200.0, 1000.0)
"""Odds ratios that are bet on: treatment's odds of a bad outcome over those that it may have."""
FIRST_STAKE = 0.5
"""Placed at the beginning."""
STAKE_A_SECOND = 0.5 / 2_592_000
"""Placed in each second from then on: as much again in 30 days."""
LOG_MOST = math.log(1e15)
"""Capital beyond this is given up: nothing more is learned by it, and what is over the limit together with
control for a while is forgotten within minutes rather than hours. Less capital is still a fair bet."""


@dataclass(frozen=True, slots=True)
class Capital:
    """Natural logarithms of the capital on each odds ratio of GRID; stakes are in up to `seconds`."""

    logs: tuple[float, ...]
    seconds: float = 0.0

    @property
    def value(self) -> float:
        """The capital: the evidence, an e-value."""
        return math.fsum(map(math.exp, self.logs))

    def at(self, seconds: float) -> Capital:
        """The same capital, with no stakes due for the seconds up to `seconds`."""
        return Capital(self.logs, seconds)

    def after(self, log_ratios: Sequence[float], seconds: float) -> Capital:
        """Place the stakes that are due, then take a step: by these logarithms of likelihood ratios.

        Steps at which every ratio is 1 may be left out: their stakes are placed with the next one.
        """
        logs: Sequence[float] = self.logs
        if seconds > self.seconds:
            stake = math.log((seconds - self.seconds) * STAKE_A_SECOND / len(GRID))
            logs = [
                log + math.log1p(math.exp(stake - log))
                if log > stake
                else stake + math.log1p(math.exp(log - stake))
                for log in logs
            ]
        grown = tuple([log + ratio for log, ratio in zip(logs, log_ratios, strict=True)])
        if max(grown) > LOG_MOST:
            grown = tuple([min(log, LOG_MOST) for log in grown])
        return Capital(grown, max(seconds, self.seconds))


FRESH = Capital((math.log(FIRST_STAKE / len(GRID)),) * len(GRID))
"""Capital before anything was seen."""
