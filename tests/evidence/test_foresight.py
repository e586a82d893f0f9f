"""What convicts although heads are open convicts however they end; and slow heads hold nothing up."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence.assessment import Verdict, assess
from gateway.core.evidence.foresight import foresee
from gateway.core.evidence.state import EvidenceState
from gateway.core.folding import Tick
from gateway.model.safety import Unit
from gateway.model.ticks import Counts
from tests.support.evidence import CONTROL, ERRORS, TREATMENT, Gathering, counts
from tests.support.examples import examples

LIMIT = 0.02
NEEDED = 1000.0


def half_known(good: int, bad: int, waiting: int) -> Counts:
    """Requests of which some have no head yet."""
    return Counts(started=good + bad + waiting, answered=good + bad, errors=bad)


def foreseen(gathering: Gathering, ticks: list[Tick], failures: int = 1) -> EvidenceState:
    """The state, as it will be at least."""
    return foresee(gathering.state, ticks, LIMIT, Unit.REQUEST, anchor=0, failures=failures)


def evidence(state: EvidenceState) -> float:
    """Over the limit, and worse than control."""
    return min(state.errors.treatment.value, state.errors.relative.value if state.errors.compared else 0.0)


def served(gathering: Gathering, treatment: Counts, control: Counts) -> Tick:
    """A tick a quarter of a second after the last one."""
    gathering.at += 250
    return Tick(gathering.at, {gathering.series(TREATMENT): treatment, gathering.series(CONTROL): control})


OUTCOMES = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 6))
ENDS = st.floats(0.0, 1.0)


@examples(60)
@given(st.lists(st.tuples(OUTCOMES, OUTCOMES, ENDS, ENDS), min_size=1, max_size=6))
def test_no_ending_of_what_is_open_leaves_less_evidence(
    stretches: list[tuple[tuple[int, int, int], tuple[int, int, int], float, float]],
) -> None:
    """Whatever becomes of the open requests, the closed ticks come to as much at one tick or another."""
    gathering = Gathering(share=0.3)
    gathering.many(3, counts(30, 1), counts(70, 1))
    ticks = [served(gathering, half_known(*ours), half_known(*theirs)) for ours, theirs, _, _ in stretches]
    found = evidence(foreseen(gathering, ticks))
    most = evidence(gathering.state)
    for tick, (ours, theirs, our_end, their_end) in zip(ticks, stretches, strict=True):
        ended = {
            gathering.series(arm): counts(good + bad + waiting, bad + round(waiting * share))
            for arm, (good, bad, waiting), share in (
                (TREATMENT, ours, our_end),
                (CONTROL, theirs, their_end),
            )
        }
        gathering.take(closed=(Tick(tick.at, ended),))
        most = max(most, evidence(gathering.state))
    assert found <= most * (1 + 1e-9)


def test_a_slow_head_in_a_hundred_keeps_nobody_waiting() -> None:
    """A treatment fails everything, and one request of either arm in a hundred takes its time."""
    gathering = Gathering(share=0.1)
    gathering.many(60, counts(6), counts(54))
    broken = [
        served(gathering, half_known(0, 2, number % 5 == 0), half_known(13, 0, number % 3 == 0))
        for number in range(16)
    ]
    found = foreseen(gathering, broken, failures=5)
    assert evidence(found) >= NEEDED * 5
    verdict = assess(found, ERRORS, gathering.parameters, now=gathering.at).verdict
    assert verdict is Verdict.ROLL_BACK
    assert gathering.state.errors.bad == 0


@pytest.mark.parametrize(
    ("treatment", "control"),
    [
        pytest.param(half_known(0, 2, 0), half_known(0, 0, 20), id="nothing is known of control"),
        pytest.param(half_known(0, 2, 0), half_known(0, 20, 0), id="control fails as well"),
        pytest.param(half_known(0, 1, 60), half_known(20, 0, 0), id="most of treatment is open"),
    ],
)
def test_what_may_yet_turn_out_well_convicts_nobody(treatment: Counts, control: Counts) -> None:
    """Fast failures beside slow successes are the trap that closed ticks are for."""
    gathering = Gathering(share=0.1)
    gathering.many(60, counts(6), counts(54))
    found = foreseen(gathering, [served(gathering, treatment, control) for _ in range(30)], failures=5)
    assert evidence(found) < NEEDED


def test_ticks_that_are_in_already_are_not_weighed_again() -> None:
    """A tick may close between the report and the look."""
    gathering = Gathering(share=0.1)
    tick = served(gathering, half_known(0, 20, 0), half_known(200, 0, 0))
    gathering.take(closed=(replace(tick, counts=dict(tick.counts)),))
    assert foreseen(gathering, [tick]) is gathering.state


def test_an_ordinary_share_of_failures_is_not_worth_a_look() -> None:
    """The look costs a few milliseconds where heads take a minute, so it is for what stands out."""
    gathering = Gathering(share=0.5)
    ticks = [served(gathering, half_known(49, number % 2, 5), half_known(50, 0, 5)) for number in range(240)]
    assert foreseen(gathering, ticks, failures=5) is gathering.state


@pytest.mark.slow
def test_slow_successes_and_fast_failures_in_both_arms_never_convict() -> None:
    """One in a hundred fails at once, the others succeed after a minute; looked at every other second."""
    chance = random.Random(1)
    for _ in range(3):
        gathering = Gathering(share=0.5)
        ticks: list[Tick] = []
        for quarter in range(600):
            arms = [sum(chance.random() < 0.01 for _ in range(20)) for _ in range(2)]
            ticks.append(served(gathering, *(half_known(0, bad, 20 - bad) for bad in arms)))
            if quarter >= 240:
                done = ticks.pop(0)
                known = {series: counts(one.started, one.errors) for series, one in done.counts.items()}
                gathering.take(closed=(Tick(done.at, known),))
            if quarter % 8 == 0:
                assert math.log(max(1.0, evidence(foreseen(gathering, ticks)))) < math.log(NEEDED)
