"""What a forecast goes by: how often heads are looked at, and how much traffic there will be to judge."""

from __future__ import annotations

import pytest

from gateway.control.monitoring.forecast import Exposed, forecasts, in_words
from gateway.control.monitoring.traffic import Traffic
from gateway.core.folding import Tick
from gateway.model.deployment import Deployment
from gateway.model.safety import Monitoring, Unit
from gateway.model.ticks import Counts, Series


@pytest.mark.parametrize(("interval", "seconds"), [("1s", 0.25), ("4s", 1.0), ("100ms", 0.1)])
def test_with_much_traffic_a_broken_treatment_is_found_at_the_next_look(
    interval: str, seconds: float
) -> None:
    """Heads are looked at by quarters of a tick: nothing is found sooner, and all until then fails."""
    deployment = Deployment(monitoring=Monitoring.model_validate({"interval": interval}))
    everything, *_ = forecasts(0.02, deployment, Exposed(10_000.0, 0.1))
    assert everything.seconds == pytest.approx(seconds)
    assert everything.requests == pytest.approx(seconds * 1000)


def tick(second: int, firsts: int, others: int = 0) -> Tick:
    """A second in which so many users came for the first time in ten minutes, and so many others."""
    counts = {
        Series(1, "default", "treatment", "", "", first): Counts(started=number)
        for first, number in ((True, firsts), (False, others))
    }
    return Tick(second * 1000, counts)


def test_users_who_are_all_new_are_no_measure_of_what_is_to_come() -> None:
    """200 users who come again and again are marked within seconds; a third of a mark a second is left."""
    traffic = Traffic()
    traffic.add([tick(second, 50, 10) for second in range(4)], Unit.USER)
    traffic.add([tick(second, int(second % 3 == 0), 60) for second in range(4, 25)], Unit.USER)
    assert traffic.rate() == pytest.approx(1 / 3, abs=0.1)
    assert not traffic.lasting
    traffic.add([tick(second, int(second % 3 == 0), 60) for second in range(25, 602)], Unit.USER)
    assert traffic.rate() == pytest.approx(1 / 3, abs=0.01)
    assert traffic.lasting


def test_where_every_request_counts_the_rate_lasts_at_once() -> None:
    """There is nobody to be known."""
    traffic = Traffic()
    traffic.add([tick(second, 1, 59) for second in range(10)], Unit.REQUEST)
    assert (traffic.rate(), traffic.lasting) == (60.0, True)


def test_traffic_of_long_ago_does_not_count() -> None:
    """The last minutes only, also where nothing came in between."""
    traffic = Traffic(seconds=60)
    traffic.add([tick(second, 10) for second in range(300)], Unit.USER)
    traffic.add([tick(second, 2) for second in range(1000, 1061)], Unit.USER)
    assert traffic.rate() == 2.0


def test_a_rate_that_may_not_last_is_told_as_a_lower_bound() -> None:
    """People plan by these words."""
    found = forecasts(0.02, Deployment(), Exposed(1.0, 0.2))
    (lasting, *_), (passing, *_) = (in_words(found, Exposed(1.0, 0.2, lasts)) for lasts in (True, False))
    assert passing == lasting.replace("treatment, ", "treatment, at least ")
