"""Which limits roll back: the strictest of what is written, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.limits import rollback_limits, watches_system_failure
from gateway.model.deployment import Deployment
from gateway.model.metrics import Metric
from tests.support.configs import complete, load_text


def deployment(folder: Path, text: str) -> Deployment:
    """The key `deployment` of a config."""
    return load_text(folder, complete(text)).config.deployment


@pytest.mark.parametrize(
    ("phase", "errors", "slowdown"),
    [
        ("development", 0.02, 0.3),
        ("staging", 0.02, 0.2),
        ("canary", 0.02, 0.15),
        ("limited_production", 0.01, 0.1),
        ("full_production", 0.005, 0.05),
    ],
)
def test_the_mission_s_limits(tmp_path: Path, phase: str, errors: float, slowdown: float) -> None:
    """The smallest of the phase's threshold and the triggers, phase by phase."""
    limits = rollback_limits(deployment(tmp_path, ""), phase)
    assert {metric: limit.value for metric, limit in limits.items()} == {
        Metric.ERROR_RATE: errors,
        Metric.PERFORMANCE_DEGRADATION: slowdown,
    }


def test_each_limit_says_where_it_is_written(tmp_path: Path) -> None:
    """So that a person knows which line to change."""
    limits = rollback_limits(deployment(tmp_path, ""), "staging")
    assert limits[Metric.ERROR_RATE].source == "rollback.automatic_triggers: error_rate > 0.02"
    slowdown = limits[Metric.PERFORMANCE_DEGRADATION]
    assert slowdown.source == "phases.staging.rollback_threshold.performance_degradation"


def test_of_ratings_the_highest_limit_is_the_strictest(tmp_path: Path) -> None:
    """They may not fall below it."""
    text = """\
deployment:
  phases: {canary: {rollback_threshold: {user_satisfaction: 0.8}}}
  rollback: {automatic_triggers: [user_satisfaction < 0.9]}
"""
    limits = rollback_limits(deployment(tmp_path, text), "canary")
    assert limits[Metric.USER_SATISFACTION].value == 0.9


def test_what_is_not_written_is_no_limit(tmp_path: Path) -> None:
    """Neither in the phase nor as a trigger."""
    text = """\
deployment:
  phases: {canary: {rollback_threshold: {error_rate: null, performance_degradation: null}}}
  rollback: {automatic_triggers: []}
"""
    written = deployment(tmp_path, text)
    assert rollback_limits(written, "canary") == {}
    assert not watches_system_failure(written)
    assert watches_system_failure(deployment(tmp_path, ""))
