"""How ticks become evidence: each trap that was met has a test here, by its name."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence import timing
from gateway.core.evidence.assessment import Verdict
from gateway.core.evidence.gathering import Limits, Look, fold
from gateway.core.evidence.state import EvidenceState, begin, expose, rebase
from gateway.core.evidence.weighing import need
from gateway.core.folding import Tick
from gateway.model.codec import decode, encode
from gateway.model.safety import Unit
from gateway.model.scores import Score
from gateway.model.ticks import LATENCY_BASE, Counts, Series, bucket_of
from tests.support.evidence import (
    CONTROL,
    ERRORS,
    EVERYTHING,
    LATENCY,
    RATING,
    TREATMENT,
    Gathering,
    counts,
    latencies,
    successes,
)
from tests.support.examples import examples

# --- what is taken in, and once ---------------------------------------------------------------------


def test_a_tick_that_comes_again_adds_nothing() -> None:
    """After a restart of the control process ticks that had closed before may come again."""
    gathering = Gathering(limits=EVERYTHING)
    gathering.see(counts(20, 4, truncated=2), counts(180))
    state = gathering.state
    again = Tick(0, {gathering.series(TREATMENT): counts(20, 20)})
    gathering.take(closed=(again,), settled=(again,), standing=(again,))
    assert gathering.state == state


def test_requests_decided_before_the_evidence_began_do_not_count() -> None:
    """Neither by an older snapshot, nor in a tick before the first one."""
    gathering = Gathering()
    gathering.state = replace(gathering.state, version=2)
    gathering.see(counts(50, 50), counts(50))
    assert gathering.state.errors.count == 0
    gathering.draw_with(0.1)
    gathering.state = replace(gathering.state, first_tick=5000)
    gathering.see(counts(50, 50), counts(50))
    assert gathering.state.errors.count == 0
    gathering.at = 5000
    gathering.see(counts(50, 50), counts(50))
    assert gathering.state.errors.count == 50


def test_with_unit_user_only_first_requests_count() -> None:
    """A client that always fails, again and again, is one user in ten minutes."""
    gathering = Gathering(unit=Unit.USER)
    first = gathering.series(TREATMENT)
    gathering.take(closed=(Tick(0, {first: counts(1, 1), replace(first, first=False): counts(99, 99)}),))
    assert (gathering.state.errors.count, gathering.state.errors.bad) == (1, 1)


def test_what_control_answered_in_its_place_does_not_convict_treatment() -> None:
    """A pod that restarts must not end a rollout: nobody was harmed, and absence has a judge of its own."""
    gathering = Gathering()
    found = gathering.many(60, counts(20, 20, failed_over=20), counts(180))
    assert gathering.state.errors.count == 0
    assert found.verdict is Verdict.QUIET


def test_truncation_is_taken_from_settled_ticks_among_good_heads() -> None:
    """A stream that is still open is not cut; one with a bad head cannot be."""
    gathering = Gathering()
    tick = gathering.tick(counts(20, 5, truncated=3), counts(80))
    gathering.take(closed=(tick,))
    assert gathering.state.truncations.count == 0
    gathering.take(settled=(tick,))
    assert (gathering.state.truncations.count, gathering.state.truncations.bad) == (15, 3)


# --- strata -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "wanted"), [(0.01, 50), (0.1, 50), (0.5, 20), (0.9, 50)])
def test_a_stratum_waits_for_enough_of_both(share: float, wanted: int) -> None:
    """min(50, 10 / min(w, 1 - w)) outcomes, and both arms."""
    assert need(share) == pytest.approx(wanted)
    gathering = Gathering(share)
    gathering.see(None, counts(200))
    assert gathering.state.errors.compared == 0
    gathering.see(counts(1), None)
    assert gathering.state.errors.compared == 1
    assert gathering.state.errors.strata == ()


def test_a_change_of_share_closes_the_stratum_and_keeps_what_was_gathered() -> None:
    """Requests that were drawn with different shares are never compared as one."""
    gathering = Gathering(0.1)
    gathering.many(20, counts(5, 2), counts(45))
    gathering.see(counts(3, 3), counts(10))
    before = gathering.state.errors
    assert before.strata != ()
    gathering.draw_with(0.5)
    gathering.see(counts(1, 1), counts(1))
    after = gathering.state.errors
    assert after.compared == before.compared + 3
    assert [stratum.share for stratum in after.strata] == [0.5]
    assert after.relative.value > before.relative.value
    assert after.treatment.value > before.treatment.value


def test_a_ramp_and_a_worse_hour_do_not_make_a_difference() -> None:
    """Treatment grows from 1 to 50 % just when both arms get worse: together they would look like guilt."""
    gathering = Gathering(0.01, limits=Limits(0.005, None, None))
    gathering.many(100, counts(1), counts(99))
    gathering.draw_with(0.5)
    verdicts = {gathering.see(counts(50, 5), counts(50, 5)).verdict for _ in range(100)}
    assert Verdict.ROLL_BACK not in verdicts
    assert gathering.state.errors.relative.value < 1


def test_routes_with_other_shares_are_compared_apart() -> None:
    """An experiment gives treatment half of one bad route; a good route gives it nearly all."""
    state = expose(begin(1, 0, 0), 1, {"bad": 0.5, "good": 0.9})
    for at in range(0, 100_000, 1000):
        cells = {
            ("bad", TREATMENT): counts(10, 3), ("bad", CONTROL): counts(10, 3),
            ("good", TREATMENT): counts(10), ("good", CONTROL): counts(90),
        }  # fmt: skip
        tick = Tick(at, {Series(1, route, arm.label, "", ""): one for (route, arm), one in cells.items()})
        state = fold(state, Look(closed=(tick,)), ERRORS, Unit.REQUEST)
    assert state.errors.treatment.value > 1000
    assert state.errors.relative.value < 1


def test_an_edit_of_a_limit_counts_from_then_on() -> None:
    """What was gathered by the old limit stands."""
    gathering = Gathering(limits=Limits(0.5, None, None))
    gathering.many(10, counts(10, 5), counts(90))
    before = gathering.state.errors.treatment
    gathering.limits = Limits(0.01, None, None)
    gathering.see(counts(10), counts(90))
    fair = gathering.state.errors.treatment
    assert before.value > fair.value
    gathering.many(6, counts(10, 5), counts(90))
    assert gathering.state.errors.treatment.value > 1000


# --- latency ----------------------------------------------------------------------------------------

USUAL = {0.5: 50, 1.0: 25, 2.0: 15, 4.0: 10}
"""p50 .5 s, p75 1 s, p90 2 s."""


def test_thresholds_come_of_two_hundred_successes_then_of_five_minutes_then_of_each_hour() -> None:
    """With fewer than 200 nothing is decided; after that they move when their time has come."""
    gathering = Gathering(limits=LATENCY)
    gathering.see(None, successes({0.5: 199}))
    gathering.see(None, successes({0.5: 1}))
    assert gathering.state.reference.thresholds == ()
    decided = gathering.at
    for wait, seconds in ((0, 0.5), (300_000, 0.7), (3_600_000, 0.9), (3_600_000, 1.1)):
        before = gathering.state.reference.thresholds
        gathering.at = decided + wait - 1000
        gathering.see(None, successes({seconds: 500 if wait else 0}))
        assert gathering.state.reference.thresholds == before or not wait
        decided = gathering.at = decided + wait
        gathering.see(None, None)
        assert gathering.state.reference.thresholds == (bucket_of(seconds),) * 3


def test_thresholds_are_quantiles_of_control() -> None:
    """p50, p75 and p90."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control({seconds: 3 * number for seconds, number in USUAL.items()})
    assert gathering.state.reference.thresholds == tuple(map(bucket_of, (0.5, 1.0, 2.0)))


def test_what_is_slower_than_it_may_be_convicts() -> None:
    """Twice as slow under a limit of 15 %."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    twice = {2 * seconds: number for seconds, number in USUAL.items()}
    verdicts = [gathering.see(successes(twice), successes(USUAL)).verdict for _ in range(5)]
    assert verdicts[-1] is Verdict.ROLL_BACK


@pytest.mark.parametrize("times", [1.0, 1.1, 1.149])
def test_what_is_as_slow_as_it_may_be_does_not(times: float) -> None:
    """Up to 15 % slower is no evidence at all."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    slower = {times * seconds: number for seconds, number in USUAL.items()}
    found = gathering.many(50, successes(slower), successes(USUAL))
    assert found.value < 1


@pytest.mark.parametrize("degradation", [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 1.0])
def test_what_treatment_may_take_longer_is_rounded_up_but_for_what_nobody_can_measure(
    degradation: float,
) -> None:
    """Buckets are half a percent wide: a limit that is nearly whole in them stays where it was written."""
    allowed = LATENCY_BASE ** timing.stretched(0, degradation)
    assert (1 + degradation) * 0.99935 <= allowed < (1 + degradation) * 1.0045


def test_drift_in_both_arms_is_no_evidence_though_the_thresholds_are_stale() -> None:
    """Both arms become three times as slow: all are beyond the thresholds, in both arms alike."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    slow = {3 * seconds: number for seconds, number in USUAL.items()}
    assert gathering.many(100, successes(slow), successes(slow)).value < 1


def test_outliers_cannot_move_it() -> None:
    """One request of a thousand seconds is one slow request."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    found = gathering.see(successes({**USUAL, 1000.0: 1}), successes(USUAL))
    assert found.value < 1


def hang(gathering: Gathering, age: int) -> None:
    """A tick in which treatment answers nothing, seen when it is that many milliseconds old."""
    tick = gathering.tick(Counts(20), successes(USUAL))
    gathering.at += age + 1000
    gathering.take(standing=(tick,))


def test_a_request_that_hangs_is_slow_as_soon_as_it_is_older_than_slow() -> None:
    """Long before a timeout; not a moment earlier, and counted once."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    hang(gathering, 2200)
    assert gathering.state.slowness[0].count == 0
    hang(gathering, 2330)
    assert [guardrail.bad for guardrail in gathering.state.slowness] == [20, 20, 20]
    for _ in range(6):
        hang(gathering, 2400)
    assert gathering.judge().verdict is Verdict.ROLL_BACK


def test_an_open_request_is_as_old_as_the_report_of_it() -> None:
    """What a late report calls open may be over by now: age is counted to the report, not to the look."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    tick = gathering.tick(Counts(20), successes(USUAL))
    late = Look(standing=(tick,), reported_to=tick.at + 1500)
    assert fold(gathering.state, late, LATENCY, Unit.REQUEST).slowness == gathering.state.slowness


def test_a_client_that_left_is_slow_if_it_had_waited_longer_and_else_out() -> None:
    """Impatience is no evidence; patience is."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    left = latencies({0.2: 7, 30.0: 3})
    gathering.see(Counts(started=10, withdrawn=10, ended=10, left=left), successes(USUAL))
    assert [(one.count, one.bad) for one in gathering.state.slowness] == [(3, 3)] * 3


def test_failures_are_no_latencies() -> None:
    """A treatment that fails at once is not fast, and one that fails late is not slow: it failed."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    gathering.see(counts(10, 10), successes(USUAL))
    assert gathering.state.slowness[0].count == 0


def test_latency_is_judged_in_order_and_every_tick_once() -> None:
    """A tick that waits holds the later ones; settled what was timed while it stood is not again."""
    gathering = Gathering(limits=LATENCY)
    gathering.know_control(USUAL)
    open_tick = gathering.tick(successes(USUAL, open_ones=1), None)
    gathering.at += 1000
    done = gathering.tick(successes(USUAL), None)
    gathering.at += 1000
    gathering.take(standing=(open_tick, done))
    assert gathering.state.slowness[0].count == 0
    closed = replace(open_tick, counts={gathering.series(TREATMENT): successes({**USUAL, 8.0: 1})})
    gathering.take(standing=(closed, done))
    assert gathering.state.slowness[0].count == 201
    gathering.take(settled=(closed, done))
    assert gathering.state.slowness[0].count == 201


# --- client errors and ratings ----------------------------------------------------------------------


def test_client_errors_are_judged_by_control_alone() -> None:
    """Callers' mistakes fall on both arms alike; a treatment that answers 404 to all does not."""
    alike = Gathering()
    assert alike.many(100, counts(5, client_errors=4), counts(45, client_errors=36)).value < 1
    missing = Gathering()
    assert (
        missing.many(5, counts(5, client_errors=5), counts(45, client_errors=2)).verdict is Verdict.ROLL_BACK
    )


def test_ratings_with_answers_count() -> None:
    """Half satisfied where control's users are fully."""
    gathering = Gathering(limits=RATING)
    bad = counts(10, scores={"user_satisfaction": Score(10, 5.0, 2.5)})
    good = counts(90, scores={"user_satisfaction": Score(90, 90.0, 90.0)})
    assert gathering.many(30, bad, good).verdict is Verdict.ROLL_BACK


def test_late_ratings_are_compared_with_those_of_users_who_were_drawn_alike() -> None:
    """A share that grew while both arms' users got less satisfied is no evidence against treatment."""
    gathering = Gathering(limits=RATING)
    gathering.see(counts(10), counts(90))
    before = {arm: gathering.series(arm) for arm in (TREATMENT, CONTROL)}
    gathering.draw_with(0.5)
    full, poor = ({"user_satisfaction": Score(50, total, total)} for total in (50.0, 25.0))
    for _ in range(60):
        now = gathering.tick(counts(50, scores=poor), counts(50, scores=poor))
        gathering.at += 1000
        found = gathering.take(closed=(Tick(now.at, {**now.counts, before[CONTROL]: Counts(scores=full)}),))
    (rated,) = [part for part in found.parts if part.name == "user_satisfaction"]
    assert rated.against_control is not None
    assert rated.against_control < 1


def test_there_is_no_evidence_on_satisfaction_before_the_first_rating() -> None:
    """Its weight stays unused."""
    gathering = Gathering(limits=EVERYTHING)
    found = gathering.many(20, counts(10), counts(90))
    assert {part.name: part.value for part in found.parts}["user_satisfaction"] is None


# --- the same state -----------------------------------------------------------------------------------


def traffic(seed: int, ticks: int = 40) -> list[Look]:
    """Looks with everything in them."""
    rng = random.Random(seed)
    looks = []
    for at in range(0, ticks * 10_000, 10_000):
        cells = {}
        for arm, requests in ((TREATMENT, rng.randrange(4)), (CONTROL, rng.randrange(60))):
            errors = sum(rng.random() < 0.1 for _ in range(requests))
            seconds = [bucket_of(rng.lognormvariate(0, 1)) for _ in range(requests - errors)]
            cells[Series(1, "default", arm.label, "", "", rng.random() < 0.9)] = counts(
                requests, errors, latencies={bucket: seconds.count(bucket) for bucket in seconds}
            )
        tick = Tick(at, cells)
        looks.append(Look((tick,), (tick,), (), at + 10_000, 10_000))
    return looks


def follow(looks: list[Look], unit: Unit = Unit.REQUEST, state: EvidenceState | None = None) -> EvidenceState:
    """Fold them all."""
    state = state or expose(begin(1, 0, 0), 1, {"default": 0.05})
    for look in looks:
        state = fold(state, look, EVERYTHING, unit)
    return state


@examples(8)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from(Unit))
def test_a_stored_state_goes_on_to_the_same_end(seed: int, stop: int, unit: Unit) -> None:
    """Written as JSON at any tick, read, and fed from five ticks earlier on: no number differs."""
    looks = traffic(seed)
    stored = decode(EvidenceState, encode(follow(looks[:stop], unit)))
    assert follow(looks[max(0, stop - 5) :], unit, stored) == follow(looks, unit)


def test_a_state_moves_to_another_clock() -> None:
    """After a reboot monotonic time begins anew; the evidence and its minutes go on."""
    looks = traffic(3)
    state = follow(looks[:20])
    moved = rebase(state, 7_000_000)
    assert moved.errors == state.errors
    assert moved.minute(7_000_000 + 600_000) == state.minute(600_000)
    assert moved.closed_to == state.closed_to + 7_000_000


def test_a_new_beginning_keeps_what_is_known_of_control() -> None:
    """And nothing that is known of treatment."""
    gathering = Gathering(limits=EVERYTHING)
    gathering.know_control(USUAL)
    gathering.many(10, counts(10, 5, truncated=1), counts(90))
    fresh = begin(2, 0, gathering.at, gathering.state)
    assert fresh.reference == gathering.state.reference
    assert fresh.errors == begin(2, 0, 0).errors
    assert fresh.closed_to == gathering.state.closed_to


def test_a_tick_costs_little() -> None:
    """With every guardrail in use, at 100 requests a second; the bound is for a busy machine."""
    gathering = Gathering(0.1, limits=EVERYTHING)
    gathering.know_control(USUAL)
    treatment, control = successes({0.5: 5, 1.0: 3, 3.0: 2}), successes({0.5: 45, 1.0: 30, 3.0: 15})
    begun = time.process_time()
    gathering.many(100, treatment, control)
    assert (time.process_time() - begun) / 100 < 0.01
