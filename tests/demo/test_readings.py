"""What the demo reads from the gateway, and what it calls a change."""

import math
from dataclasses import replace

import pytest

from gateway.demo.readings import (
    Latch,
    Metrics,
    Reading,
    Severity,
    Status,
    changes,
    histogram_quantile,
    parse_metrics,
    parse_status,
    split_changed,
)

STATUS = Status(
    phase="canary",
    user_percentage=1.0,
    latch=Latch(),
    workers=(11, 12),
    worker_restarts=0,
    control_restarts=0,
    config_digest="aa",
    config_error="",
)
ENGAGED = Latch(True, "emergency", "too many errors", "ada")
QUIET = Reading(STATUS, Metrics())

EXPOSITION = """\
# TYPE gateway_overhead_seconds histogram
gateway_overhead_seconds_bucket{le="0.0001"} 50
gateway_overhead_seconds_bucket{le="0.0002"} 100
gateway_overhead_seconds_bucket{le="+Inf"} 100
gateway_overhead_seconds_count 100
gateway_overhead_seconds_sum 0.01
# TYPE gateway_upstream_endpoint_healthy gauge
gateway_upstream_endpoint_healthy{upstream="dspy",endpoint="http://127.0.0.1:1"} 0
gateway_upstream_endpoint_healthy{upstream="traditional",endpoint="http://127.0.0.1:2"} 1
"""


def test_a_status_document_is_read_by_its_contract_keys() -> None:
    """Null and absent are the same: not said."""
    document = {
        "phase": "canary",
        "user_percentage": 1.0,
        "latch": {"engaged": True, "kind": "emergency", "reason": "too many errors", "operator": "ada"},
        "workers": [{"pid": 11}, {"pid": 12}],
        "config": {"digest": "aa", "error": None},
    }
    assert parse_status(document) == replace(STATUS, latch=ENGAGED)
    assert parse_status({"latch": {"engaged": False, "kind": None}}).latch == Latch()


def test_metrics_are_read_from_the_prometheus_text() -> None:
    """The gateway's own share of a request, and who is unhealthy."""
    metrics = parse_metrics(EXPOSITION)
    assert metrics.overhead_p50 == pytest.approx(0.0001)
    assert metrics.overhead_p99 == pytest.approx(0.000198)
    assert metrics.unhealthy_endpoints == ("dspy",)
    assert math.isnan(parse_metrics("").overhead_p50)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    """As Prometheus has it: the open bucket has no upper end to interpolate to."""
    assert histogram_quantile({0.1: 1.0, math.inf: 10.0}, 0.99) == 0.1


@pytest.mark.parametrize(
    ("after", "text", "severity"),
    [
        (replace(STATUS, latch=ENGAGED), "latch engaged (emergency): too many errors", Severity.BAD),
        (replace(STATUS, phase="limited_production"), "phase canary -> limited_production", Severity.INFO),
        (replace(STATUS, user_percentage=2.5), "users enrolled 1 % -> 2.5 %", Severity.INFO),
        (replace(STATUS, config_digest="bb"), "config reloaded", Severity.GOOD),
        (replace(STATUS, config_error="line 3"), "config refused: line 3", Severity.BAD),
        (replace(STATUS, worker_restarts=1), "1 worker replaced", Severity.BAD),
        (replace(STATUS, worker_restarts=2), "2 workers replaced", Severity.BAD),
        (replace(STATUS, control_restarts=1), "control process replaced", Severity.BAD),
        (None, "control process does not answer; traffic goes on", Severity.BAD),
    ],
)
def test_every_change_is_told_once_in_words(after: Status | None, text: str, severity: Severity) -> None:
    """From the one reading to the other there is this change and no other."""
    found = list(changes(QUIET, Reading(after, Metrics())))
    assert [(change.text, change.severity) for change in found] == [(text, severity)]


def test_what_ended_is_told_too() -> None:
    """A release, an endpoint's recovery, a control process that is back."""
    bad = Reading(replace(STATUS, latch=ENGAGED), Metrics(unhealthy_endpoints=("dspy",)))
    assert [change.text for change in changes(bad, QUIET)] == ["latch released", "dspy is healthy again"]
    assert [change.text for change in changes(Reading(None, Metrics()), QUIET)] == ["control process answers"]
    assert list(changes(QUIET, QUIET)) == []


def test_the_split_changes_with_latch_phase_percentage_and_config() -> None:
    """A worker's restart or a silent control process moves nobody."""
    for after in (
        replace(STATUS, latch=ENGAGED),
        replace(STATUS, phase="staging"),
        replace(STATUS, user_percentage=2.0),
        replace(STATUS, config_digest="bb"),
    ):
        assert split_changed(QUIET, Reading(after, Metrics()))
    assert not split_changed(QUIET, Reading(replace(STATUS, worker_restarts=3), Metrics()))
    assert not split_changed(QUIET, Reading(None, Metrics()))
