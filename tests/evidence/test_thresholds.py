"""Where slow begins once control is another one: thresholds follow it, and judge nobody who moved them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from gateway.core.evidence import timing
from gateway.core.evidence.assessment import Verdict
from gateway.core.evidence.gathering import Look, fold
from gateway.core.evidence.state import EvidenceState, begin, expose
from gateway.core.folding import Tick
from gateway.model.codec import decode, encode
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series, bucket_of
from tests.support.evidence import LATENCY, Gathering, successes

USUAL = {0.5: 50, 1.0: 25, 2.0: 15, 4.0: 10}
"""A tick of control: p50 .5 s, p75 1 s, p90 2 s."""
TREATED = {0.5: 5, 1.0: 3, 2.0: 2, 4.0: 1}
BLOCKS = 4
"""Ticks of control in which it is certain to be seen that it changed, and the one after them."""


def times(latencies: dict[float, int], factor: float) -> dict[float, int]:
    """As many successes that took so many times as long."""
    return {factor * seconds: number for seconds, number in latencies.items()}


def knowing(share: float = 0.1) -> Gathering:
    """Evidence on latency alone that begins with thresholds from USUAL."""
    gathering = Gathering(share=share, limits=LATENCY)
    gathering.know_control(USUAL)
    gathering.see(successes(TREATED), successes(USUAL))  # a block begins with what comes next
    return gathering


def thresholds(latencies: tuple[float, ...] = (0.5, 1.0, 2.0), factor: float = 1.0) -> tuple[int, ...]:
    """Buckets of these seconds."""
    return tuple(bucket_of(factor * seconds) for seconds in latencies)


def hangs(gathering: Gathering, control: dict[float, int], seconds: int) -> Iterator[Verdict]:
    """Treatment answers nothing for so long, and its clients wait; what is found each second."""
    begun, ticks = gathering.at, []
    for second in range(seconds):
        gathering.at = begun + second * 1000
        ticks.append(gathering.tick(Counts(10), successes(control)))
        gathering.at += 1000
        yield gathering.take(standing=tuple(ticks)).verdict


@pytest.mark.parametrize("slower", [3.0, 6.0, 100.0])
def test_a_treatment_that_hangs_after_both_arms_became_slower_convicts(slower: float) -> None:
    """Beyond all thresholds nobody is slower than others, until the thresholds are control's again."""
    gathering = knowing()
    slow, treated = times(USUAL, slower), times(TREATED, slower)
    assert gathering.many(5, successes(treated), successes(slow)).value < 1
    patience = round(slower * 4) + 10
    assert Verdict.ROLL_BACK in list(hangs(gathering, slow, patience))


def test_a_treatment_that_hangs_while_control_becomes_slower_convicts() -> None:
    """What hangs keeps every tick from being settled; control is seen all the same."""
    gathering = knowing()
    found = list(hangs(gathering, times(USUAL, 6), 60))
    assert gathering.state.settled_to < gathering.state.watched_to
    assert gathering.state.reference.thresholds == thresholds(factor=6)
    assert found[-1] is Verdict.ROLL_BACK


def test_a_treatment_that_stays_slow_while_control_becomes_faster_convicts() -> None:
    """The other way: what was usual is slow, once control is four times as fast."""
    gathering = knowing()
    found = gathering.many(12, successes(times(TREATED, 0.5)), successes(times(USUAL, 0.2)))
    assert gathering.state.reference.thresholds == thresholds(factor=0.2)
    assert found.verdict is Verdict.ROLL_BACK


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.0, 1.5, 3.9])
def test_thresholds_that_still_cut_control_stay_for_their_time(factor: float) -> None:
    """While p50 to p90 of control and the thresholds overlap there is something to see."""
    gathering = knowing()
    before = gathering.state.reference.thresholds
    for _ in range(20):
        gathering.see(successes(times(TREATED, factor)), successes(times(USUAL, factor)))
    assert gathering.state.reference.thresholds == before


@pytest.mark.parametrize("factor", [0.2, 4.1, 30.0])
def test_thresholds_that_control_has_left_are_taken_anew_from_one_block(factor: float) -> None:
    """And for a while only: after five minutes there is more to take them from."""
    gathering = knowing()
    gathering.many(BLOCKS, successes(times(TREATED, factor)), successes(times(USUAL, factor)))
    reference = gathering.state.reference
    assert reference.thresholds == thresholds(factor=factor)
    assert reference.provisional
    gathering.at += timing.PROVISIONAL
    gathering.many(BLOCKS, successes(times(TREATED, factor)), successes(times(USUAL, factor * 1.2)))
    assert not gathering.state.reference.provisional


def test_control_that_always_takes_the_same_time_is_not_taken_for_another_one() -> None:
    """Nobody is beyond the smallest threshold then, and nobody below it either."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control({0.5: 100})
    gathering.many(3, successes({0.5: 10}), successes({0.5: 100}))
    decided = gathering.state.reference.since
    gathering.many(30, successes({0.5: 10}), successes({0.5: 100}))
    assert gathering.state.reference.since == decided


def test_whoever_moves_the_thresholds_was_judged_by_the_old_ones() -> None:
    """A whole block is slow by what was known before it, in both arms."""
    gathering = knowing()
    for _ in range(BLOCKS):
        before = gathering.state.slowness[0]
        assert gathering.state.reference.thresholds == thresholds()
        gathering.see(successes(times(TREATED, 6)), successes(times(USUAL, 6)))
        if gathering.state.reference.thresholds != thresholds():
            break
        treated = sum(TREATED.values())
        assert gathering.state.slowness[0].bad - before.bad == treated
    assert gathering.state.reference.thresholds == thresholds(factor=6)


def test_control_waits_for_those_who_are_not_judged_yet() -> None:
    """It has nothing open, but treatment has, and is too young to be slow: they are judged alike."""
    gathering = knowing()
    before = gathering.state.reference
    tick = gathering.tick(Counts(10), successes(times(USUAL, 6)))
    gathering.at += 1000 + 2200
    gathering.take(standing=(tick,))
    assert gathering.state.reference == before
    gathering.at += 130
    gathering.take(standing=(tick,))
    assert gathering.state.reference.block == tuple(
        (bucket_of(6 * seconds), number) for seconds, number in USUAL.items()
    )


def test_a_comparison_ends_with_the_thresholds_that_it_began_with() -> None:
    """An open stratum is not judged by what its own requests have a part in."""
    gathering = knowing(share=0.01)
    slow = successes(times(USUAL, 6))
    for _ in range(BLOCKS):
        gathering.see(None, slow)
    assert gathering.state.reference.thresholds == thresholds(factor=6)
    (stratum,) = gathering.state.slowness[0].strata
    assert stratum.threshold == thresholds()[0]
    before = gathering.state.slowness[0].bad
    gathering.see(successes({2.0: 1}), slow)  # slow by what was known, not by what is
    assert (gathering.state.slowness[0].strata, gathering.state.slowness[0].bad) == ((), before + 1)
    gathering.see(successes({2.0: 1}), None)
    (stratum,) = gathering.state.slowness[0].strata
    assert (stratum.threshold, stratum.treatment_bad) == (thresholds(factor=6)[0], 0)


def test_open_requests_wait_for_the_threshold_that_they_are_judged_by() -> None:
    """Thresholds became smaller; who goes into a comparison of before is not slow as soon as by now."""
    gathering = knowing(share=0.01)
    fast = successes(times(USUAL, 0.1))
    for _ in range(BLOCKS):
        gathering.see(None, fast)
    assert gathering.state.reference.thresholds == thresholds(factor=0.1)
    tick = gathering.tick(Counts(1), fast)
    gathering.at += 1000 + 2200
    before = gathering.state.slowness[0].bad
    gathering.take(standing=(tick,))
    assert gathering.state.slowness[0].bad == before
    gathering.at += 130
    gathering.take(standing=(tick,))
    assert gathering.state.slowness[0].bad == before + 1


# --- whatever the traffic is like -------------------------------------------------------------------


def restless(draw: random.Random, ticks: int) -> list[Tick]:
    """Two routes of different shares whose latencies jump now and then, in both arms alike."""
    speed, found = 1.0, []
    for number in range(ticks):
        if draw.random() < 0.1:
            speed = draw.choice([0.1, 1.0, 10.0])
        counts: dict[Series, Counts] = {}
        for route, share in (("one", 0.02), ("other", 0.5)):
            arms: dict[Arm, dict[float, int]] = {Arm.TREATMENT: {}, Arm.CONTROL: {}}
            for _ in range(draw.randrange(60)):
                arm = Arm.TREATMENT if draw.random() < share else Arm.CONTROL
                seconds = speed * draw.lognormvariate(0, 0.7)
                arms[arm][seconds] = arms[arm].get(seconds, 0) + 1
            counts |= {
                Series(1, route, arm.label, "", ""): successes(latencies) for arm, latencies in arms.items()
            }
        found.append(Tick(number * 1000, counts))
    return found


def folded(ticks: list[Tick], stored: bool) -> Iterator[EvidenceState]:
    """The evidence after each of them; `stored` and read again each time."""
    state = expose(begin(1, 0, 0), 1, {"one": 0.02, "other": 0.5})
    for tick in ticks:
        state = fold(state, Look((tick,), (tick,), reported_to=tick.at + 1000), LATENCY, Unit.REQUEST)
        if stored:
            state = decode(EvidenceState, encode(state))
        yield state


@pytest.mark.parametrize("seed", range(3))
def test_who_stores_the_evidence_between_comes_to_the_same(seed: int) -> None:
    """Thresholds and what is still to move them are all in what is kept; and nobody moved them unjudged."""
    ticks = restless(random.Random(seed), 60)
    states = list(folded(ticks, stored=False))
    assert all(state.watched_to <= state.timed_to for state in states)
    assert list(folded(ticks, stored=True)) == states


def test_jumps_in_both_arms_are_no_evidence() -> None:
    """Though the thresholds are taken anew all the time."""
    moved, most = set(), 0.0
    for seed in range(5):
        for state in folded(restless(random.Random(seed), 100), stored=False):
            moved.add(state.reference.thresholds)
            most = max(most, *[one.relative.value for one in state.slowness])
    assert len(moved) > 20
    assert most < 20
