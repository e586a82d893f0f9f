"""What evidence comes to: the verdicts of automatic rollback, each rule by its name."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.core.evidence.assessment import (
    CLIENT_ERRORS,
    LEAST_CONTROL,
    TRIAL_MILLISECONDS,
    WEIGHTS,
    Assessment,
    Parameters,
    Verdict,
)
from gateway.core.evidence.gathering import Limits
from gateway.core.evidence.state import HOLD_FROM, Beside, end_trial
from gateway.core.evidence.trials import LEAST_SHOWING, control_is_worse
from gateway.core.folding import Tick
from gateway.model.metrics import Metric
from gateway.model.safety import OnSharedOutage, Unit
from gateway.model.scores import Score
from gateway.model.ticks import Counts
from tests.support.evidence import (
    CONTROL,
    ERRORS,
    EVERYTHING,
    TREATMENT,
    Gathering,
    counts,
    successes,
    until_rollback,
)

HEALTHY = counts(90)
LOPSIDED = Beside(treatment=100, treatment_bad=0, control=100, control_bad=40)


def scored(ratings: int, total: float) -> Counts:
    """Requests that went well and were rated: the sum of their ratings."""
    return counts(ratings, scores={Metric.USER_SATISFACTION: Score(ratings, total, total)})


def part(found: Assessment, name: str) -> float:
    """The evidence on one guardrail."""
    value = {one.name: one.value for one in found.parts}[name]
    assert value is not None
    return value


# --- over the limit and worse than control ------------------------------------------------------------


def test_nothing_seen_is_nothing_said() -> None:
    """Without any data the evidence is zero, and the verdict quiet."""
    found = Gathering(limits=EVERYTHING).judge()
    assert (found.value, found.verdict, found.failures, found.users) == (0.0, Verdict.QUIET, 0, 0)
    assert all(one.value is None for one in found.parts)


def test_a_treatment_that_fails_where_control_does_not_is_rolled_back() -> None:
    """Five failures are enough."""
    gathering = Gathering(0.01)
    verdicts = [gathering.see(counts(1, 1), counts(99)).verdict for _ in range(5)]
    assert verdicts[:3] == [Verdict.HOLD] * 3 or verdicts[:3] == [Verdict.QUIET, Verdict.HOLD, Verdict.HOLD]
    assert verdicts[-1] is Verdict.ROLL_BACK
    assert (
        "5 of 5 treatment requests failed: over the limit and worse than control" in gathering.judge().reason
    )


def test_the_limit_is_one_over_the_probability_of_a_false_rollback() -> None:
    """It convicts at 1/alpha and not before."""
    strict = Gathering(parameters=Parameters(alpha=1e-9))
    usual = Gathering()
    bad = [(counts(10, 2), HEALTHY)] * 100
    late, early = until_rollback(strict, bad), until_rollback(usual, bad)
    assert late is not None
    assert early is not None
    assert early < late
    assert strict.judge().limit == pytest.approx(1e9)
    assert strict.judge().value >= 1e9


@pytest.mark.parametrize("requests", [10, 30, 100, 1000])
@pytest.mark.parametrize("failed", [0, 1, 3, 10])
def test_the_evidence_is_told_without_exponents(requests: int, failed: int) -> None:
    """`1.8e+15` says nothing to whoever is woken by it; thousands are set apart."""
    gathering = Gathering()
    gathering.many(3, counts(requests, failed), HEALTHY)
    reason = gathering.judge().reason
    assert reason.endswith(", 1,000 convicts)")
    assert not re.search(r"[0-9]e[-+]?[0-9]", reason)


def test_far_over_the_line_is_not_counted() -> None:
    """It is not more convincing for being a quadrillion."""
    gathering = Gathering()
    gathering.many(3, counts(10, 10), HEALTHY)
    assert "(evidence over 1,000,000, 1,000 convicts)" in gathering.judge().reason


def test_worse_than_control_within_the_limit_is_no_conviction() -> None:
    """One percent under a limit of two, and control has none."""
    gathering = Gathering(0.5)
    found = gathering.many(200, counts(100, 1), counts(100))
    assert part(found, "error_rate") < 1
    assert found.parts[0].against_control is not None
    assert found.parts[0].against_control > 1000
    assert found.verdict is Verdict.QUIET


def test_errors_and_cut_streams_are_halves_of_one_guardrail() -> None:
    """The mean of both."""
    gathering = Gathering()
    found = gathering.many(3, counts(10, truncated=5), HEALTHY)
    cut = min(gathering.state.truncations.treatment.value, gathering.state.truncations.relative.value)
    heads = min(gathering.state.errors.treatment.value, gathering.state.errors.relative.value)
    assert part(found, "error_rate") == pytest.approx((cut + heads) / 2)
    assert gathering.many(3, counts(10, truncated=5), HEALTHY).verdict is Verdict.ROLL_BACK


def test_weights_are_those_that_are_written_down() -> None:
    """Errors .4, latency .3, satisfaction .2, client errors .1: together the whole, never scaled up."""
    assert WEIGHTS == {
        Metric.ERROR_RATE: 0.4,
        Metric.PERFORMANCE_DEGRADATION: 0.3,
        Metric.USER_SATISFACTION: 0.2,
        CLIENT_ERRORS: 0.1,
    }
    gathering = Gathering()
    found = gathering.many(2, counts(10, 4), HEALTHY)
    assert found.value == pytest.approx(0.4 * part(found, "error_rate") + 0.1 * part(found, CLIENT_ERRORS))


@pytest.mark.parametrize("metric", ["error_rate", "performance_degradation"])
def test_without_a_limit_there_is_nothing_to_judge(metric: str) -> None:
    """A null in the config is no limit of some default."""
    gathering = Gathering(limits=Limits(None, None, None))
    found = gathering.many(10, counts(10, 10), HEALTHY)
    assert {one.name: one.value for one in found.parts}[metric] is None
    assert found.verdict is Verdict.QUIET


# --- before it acts -----------------------------------------------------------------------------------


def test_fewer_than_the_minimum_of_failures_do_not_roll_back() -> None:
    """However strong the evidence is: it holds until there are as many."""
    gathering = Gathering(0.01, parameters=Parameters(minimum_failures=20))
    found = gathering.many(19, counts(1, 1), counts(99))
    assert found.value > found.limit
    assert found.verdict is Verdict.HOLD
    assert "19 of 20 failures" in found.reason
    assert gathering.see(counts(1, 1), counts(99)).verdict is Verdict.ROLL_BACK


def test_one_unlucky_user_does_not_roll_back() -> None:
    """His failures count twice in ten minutes at most; three users are asked for where there are so many."""
    gathering = Gathering(unit=Unit.USER)
    for _ in range(30):
        gathering.see(counts(5, 1), counts(45))
        found = gathering.see(counts(1, 1), counts(9))
        gathering.at += 598_000
    assert found.value > found.limit
    assert (found.users, found.verdict) == (1, Verdict.HOLD)
    assert "1 of 3 users" in found.reason


def test_a_phase_of_one_user_is_judged_by_one() -> None:
    """min(3, treatment's users of this phase), both by what is sure of them."""
    gathering = Gathering(unit=Unit.USER)
    for _ in range(5):
        found = gathering.see(counts(2, 2), counts(48))
        gathering.at += 600_000
    assert (found.users, found.verdict) == (1, Verdict.ROLL_BACK)


def test_five_failures_at_once_are_of_three_users() -> None:
    """A user may be marked twice in any ten minutes: just before the moment that is his own, and after."""
    gathering = Gathering(unit=Unit.USER)
    found = [gathering.see(counts(1, 1), counts(9)) for _ in range(5)]
    assert [each.users for each in found] == [1, 1, 2, 2, 3]


def test_failures_on_several_routes_may_be_the_same_users() -> None:
    """Each of a user's routes is marked: the bound is that of one route, not of their sum."""
    gathering = Gathering(unit=Unit.USER)
    for route in ("models", "generate", "chat"):
        gathering.route = route
        gathering.draw_with(0.1)
        gathering.see(counts(2, 2), counts(18))
    assert gathering.judge().users == 1
    gathering.see(counts(1, 1), counts(9))
    assert gathering.judge().users == 2


def test_failures_of_different_ten_minutes_may_be_of_the_same_users() -> None:
    """The bound is the most of one ten minutes, by the wall clock, not their sum."""
    gathering = Gathering(unit=Unit.USER)
    gathering.at = 599_000
    gathering.see(counts(5, 3), counts(45))
    gathering.see(counts(5, 3), counts(45))
    assert gathering.judge().users == 2
    assert gathering.see(counts(5, 2), counts(45)).users == 3


def test_with_unit_request_nobody_is_marked_and_every_failure_counts() -> None:
    """There is no telling whose they were."""
    gathering = Gathering(unit=Unit.REQUEST)
    assert gathering.many(5, counts(1, 1), counts(99)).users == 5


def test_a_hold_begins_at_ten_on_any_guardrail() -> None:
    """Long before a rollback."""
    gathering = Gathering(0.1)
    found = gathering.see(counts(5, 2), counts(45))
    while part(found, "error_rate") < HOLD_FROM:
        assert found.verdict is Verdict.QUIET
        found = gathering.see(counts(5, 1), counts(45))
    assert found.verdict is Verdict.HOLD
    assert found.value < found.limit


# --- outages of both arms -------------------------------------------------------------------------------


def test_an_outage_of_both_arms_convicts_nobody() -> None:
    """Over the limit, and not worse than control: hold and page."""
    gathering = Gathering(0.1)
    found = gathering.many(60, counts(1, 1), counts(9, 9))
    assert found.verdict is Verdict.SHARED_OUTAGE
    assert found.value < 1
    assert not found.caps_share


def test_an_outage_of_both_arms_rolls_back_where_that_is_asked_for() -> None:
    """`on_shared_outage: rollback`, with as many failures as ever."""
    parameters = Parameters(on_shared_outage=OnSharedOutage.ROLLBACK)
    gathering = Gathering(0.1, parameters=parameters)
    verdicts = [gathering.see(counts(1, 1), counts(9, 9)).verdict for _ in range(10)]
    assert verdicts[3] is not Verdict.ROLL_BACK
    assert verdicts[-1] is Verdict.ROLL_BACK


def test_an_outage_of_both_arms_is_forgotten_within_minutes() -> None:
    """An hour of it does not blind the gateway for the rest of the day."""
    gathering = Gathering(0.1)
    gathering.many(60, counts(60, 60), counts(540, 540))
    found = gathering.many(60, counts(150), counts(1350))
    assert found.verdict is Verdict.QUIET
    assert gathering.many(2, counts(10, 10), counts(90)).verdict is Verdict.ROLL_BACK


def test_treatment_that_stays_broken_after_an_outage_of_both_is_rolled_back() -> None:
    """Control recovers, treatment does not."""
    gathering = Gathering(0.1)
    gathering.many(60, counts(1, 1), counts(9, 9))
    assert until_rollback(gathering, [(counts(1, 1), counts(9))] * 60) is not None


# --- nobody on control ------------------------------------------------------------------------------------


def everybody_on_treatment() -> Gathering:
    """Full production, in which everything begins to fail."""
    gathering = Gathering(1.0)
    gathering.many(100, counts(10))
    return gathering


def until_trial(gathering: Gathering) -> int:
    """How many failures it takes until a trial is due."""
    failures = 0
    while gathering.see(counts(10, 10)).verdict is not Verdict.TRIAL:
        failures += 10
        assert failures < 1000
    return failures + 10


def test_with_nobody_on_control_a_trial_is_due() -> None:
    """Evidence against the limit alone never convicts: it asks for somebody to compare with."""
    gathering = everybody_on_treatment()
    assert until_trial(gathering) <= 40
    found = gathering.judge()
    assert found.caps_share
    assert found.value < 1
    assert found.against_limit >= found.limit


def test_a_trial_convicts_treatment_by_the_ordinary_rule() -> None:
    """Within seconds of having somebody to compare with."""
    gathering = everybody_on_treatment()
    until_trial(gathering)
    gathering.begin_trial()
    ticks = until_rollback(gathering, [(counts(5, 5), counts(5))] * 20)
    assert ticks is not None
    assert ticks <= 6


def test_a_trial_that_convicts_nobody_is_an_outage_of_both() -> None:
    """After a minute and fifty control requests; the cap stays, for control does no worse."""
    gathering = everybody_on_treatment()
    until_trial(gathering)
    gathering.begin_trial()
    begun = gathering.at
    while (found := gathering.see(counts(5, 5), counts(5, 5))).verdict is Verdict.TRIAL:
        assert gathering.at - begun <= TRIAL_MILLISECONDS
    assert gathering.at - begun == TRIAL_MILLISECONDS
    assert (found.verdict, found.caps_share) == (Verdict.SHARED_OUTAGE, True)


def test_a_trial_waits_for_fifty_control_requests() -> None:
    """A minute alone says nothing."""
    gathering = everybody_on_treatment()
    until_trial(gathering)
    gathering.begin_trial()
    found = gathering.many(61, counts(10, 5))
    assert (found.verdict, found.caps_share) == (Verdict.TRIAL, True)
    found = gathering.see(counts(5, 1), counts(LEAST_CONTROL, 10))
    assert (found.verdict, found.caps_share) == (Verdict.SHARED_OUTAGE, True)


def test_the_cap_is_lifted_once_treatment_keeps_its_limit_again() -> None:
    """When the evidence against the limit has fallen below ten."""
    gathering = everybody_on_treatment()
    until_trial(gathering)
    gathering.begin_trial()
    gathering.many(70, counts(5, 5), counts(5, 5))
    found = gathering.see(counts(5), counts(5))
    healthy = 0
    while found.caps_share:
        assert found.verdict is Verdict.SHARED_OUTAGE
        found = gathering.see(counts(50), counts(50))
        healthy += 50
        assert healthy < 20_000
    assert gathering.state.errors.treatment.value < HOLD_FROM


def test_control_without_a_healthy_endpoint_is_no_one_to_compare_with() -> None:
    """No user is moved to it, and it is an outage of both."""
    gathering = everybody_on_treatment()
    until_trial(gathering)
    found = gathering.judge(control_healthy=False)
    assert (found.verdict, found.caps_share) == (Verdict.SHARED_OUTAGE, False)
    gathering.begin_trial()
    found = gathering.judge(control_healthy=False)
    assert (found.verdict, found.caps_share) == (Verdict.SHARED_OUTAGE, False)


def test_a_control_that_comes_back_is_asked_again() -> None:
    """A trial that control was away from has shown nothing; but not every time that it comes and goes."""
    gathering = everybody_on_treatment()
    until_trial(gathering)
    gathering.begin_trial()
    gathering.many(10, counts(5, 5), counts(5, 5))
    assert not gathering.judge(control_healthy=False).caps_share
    gathering.end_trial()
    found = gathering.see(counts(10, 10))
    assert (found.verdict, found.caps_share) == (Verdict.SHARED_OUTAGE, False)
    gathering.at += 11 * 60_000
    assert (gathering.see(counts(10, 10)).verdict, gathering.judge().caps_share) == (Verdict.TRIAL, True)


def on_trial(treatment: Counts, control: Counts, seconds: int) -> tuple[Gathering, int]:
    """A trial in which both arms do so, until its cap is lifted, and after how many seconds that was."""
    gathering = everybody_on_treatment()
    until_trial(gathering)
    gathering.begin_trial()
    for second in range(1, seconds + 1):
        if not gathering.see(treatment, control).caps_share:
            return gathering, second
    return gathering, seconds + 1


def test_nobody_is_left_on_a_control_that_is_plainly_worse() -> None:
    """Twenty requests show it: all fail, where treatment fails one in ten. No minute is waited for."""
    gathering, seconds = on_trial(counts(20, 2), counts(5, 5), 60)
    assert seconds == LEAST_SHOWING / 5
    found = gathering.judge()
    assert (found.verdict, found.caps_share) == (Verdict.SHARED_OUTAGE, False)
    assert "20 of 20 requests to control: it is worse" in found.reason


def test_where_control_was_worse_nothing_is_tried_again_until_treatment_is_well() -> None:
    """The finding stands as long as treatment is over its limit, and is forgotten with that."""
    gathering, _ = on_trial(counts(20, 2), counts(5, 5), 60)
    gathering.end_trial()
    gathering.at += 11 * 60_000
    for _ in range(20):
        found = gathering.see(counts(20, 2))
        assert (found.verdict, found.caps_share) == (Verdict.SHARED_OUTAGE, False)
    while gathering.see(counts(500)).verdict is Verdict.SHARED_OUTAGE:
        assert gathering.at < 100 * 60_000
    gathering.state = end_trial(gathering.state)
    assert (gathering.judge().verdict, gathering.state.trial) == (Verdict.QUIET, None)
    assert until_trial(gathering) <= 100


@pytest.mark.parametrize("asked_for", list(OnSharedOutage))
def test_nobody_is_rolled_back_to_a_control_that_is_worse(asked_for: OnSharedOutage) -> None:
    """That is no outage of both alike: treatment serves some of them at least."""
    gathering, _ = on_trial(counts(20, 2), counts(5, 5), 60)
    gathering.parameters = Parameters(on_shared_outage=asked_for)
    assert gathering.judge().verdict is Verdict.SHARED_OUTAGE
    gathering.begin_trial()
    assert gathering.judge(control_healthy=False).verdict is Verdict.SHARED_OUTAGE


def test_a_control_that_is_a_little_worse_loses_the_users_after_the_minute() -> None:
    """Less has to be shown then, for treatment cannot be convicted any more."""
    gathering, seconds = on_trial(counts(5, 5), counts(5, 5), 50)
    assert seconds > 50
    a_little = Beside(treatment=60, treatment_bad=20, control=60, control_bad=32)
    gathering.state = replace(gathering.state, errors=replace(gathering.state.errors, beside=a_little))
    assert (gathering.judge().verdict, gathering.judge().caps_share) == (Verdict.TRIAL, True)
    gathering.at += 10_000
    assert (gathering.judge().verdict, gathering.judge().caps_share) == (Verdict.SHARED_OUTAGE, False)


@pytest.mark.parametrize("bad", [1, 5])
def test_a_control_that_is_as_bad_keeps_its_users(bad: int) -> None:
    """They lose nothing by it; and when one of the two is well again, it is known at once which."""
    gathering, seconds = on_trial(counts(5, bad), counts(5, bad), 120)
    assert seconds > 120
    assert until_rollback(gathering, [(counts(5, 5), counts(5))] * 60) is not None


def test_a_control_within_the_limit_is_not_worse() -> None:
    """However little treatment fails."""
    limits = Limits(0.5, None, None)
    gathering = Gathering(1.0, limits=limits)
    gathering.state = replace(gathering.state, errors=replace(gathering.state.errors, beside=LOPSIDED))
    assert not control_is_worse(gathering.state, limits, 0.001)
    assert control_is_worse(gathering.state, ERRORS, 0.001)


def test_cut_streams_of_control_count_in_a_trial() -> None:
    """Whatever it is that treatment fails by."""
    _, seconds = on_trial(counts(20, 2), counts(5, truncated=5), 60)
    assert seconds == LEAST_SHOWING / 5


def test_worse_ratings_of_control_end_a_trial_by_ratings() -> None:
    """Where it is ratings that treatment is over its limit by."""
    rated = Limits(0.02, None, 0.95)
    gathering = Gathering(1.0, limits=rated)
    gathering.many(30, scored(10, 7.0))
    assert gathering.judge().verdict is Verdict.TRIAL
    gathering.begin_trial()
    for _ in range(10):
        found = gathering.see(scored(10, 7.0), scored(10, 1.0))
    assert (found.verdict, found.caps_share) == (Verdict.SHARED_OUTAGE, False)


def test_a_trial_begins_its_comparison_afresh() -> None:
    """What was lost while nobody was there to compare with, or long ago, does not weigh on it."""
    gathering = Gathering(0.99)
    gathering.many(30, counts(99), counts(1, 1))
    assert gathering.state.errors.relative.value < 0.01
    gathering.begin_trial()
    assert gathering.state.errors.relative.value == pytest.approx(0.5)
    assert gathering.state.errors.strata == ()


def test_a_share_of_half_needs_no_trial() -> None:
    """There is as much to compare with as there would be in one."""
    gathering = Gathering(0.5)
    found = gathering.many(10, counts(5, 5))
    assert found.against_limit > found.limit
    assert not found.caps_share


def test_fifty_control_requests_in_ten_minutes_are_enough_without_a_trial() -> None:
    """At 90 percent some control is left."""
    gathering = Gathering(0.9)
    gathering.many(10, counts(45), counts(5))
    found = gathering.many(3, counts(9, 9))
    assert not found.caps_share
    gathering.at += 11 * 60_000
    assert gathering.see(counts(9, 9)).caps_share


def test_latency_without_concurrent_control_convicts_nobody() -> None:
    """Everything is ten times as slow, and everybody on treatment: an alert, no rollback."""
    gathering = Gathering(1.0, limits=EVERYTHING)
    gathering.know_control({0.5: 90, 1.0: 10})
    found = gathering.many(50, successes({5.0: 10}))
    assert found.verdict is Verdict.QUIET


@pytest.mark.parametrize("verdict", list(Verdict))
def test_reasons_are_sentences(verdict: Verdict) -> None:
    """Every verdict says why in words."""
    scenes = {
        Verdict.QUIET: Gathering(0.1),
        Verdict.HOLD: Gathering(0.1),
        Verdict.ROLL_BACK: Gathering(0.1),
        Verdict.TRIAL: Gathering(1.0),
        Verdict.SHARED_OUTAGE: Gathering(0.1),
    }
    ticks = {
        Verdict.QUIET: (counts(10), HEALTHY, 2),
        Verdict.HOLD: (counts(5, 2), counts(45), 2),
        Verdict.ROLL_BACK: (counts(10, 10), HEALTHY, 2),
        Verdict.TRIAL: (counts(10, 10), None, 2),
        Verdict.SHARED_OUTAGE: (counts(1, 1), counts(9, 9), 30),
    }
    treatment, control, times = ticks[verdict]
    for _ in range(times):
        found = scenes[verdict].see(treatment, control)
    assert found.verdict is verdict
    assert "treatment" in found.reason


def test_asking_changes_nothing() -> None:
    """A judgement is a function of the state."""
    gathering = Gathering(limits=EVERYTHING)
    gathering.see(counts(10, 2), HEALTHY)
    state = gathering.state
    assert gathering.judge() == gathering.judge()
    assert gathering.state == state


def test_more_failures_never_mean_less_evidence() -> None:
    """Among otherwise equal ticks."""
    values = []
    for failures in range(11):
        gathering = Gathering()
        tick = Tick(
            0, {gathering.series(TREATMENT): counts(10, failures), gathering.series(CONTROL): HEALTHY}
        )
        values.append(gathering.take(closed=(tick,)).value)
    assert values == sorted(values)
    assert replace(gathering.parameters) == Parameters()
