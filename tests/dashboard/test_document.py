"""What the dashboard says: the strategy's figures, each by its definition, and the one word for it all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.dashboard.condition import Condition, Tone, see
from gateway.control.dashboard.document import (
    ArmFigures,
    alert_trends,
    document,
    effectiveness,
    improvements,
)
from tests.support.dashboards import AT, CONTROL, NOW, TREATMENT, event, experiment, facts, latched, status

# --- the strategy's shape ---


def test_it_has_the_strategy_s_five_parts_with_their_keys() -> None:
    """The keys that the strategy's own dashboard module names."""
    made = document(facts(experiments=[experiment()]))
    json.dumps(made, allow_nan=False)
    assert set(made["overview"]) >= {
        *("total_executions", "dspy_executions", "traditional_executions", "success_rate"),
        "average_response_time",
    }
    performance = made["performance"]
    assert set(performance["dspy_performance"]) >= {
        *("success_rate", "average_response_time", "optimization_effectiveness"),
    }
    assert set(performance["traditional_performance"]) >= {"success_rate", "average_response_time"}
    assert set(performance["comparison"]) >= {
        *("performance_improvement", "cost_comparison", "quality_improvement"),
    }
    assert set(made["experiments"][0]) >= {
        *("id", "name", "status", "participants", "results", "statistical_significance"),
    }
    assert set(made["alerts"]) >= {"active_alerts", "recent_alerts", "alert_trends"}
    assert set(made["deployment"]) >= {
        *("current_phase", "phase_metrics", "rollout_percentage", "canary_health"),
    }


def test_the_overview_weighs_both_arms_by_their_requests() -> None:
    """Totals since the beginning; success and mean response over the window, request by request."""
    seen = document(facts())["overview"]
    assert seen["total_executions"] == 10_000
    assert (seen["dspy_executions"], seen["traditional_executions"]) == (1000, 9000)
    assert seen["success_rate"] == pytest.approx(1480 / 1500)
    assert seen["average_response_time"] == pytest.approx((990 * 0.2 + 490 * 0.15) / 1480)


def test_improvements_point_upwards_where_treatment_is_better() -> None:
    """Faster, cheaper and more accurate are positive; speed is minus the degradation."""
    gains = improvements(CONTROL, TREATMENT, -0.2)
    assert gains["speed"] == 0.2
    assert gains["cost"] == pytest.approx(0.25)
    assert gains["quality"] == pytest.approx(0.1)
    assert gains["success"] == pytest.approx(0.98 / 0.99 - 1)


def test_quality_falls_back_to_satisfaction() -> None:
    """Where no accuracy is reported, ratings speak."""
    control, treatment = (replace(CONTROL, scores={"user_satisfaction": value}) for value in (0.8, 0.4))
    assert improvements(control, treatment, None)["quality"] == pytest.approx(-0.5)


@given(st.dictionaries(st.sampled_from("abcd"), st.none() | st.floats(-0.9, 9.0)))
def test_effectiveness_lies_between_the_least_and_the_greatest_gain(gains: dict[str, float | None]) -> None:
    """It is a mean: no better than the best respect, no worse than the worst; nothing of nothing."""
    known = [gain for gain in gains.values() if gain is not None]
    found = effectiveness(gains)
    if found is None:
        assert known == []
    else:
        assert min(known) - 1e-9 <= found <= max(known) + 1e-9


def test_effectiveness_takes_gains_and_losses_for_equal() -> None:
    """Twice as good in one respect and half as good in another is neither."""
    assert effectiveness({"speed": 1.0, "cost": -0.5}) == pytest.approx(0.0)


def test_nothing_is_said_before_there_is_anything() -> None:
    """Without traffic every rate is null, never zero."""
    empty = status(arms={"control": {"requests": 0}, "treatment": {"requests": 0}}, evidence=None, limits={})
    made = document(facts(status=empty, recent={}, degradation=None, rate=None, points=[], evidence=[]))
    assert made["overview"]["success_rate"] is None
    assert made["overview"]["average_response_time"] is None
    assert made["performance"]["dspy_performance"]["optimization_effectiveness"] is None
    assert made["performance"]["comparison"]["cost_comparison"]["change"] is None
    assert made["deployment"]["canary_health"]["status"] == "unknown"


def test_significance_is_the_deciding_metric_s_least_p_value() -> None:
    """The first metric that was compared decides; over several groups the smallest counts."""
    one = experiment()
    comparison = one["metrics"]["accuracy"]["comparisons"][0]
    one["metrics"]["accuracy"]["comparisons"] = [{**comparison, "p_value": p} for p in (0.2, 0.04)]
    found = document(facts(experiments=[one]))["experiments"][0]
    assert found["statistical_significance"] == {"metric": "accuracy", "p_value": 0.04, "significant": True}
    assert found["participants"] == 790
    silent = document(facts(experiments=[experiment(metrics={})]))["experiments"][0]
    assert silent["statistical_significance"] is None


def test_trends_count_what_was_raised_hour_by_hour() -> None:
    """By age in whole hours; what is older than a day is out, what was resolved was counted as it came."""
    hours = [0.1, 0.9, 1.5, 23.9, 24.1]
    trends = alert_trends([NOW - 3600 * hour for hour in hours], NOW)
    assert (trends["by_hour"][-1], trends["by_hour"][-2], trends["by_hour"][0]) == (2, 1, 1)
    assert (trends["last_day"], trends["direction"]) == (4, "rising")
    raised = event("alert", evidence={"change": "raised"})
    resolved = event("alert", evidence={"change": "resolved"})
    made = document(facts(history=[raised, resolved, event("reload")]))["alerts"]
    assert made["alert_trends"]["last_hour"] == 1
    assert len(made["recent_alerts"]) == 2


@pytest.mark.parametrize(
    ("changes", "health"),
    [
        ({}, "healthy"),
        ({"status": latched("rollback")}, "unhealthy"),
        ({"recent": {"control": CONTROL, "treatment": ArmFigures()}}, "unknown"),
        ({"recent": {"control": CONTROL, "treatment": replace(TREATMENT, error_rate=0.021)}}, "degraded"),
        ({"status": status(holds=[{"kind": "evidence", "reason": "", "since": AT}])}, "degraded"),
        (
            {"status": status(upstreams={"dspy": {"arms": ["treatment"], "available": False}})},
            "unhealthy",
        ),
    ],
)
def test_canary_health(changes: dict[str, Any], health: str) -> None:
    """Unhealthy where treatment serves nobody, degraded where it is doubted, unknown without traffic."""
    assert document(facts(**changes))["deployment"]["canary_health"]["status"] == health


# --- the one word ---

_HOLD = {"kind": "shared_outage", "reason": "both arms fail", "since": AT}
_DRAIN = {"step": 1, "steps": 5, "operator": "ann", "reason": "slow"}
_TRIAL = {"cap": 50, "reason": "nobody to compare with", "since": AT}
_ALERT = {"type": "error_rate", "severity": "high", "message": "2 %", "arm": "treatment"}
_FAILING = {**status()["gateway"], "task_restarts": {"observe": 7}, "failing_tasks": ["observe"]}
_AWAY = {"seconds": 12.0, "control_healthy": True, "rollback_in": 48.0, "obstacle": None}
_FAULT = {"type": "state_not_durable", "severity": "critical", "message": "disk full"}


@pytest.mark.parametrize(
    ("seen", "condition"),
    [
        (status(), Condition.HEALTHY),
        (status(paused=True, mode="paused"), Condition.PAUSED),
        (status(alerts=[{**_ALERT, "severity": "medium"}]), Condition.HEALTHY),
        (status(alerts=[_ALERT], paused=True), Condition.ALERTING),
        (status(alerts=[_FAULT]), Condition.FAULTY),
        (status(alerts=[_FAULT, _ALERT]), Condition.ALERTING),
        (status(gateway=_FAILING, alerts=[_ALERT]), Condition.FAULTY),
        (status(gateway=_FAILING, holds=[_HOLD]), Condition.HOLDING),
        (status(holds=[_HOLD], alerts=[_ALERT]), Condition.HOLDING),
        (status(trial=_TRIAL, holds=[_HOLD]), Condition.TRIAL),
        (status(drain=_DRAIN, holds=[_HOLD]), Condition.DRAINING),
        (status(treatment_absence=_AWAY, drain=_DRAIN, alerts=[_FAULT]), Condition.TREATMENT_AWAY),
        (status(treatment_absence=_AWAY, workers=[]), Condition.NOT_SERVING),
        ({**latched("emergency"), "treatment_absence": _AWAY}, Condition.EMERGENCY),
        (status(workers=[], drain=_DRAIN), Condition.NOT_SERVING),
        ({**latched("config"), "workers": []}, Condition.SAFE_MODE),
        (latched("corrupt"), Condition.SAFE_MODE),
        (latched("rollback"), Condition.ROLLED_BACK),
        (latched("emergency"), Condition.EMERGENCY),
    ],
)
def test_the_worst_condition_is_the_one_that_shows(seen: dict[str, Any], condition: Condition) -> None:
    """Whatever else is the case, the latch comes first, and calm words come last."""
    assert see(seen).condition is condition


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "gone for 12\u202fs; rolled back in 48\u202fs unless it comes back"),
        ({"seconds": 70.0, "rollback_in": 0.0}, "gone for 1\u202fmin 10\u202fs; rolled back in 0"),
        ({"rollback_in": None, "obstacle": "control fails"}, "not rolled back, for control fails"),
        ({"control_healthy": False}, "control is not healthy either"),
    ],
)
def test_of_a_treatment_that_is_away_the_banner_says_what_becomes_of_it(
    changes: dict[str, Any], told: str
) -> None:
    """As the command does: nobody is to find out by the rollback."""
    made = document(facts(status=status(treatment_absence=_AWAY | changes)))
    state = made["state"]
    assert told in f"{state['meaning']} {state['reason']}"
    assert made["deployment"]["treatment_absence"] == _AWAY | changes
    assert made["deployment"]["canary_health"]["status"] == "unhealthy"


def test_alerts_that_are_all_calm_ask_for_nothing() -> None:
    """They stand until it has been better for long enough; one that is not calm is looked at."""
    calm = {**_ALERT, "calm_since": AT}
    assert "better now" in see(status(alerts=[calm])).meaning
    assert "look at the alerts" in see(status(alerts=[calm, _ALERT])).meaning


def test_no_condition_is_told_by_colour_alone() -> None:
    """Every condition has a word of its own; only one of them is good."""
    assert len({condition.word for condition in Condition}) == len(Condition)
    assert [one for one in Condition if one.tone is Tone.GOOD] == [Condition.HEALTHY]


def test_the_state_says_who_why_and_since_when() -> None:
    """Of an emergency that is what everybody asks."""
    state = document(facts(status=latched("emergency", "smoke")))["state"]
    assert (state["reason"], state["operator"], state["since"]) == ("smoke", "ann", AT)
