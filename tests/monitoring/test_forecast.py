"""What a forecast takes from the config: how often heads are looked at."""

from __future__ import annotations

import pytest

from gateway.control.monitoring.forecast import Exposed, forecasts
from gateway.model.deployment import Deployment
from gateway.model.safety import Monitoring


@pytest.mark.parametrize(("interval", "seconds"), [("1s", 0.25), ("4s", 1.0), ("100ms", 0.1)])
def test_with_much_traffic_a_broken_treatment_is_found_at_the_next_look(
    interval: str, seconds: float
) -> None:
    """Heads are looked at by quarters of a tick: nothing is found sooner, and all until then fails."""
    deployment = Deployment(monitoring=Monitoring.model_validate({"interval": interval}))
    everything, *_ = forecasts(0.02, deployment, Exposed(10_000.0, 0.1))
    assert everything.seconds == pytest.approx(seconds)
    assert everything.requests == pytest.approx(seconds * 1000)
