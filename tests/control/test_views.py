"""The status page's figures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.control.alerting.watch import view as alert_view
from gateway.control.ledger import add_up
from gateway.control.views import arms, faults, latch, latency, quantile, timestamp
from gateway.latch import DISENGAGED, LatchKind, LatchState
from gateway.model.alerts import Alert, Severity
from gateway.model.observation import LATENCY_BOUNDS, Outcome
from tests.support.control import histogram, make_counts, make_observation


def test_timestamps_are_rfc_3339_in_utc() -> None:
    """To the millisecond, and readable by Python's own parser."""
    assert timestamp(1_700_000_000.1234) == "2023-11-14T22:13:20.123Z"
    assert datetime.fromisoformat(timestamp(0.0)) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_counts_as_a_failure_of_an_arm(outcome: Outcome) -> None:
    """A client that left and a request that we refused say nothing about an arm."""
    requests = ((200, "ok", 3), (500, outcome.label, 1))
    arm = arms(add_up([make_observation("a", 1, make_counts("treatment", requests))]), ())["treatment"]
    match outcome:
        case Outcome.OK:
            assert arm["error_rate"] == 0
        case Outcome.CLIENT_CLOSED | Outcome.REJECTED:
            assert (arm["failures"], arm["error_rate"]) == (0, 0)
        case _:
            assert (arm["failures"], arm["error_rate"]) == (1, 0.25)
    assert arm["requests"] == 4


def test_an_arm_without_traffic_has_no_rates() -> None:
    """No data is not zero."""
    arm = arms(add_up([]), ())["control"]
    assert arm["requests"] == 0
    assert arm["error_rate"] is None
    assert arm["latency"] == {"mean": None, "p50": None, "p90": None, "p99": None}


def test_arms_are_sums_over_routes() -> None:
    """Both routes' requests and times count, for their arm only."""
    observation = make_observation(
        "a",
        1,
        make_counts("treatment", ((200, "ok", 2),), (0.02, 0.02), route="one"),
        make_counts("treatment", ((200, "ok", 1),), (0.05,), route="two"),
        make_counts("control", ((200, "ok", 9),), (9.0,), route="two"),
    )
    arm = arms(add_up([observation]), (observation,))["treatment"]
    assert arm["requests"] == 3
    assert arm["latency"]["mean"] == pytest.approx(0.03)
    assert arm["inflight"] == 1


def test_what_no_route_took_is_nobodys_traffic() -> None:
    """Heads that were refused before they had a route are counted, but not against an arm."""
    observation = make_observation("a", 1, make_counts("control", ((400, "rejected", 5),), route=""))
    assert arms(add_up([observation]), ())["control"]["requests"] == 0


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ((0.0075,), 0.5, 0.0075),
        ((0.006, 0.007, 0.008, 0.009), 1.0, 0.01),
        ((0.001,) * 99 + (200.0,), 0.99, 0.005),
        ((200.0,), 0.5, LATENCY_BOUNDS[-1]),
        ((), 0.5, None),
    ],
)
def test_quantiles_are_read_off_the_buckets(
    values: tuple[float, ...], share: float, expected: float | None
) -> None:
    """Straight lines within a bucket; beyond the last bound, the last bound."""
    assert quantile(histogram(LATENCY_BOUNDS, *values), share) == (
        None if expected is None else pytest.approx(expected)
    )


def test_quantiles_never_fall() -> None:
    """p50 <= p90 <= p99, whatever the distribution."""
    shown = latency(histogram(LATENCY_BOUNDS, *(0.001 * 1.2**n for n in range(60))))
    assert shown["p50"] <= shown["p90"] <= shown["p99"]


def test_the_latch_s_words_are_shown_only_while_it_is_engaged() -> None:
    """A released latch keeps its number and nothing else."""
    engaged = LatchState(3, 2, LatchKind.ROLLBACK, "errors", "ann", 0.0)
    assert latch(engaged, durable=False) == {
        "engaged": True,
        "number": 3,
        "kind": "rollback",
        "reason": "errors",
        "operator": "ann",
        "since": "1970-01-01T00:00:00.000Z",
        "durable": False,
    }
    assert set(latch(DISENGAGED, durable=True).values()) == {False, True, None}


def test_faults_have_the_shape_of_alerts() -> None:
    """Whoever reads `status` need not ask which of the two an entry is."""
    (fault,) = faults({"no_worker": "no worker is running"})
    alert = Alert("no_worker", "", Severity.CRITICAL, Severity.CRITICAL, "no worker is running", 0.0)
    assert fault == alert_view(alert) | {"since": None}
