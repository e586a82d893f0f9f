"""The evidence on errors against a second implementation, written from the rules alone, with numpy.

It sums everything up, takes no step in logarithms that it need not, and knows no state that could be stored:
what both come to agrees to nine digits, whatever the stream is like.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest

from gateway.core.evidence.assessment import Verdict, assess
from gateway.core.evidence.gathering import Look, fold
from gateway.core.evidence.state import EvidenceState, begin, expose
from gateway.core.folding import Tick
from gateway.model.codec import decode, encode
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series
from tests.support.evidence import ERRORS, Gathering, counts

ODDS = np.array([1.25, 1.5, 2, 3, 5, 10, 20, 50, 200, 1000])
LIMIT = 0.02
MOST = math.log(1e15)


@dataclass
class Process:
    """Half of the stake at the beginning, the other half over each 30 days."""

    capital: np.ndarray = field(default_factory=lambda: np.full(10, math.log(0.05)))
    placed_to: float = 0.0

    def step(self, log_ratios: np.ndarray, seconds: float) -> None:
        """Place what is due, then take the step."""
        if seconds > self.placed_to:
            stake = 0.05 * (seconds - self.placed_to) / (30 * 86_400)
            self.capital = np.logaddexp(self.capital, math.log(stake))
            self.placed_to = seconds
        self.capital = np.minimum(self.capital + log_ratios, MOST)

    @property
    def value(self) -> float:
        """The evidence."""
        return float(np.exp(self.capital).sum())


@dataclass
class Reference:
    """Over the limit, and worse than control within strata of one share."""

    over: Process = field(default_factory=Process)
    worse: Process = field(default_factory=Process)
    open: dict[float, np.ndarray] = field(default_factory=dict)

    def take(self, seconds: float, outcomes: list[tuple[float, np.ndarray]], shares: set[float]) -> None:
        """A tick: by share n and x of treatment, m and y of control; and the shares drawn with by now."""
        n, x, *_ = sum((four for _, four in outcomes), np.zeros(4))
        if n:
            odds = LIMIT / (1 - LIMIT) * ODDS
            bad, good = np.log(odds / (1 + odds) / LIMIT), -np.log((1 + odds) * (1 - LIMIT))
            self.over.step(x * bad + (n - x) * good, seconds)
        for share, four in outcomes:
            self.open[share] = self.open.get(share, np.zeros(4)) + four
        touched = {share for share, _ in outcomes}
        for share, (n, x, m, y) in list(self.open.items()):
            enough = n and m and n + m >= min(50, 10 / min(share, 1 - share))
            if enough or share not in touched | shares:
                del self.open[share]
                if n and m:
                    self.worse.step(fisher(n, x, m, y), seconds)


def fisher(n: float, x: float, m: float, y: float) -> np.ndarray:
    """How much likelier each of the odds ratios makes the table than no difference, margins given."""
    j = np.arange(max(0, x + y - m), min(n, x + y))
    falls = np.log((n - j) * (x + y - j)) - np.log((j + 1) * (m - x - y + j + 1))
    terms = np.concatenate(([0.0], np.cumsum(falls)))
    biased = terms + np.outer(np.log(ODDS), max(0, x + y - m) + np.arange(len(terms)))
    everything = np.logaddexp.reduce(terms)
    return x * np.log(ODDS) + everything - np.logaddexp.reduce(biased, axis=1)


@cache
def stream(seed: int) -> tuple[EvidenceState, Reference]:
    """Some ticks of two routes, of one length: thin or dense traffic, shares that change, restarts."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    per_tick, length = draw.choice([0.5, 5, 100, 1000]), draw.choice([250, 1000, 60_000])
    failing = {arm: draw.choice([0.0, 0.01, 0.05, 0.3, 1.0]) for arm in Arm}
    state, reference, version = begin(1, 0, 0), Reference(), 0
    shares: dict[str, float] = {}
    for number in range(80):
        if not shares or draw.random() < 0.03:
            version += 1
            shares = {route: draw.choice([0.01, 0.1, 0.5, 0.9]) for route in ("one", "other")}
            state = expose(state, version, shares)
        tick: dict[Series, Counts] = {}
        outcomes = []
        for route, share in shares.items():
            requests = rng.poisson(per_tick)
            treated = rng.binomial(requests, share)
            four = []
            for arm, asked in ((Arm.TREATMENT, treated), (Arm.CONTROL, requests - treated)):
                bad = rng.binomial(asked, failing[arm])
                four += [asked, bad]
                if asked:
                    tick[Series(version, route, arm.label, "", "")] = counts(int(asked), int(bad))
            if requests:
                outcomes.append((share, np.array(four, float)))
        state = fold(
            state, Look(closed=(Tick(number * length, tick),), interval=length), ERRORS, Unit.REQUEST
        )
        if draw.random() < 0.05:
            state = decode(EvidenceState, encode(state))
        if outcomes:
            reference.take(number * length / 1000, outcomes, set(shares.values()))
    return state, reference


@pytest.mark.parametrize("seed", range(10))
def test_the_evidence_is_what_the_rules_say(seed: int) -> None:
    """Capital against the limit, and against control, to nine digits; and the smaller one of them counts."""
    state, reference = stream(seed)
    assert state.errors.treatment.value == pytest.approx(reference.over.value, rel=1e-9)
    assert state.errors.relative.value == pytest.approx(reference.worse.value, rel=1e-9)
    (errors, *_) = assess(state, ERRORS, Gathering().parameters, now=10**7).parts
    smaller = min(reference.over.value, reference.worse.value if state.errors.compared else 0.0)
    assert errors.value == pytest.approx(smaller / 2, rel=1e-9)


def test_the_streams_are_of_all_kinds() -> None:
    """Some convict, and some do not: nine digits of nothing would be nothing."""
    found = set()
    for seed in range(10):
        state, _ = stream(seed)
        found.add(assess(state, ERRORS, Gathering().parameters, now=10**7).verdict)
    assert {Verdict.ROLL_BACK, Verdict.QUIET} <= found
