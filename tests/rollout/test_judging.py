"""What counts say of a limit: pass, fail, or neither."""

from __future__ import annotations

import bisect
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import scipy

from gateway.core.judging import error_of_look, judge, trials_needed
from gateway.model.gates import (
    Contrast,
    Evidence,
    Exceedance,
    Mean,
    OnNoData,
    Proportion,
    Sample,
    Stratum,
    Threshold,
    Verdict,
)
from gateway.model.units import Comparison, Operator
from tests.support.rollouts import ERROR_LIMIT, METRICS, NOW

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def look_at(
    sample: Sample | None,
    limit: Comparison = ERROR_LIMIT,
    *,
    requests: int = 10_000,
    look: int = 1,
    confidence: float = 0.95,
    on_no_data: OnNoData = OnNoData.HOLD,
    sample_ratio_ok: bool = True,
) -> tuple[Verdict, float | None, str]:
    """Verdict, value and reason of one metric."""
    gate = replace(
        METRICS, thresholds=(Threshold("metric", limit),), confidence=confidence, on_no_data=on_no_data
    )
    samples = {} if sample is None else {"metric": sample}
    judgement = judge(
        gate, look, Evidence(requests, samples, sample_ratio_ok), epoch=1, window=3600.0, at=NOW
    )
    (finding,) = judgement.findings
    return finding.verdict, finding.value, finding.reason


@pytest.mark.parametrize(
    ("bad", "trials", "verdict"),
    [(0, 321, PASS), (0, 320, INCONCLUSIVE), (3, 864, PASS), (4, 864, INCONCLUSIVE), (30, 864, FAIL)],
)
def test_an_error_rate_is_judged_by_exact_tails(bad: int, trials: int, verdict: Verdict) -> None:
    """At the first look, error .04: 0.99**321 is the first power below it."""
    assert look_at(Proportion(trials, bad))[0] is verdict


def test_later_looks_want_more_certainty() -> None:
    """The first look spends .04 and the others half of what is left, so that all together spend .05."""
    assert [error_of_look(0.95, k) for k in (1, 2, 3)] == pytest.approx([0.04, 0.005, 0.0025])
    assert sum(error_of_look(0.95, k) or 0.0 for k in range(1, 60)) == pytest.approx(0.05)
    assert look_at(Proportion(400, 0), look=1)[0] is PASS
    assert look_at(Proportion(400, 0), look=2)[0] is INCONCLUSIVE


@pytest.mark.parametrize("look", [48, 49, 1025, 100_000])
@pytest.mark.parametrize(
    ("sample", "verdict"),
    [
        (Proportion(864, 4), INCONCLUSIVE),
        (Proportion(864, 800), FAIL),
        (Exceedance(864, 80, 0.1, 4.0), INCONCLUSIVE),
        (Contrast((Stratum(400, 0.0, 0.25, 400, 0.0, 0.25),)), INCONCLUSIVE),
        (Mean(400, 4.0, 4.0), INCONCLUSIVE),
    ],
)
def test_a_gate_that_was_held_for_months_is_still_judged(look: int, sample: Sample, verdict: Verdict) -> None:
    """Half the error at each look is soon less than a float next to 1 can say, and at last than any can."""
    assert look_at(sample, look=look)[0] is verdict


def test_satisfaction_is_judged_by_what_is_lacking() -> None:
    """Scores towards 1: 63 perfect ratings show more than .95 at error .04, 62 do not."""
    limit = Comparison(Operator.GREATER, 0.95)
    assert look_at(Proportion(63, 0), limit)[:2] == (PASS, 1.0)
    assert look_at(Proportion(62, 0), limit)[0] is INCONCLUSIVE
    assert look_at(Proportion(200, 40), limit)[:2] == (FAIL, 0.8)


def test_a_quantile_is_judged_by_how_many_exceed_the_limit() -> None:
    """A p90 below five seconds is at most a tenth above five seconds; the value shown is the p90."""
    limit = Comparison(Operator.LESS, 5.0)
    assert look_at(Exceedance(1000, 50, 0.1, 3.2), limit)[:2] == (PASS, 3.2)
    assert look_at(Exceedance(1000, 100, 0.1, 5.0), limit)[0] is INCONCLUSIVE
    assert look_at(Exceedance(1000, 200, 0.1, 9.0), limit)[0] is FAIL


def strata(slowdown: float, count: int = 400) -> Contrast:
    """Ten-minute strata whose level drifts for both arms alike."""
    shift = math.log(slowdown)
    return Contrast(
        tuple(Stratum(count, level + shift, 0.25, 50 * count, level, 0.25) for level in (0.0, 0.7, -0.4))
    )


@pytest.mark.parametrize(("slowdown", "verdict"), [(1.0, PASS), (1.08, INCONCLUSIVE), (1.3, FAIL)])
def test_degradation_is_judged_against_concurrent_control(slowdown: float, verdict: Verdict) -> None:
    """The drift that both arms share cancels; the value is exp(difference) - 1."""
    found, value, _ = look_at(strata(slowdown), Comparison(Operator.LESS, 0.1))
    assert found is verdict
    assert value == pytest.approx(slowdown - 1)


def test_the_bounds_of_degradation_are_those_of_the_formula() -> None:
    """One stratum by hand: difference, standard error, quantile."""
    contrast = Contrast((Stratum(400, 0.05, 0.36, 1600, 0.0, 0.25),))
    margin = NormalDist().inv_cdf(0.96) * math.sqrt(0.36 / 400 + 0.25 / 1600)
    upper = math.expm1(0.05 + margin)
    assert look_at(contrast, Comparison(Operator.LESS, upper + 1e-9))[0] is PASS
    assert look_at(contrast, Comparison(Operator.LESS, upper - 1e-9))[0] is INCONCLUSIVE


@pytest.mark.parametrize("on_no_data", OnNoData)
def test_degradation_without_concurrent_control_is_inconclusive(on_no_data: OnNoData) -> None:
    """Nothing to compare with is not no data, and never a pass."""
    alone = Contrast((Stratum(4000, 0.0, 0.2, 0, 0.0, 0.0),))
    for sample in (alone, Contrast(())):
        verdict, _, reason = look_at(sample, requests=10, on_no_data=on_no_data)
        assert verdict is INCONCLUSIVE
        assert reason.startswith("no_control")


def test_a_mean_is_judged_by_its_interval() -> None:
    """Cost per request, and whatever else is a plain number."""
    limit = Comparison(Operator.LESS, 0.01)
    cheap = Mean(1000, 5.0, 1000 * (0.005**2 + 0.001**2))
    assert look_at(cheap, limit)[0] is PASS
    assert look_at(Mean(1000, 50.0, 1000 * (0.05**2 + 0.001**2)), limit)[0] is FAIL
    assert look_at(Mean(4, 0.036, 4 * (0.009**2 + 0.004**2)), limit)[0] is INCONCLUSIVE


@pytest.mark.parametrize(
    ("on_no_data", "verdict"),
    [(OnNoData.HOLD, INCONCLUSIVE), (OnNoData.FAIL, FAIL), (OnNoData.PASS, PASS)],
)
def test_a_handful_of_numbers_shows_no_mean(on_no_data: OnNoData, verdict: Verdict) -> None:
    """A single number has no spread, and so would be known exactly: however many requests there were."""
    for count in (1, 29):
        few = Mean(count, 0.005 * count, 0.005**2 * count)
        found, value, reason = look_at(few, Comparison(Operator.LESS, 0.01), on_no_data=on_no_data)
        assert found is verdict
        assert value == pytest.approx(0.005)
        assert reason == f"no_data: {count} of 30 values"
    assert look_at(Mean(30, 0.15, 30 * 0.005**2), Comparison(Operator.LESS, 0.01))[0] is PASS


@pytest.mark.parametrize("on_no_data", OnNoData)
@pytest.mark.parametrize("counts", [(4000, 2), (4000, 29), (29, 4000)])
def test_a_handful_of_one_arm_shows_no_degradation(counts: tuple[int, int], on_no_data: OnNoData) -> None:
    """Two latencies of control can agree by chance: what they vary by is not known."""
    few = Contrast((Stratum(counts[0], 0.0, 0.25, counts[1], 0.0, 1e-6),))
    found, value, reason = look_at(few, Comparison(Operator.LESS, 0.1), on_no_data=on_no_data)
    assert found is INCONCLUSIVE
    assert value == 0.0
    lacks = "no_data" if counts[0] < counts[1] else "no_control"
    assert reason.startswith(f"{lacks}: {min(counts)} of 30 successes")


def test_a_stratum_in_which_an_arm_has_a_single_request_tells_nothing() -> None:
    """A single latency has no variance: it would be known exactly."""
    sound = Stratum(400, 0.05, 0.36, 1600, 0.0, 0.25)
    for odd in (Stratum(4000, 5.0, 0.25, 1, 0.0, 0.0), Stratum(1, 5.0, 0.0, 4000, 0.0, 0.25)):
        assert look_at(Contrast((sound, odd))) == look_at(Contrast((sound,)))


def test_the_arms_of_all_strata_count_together() -> None:
    """Ten times three requests of control are thirty."""
    some = Contrast((Stratum(400, 0.0, 0.25, 3, 0.0, 0.25),) * 10)
    assert look_at(some, Comparison(Operator.LESS, 0.5))[0] is PASS


@pytest.mark.slow
def test_the_interval_of_a_mean_is_that_of_its_numbers() -> None:
    """Mean and sample variance as numpy has them, and the normal's tail at the look's error."""
    costs = np.random.default_rng(5).gamma(2.0, 0.004, 400)
    sample = Mean(len(costs), float(costs.sum()), float((costs**2).sum()))
    value, reason = look_at(sample, Comparison(Operator.LESS, 1.0))[1:]
    assert value == pytest.approx(costs.mean())
    margin = scipy.stats.norm.isf(error_of_look(0.95, 1)) * costs.std(ddof=1) / math.sqrt(len(costs))
    assert f"between {costs.mean() - margin:.4g} and {costs.mean() + margin:.4g} " in reason


@pytest.mark.parametrize(
    ("on_no_data", "verdict"),
    [(OnNoData.HOLD, INCONCLUSIVE), (OnNoData.FAIL, FAIL), (OnNoData.PASS, PASS)],
)
@pytest.mark.parametrize("sample", [None, Proportion(0, 0), Proportion(10, 0)])
def test_too_few_samples_mean_what_the_gate_says(
    on_no_data: OnNoData, verdict: Verdict, sample: Sample | None
) -> None:
    """Nothing at all and less than the minimum are one case."""
    found, _, reason = look_at(sample, requests=10, on_no_data=on_no_data)
    assert found is verdict
    assert reason.startswith("no_data")


def test_few_samples_that_prove_a_failure_do_fail() -> None:
    """Twenty failures of twenty need no three hundred requests."""
    assert look_at(Proportion(20, 20), requests=20, on_no_data=OnNoData.PASS)[0] is FAIL


def test_ratings_count_against_their_own_number_and_requests_against_the_minimum() -> None:
    """72 ratings on 400 requests will do: the minimum is one of requests."""
    assert look_at(Proportion(72, 0), Comparison(Operator.GREATER, 0.95), requests=400)[0] is PASS


def test_a_sample_ratio_that_is_off_holds_every_metric() -> None:
    """Arms of the wrong size are no basis for anything."""
    verdict, _, reason = look_at(Proportion(10_000, 0), sample_ratio_ok=False)
    assert verdict is INCONCLUSIVE
    assert reason.startswith("sample_ratio")


@pytest.mark.parametrize(("bad", "verdict"), [(3, PASS), (4, FAIL)])
def test_confidence_zero_is_the_plain_point_estimate(bad: int, verdict: Verdict) -> None:
    """3 of 400 is below .01 and 4 are not, whatever chance could do."""
    assert look_at(Proportion(400, bad), confidence=0.0)[0] is verdict
    assert look_at(Proportion(20, 20), confidence=0.0, requests=20)[0] is INCONCLUSIVE


def test_the_advice_says_how_many_would_do() -> None:
    """The figures of the book: 299 without a failure for .01, 59 ratings for .95, at error .05."""
    assert trials_needed(0.0, 0.01, 0.05) == 299
    assert trials_needed(0.0, 0.05, 0.05) == 59
    assert trials_needed(0.01, 0.01, 0.05) is None
    needed = trials_needed(0.005, 0.01, 0.04)
    assert needed is not None
    assert look_at(Proportion(needed, math.ceil(0.005 * needed)))[0] is PASS
    assert f"about {trials_needed(4 / 864, 0.01, 0.04)} would do" in look_at(Proportion(864, 4))[2]


def most_that_pass(trials: int, look: int) -> int:
    """How many failures of so many trials still pass at a look."""

    def is_too_many(bad: int) -> bool:
        return look_at(Proportion(trials, bad), look=look, requests=trials)[0] is not PASS

    return bisect.bisect_left(range(trials // 20), True, key=is_too_many) - 1


def passing_probability(looks: int, rate: float, per_window: int) -> float:
    """How probably a treatment with that error rate passes at one of the looks, exactly.

    Half a window lies between two looks; the limit is .01.
    """
    passed, trials, undecided = 0.0, 0, np.ones(1)
    for look in range(1, looks + 1):
        more = per_window if look == 1 else per_window // 2
        trials += more
        undecided = np.convolve(undecided, scipy.stats.binom.pmf(np.arange(more // 20), more, rate))
        passing = most_that_pass(trials, look) + 1
        passed += undecided[:passing].sum()
        undecided[:passing] = 0.0
    return passed


@pytest.mark.slow
@pytest.mark.parametrize("per_window", [864, 5000, 8640])
def test_a_treatment_at_its_limit_passes_seldom_over_all_looks(per_window: int) -> None:
    """Row 13 of the figures: p = .01 under a limit of .01 passes in at most 5 %, here over 8 looks."""
    assert passing_probability(8, 0.01, per_window) <= 0.05


@pytest.mark.slow
def test_a_good_treatment_passes_soon() -> None:
    """Row 13 of the figures: with 864 requests p = .002 passes in 90 % at the first look, .005 in 37 %."""
    assert passing_probability(1, 0.002, 864) == pytest.approx(0.903, abs=5e-4)
    assert passing_probability(1, 0.005, 864) == pytest.approx(0.373, abs=5e-4)
