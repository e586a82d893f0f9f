"""Treatment's share of the users that are compared, as the workers split them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.evidence.exposure import treatment_shares
from gateway.core.split import Table
from gateway.model.snapshot import Arm
from tests.support.deciding import decide
from tests.support.snapshots import make_snapshot

USERS = 4000


@pytest.mark.parametrize("percentage", [0, 1, 50, 100])
def test_the_share_is_what_the_split_gives(percentage: int) -> None:
    """Percentage times weight of treatment's groups, counted over users."""
    snapshot = make_snapshot(percentage)
    table = Table(snapshot)
    treated = sum(decide(table, f"user-{number}").assigned is Arm.TREATMENT for number in range(USERS))
    share = treatment_shares(snapshot)[snapshot.routes[0].name]
    assert treated / USERS == pytest.approx(share, abs=0.03)


def test_without_an_experiment_everybody_enrolled_is_on_treatment() -> None:
    """Nobody, on a route that has one upstream for both arms."""
    snapshot = make_snapshot(20)
    route = replace(snapshot.routes[0], name="plain", experiment=None)
    alone = replace(route, name="alone", treatment=route.control)
    shares = treatment_shares(replace(snapshot, routes=(route, alone)))
    assert shares == {"plain": pytest.approx(0.2), "alone": 0.0}
