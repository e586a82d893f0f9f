"""Whole experiments, looked at constantly: a true lift is found, none is made up, a broken split is said.

Made users through the control process's own intake, store and results; the statistics themselves are
tested in `tests.results`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.split import Table
from tests.support.control import Client, Gateway, make_gateway
from tests.support.experiments import Visit, experiment_config, halves, serving, shown, visit

pytestmark = pytest.mark.socket

ROUNDS, A_ROUND = 20, 250
"""Looks at an experiment, and new users between two of them."""

Answer = Callable[[random.Random, str], float]
"""An accuracy, drawn for a user of a group."""


def groups_of(gateway: Gateway, names: Iterable[str]) -> dict[str, str]:
    """Each user's group, as the workers decide it."""
    table = Table(gateway.link.current)
    route = table.routes[0]
    decided = {name: table.decide(route, False, (True, True), name.encode(), None, b"") for name in names}
    return {name: decision.group for name, decision in decided.items() if decision.group is not None}


async def run(
    client: Client, gateway: Gateway, accuracy: Answer, lost: Callable[[str, int], bool] = lambda *_: False
) -> list[dict[str, Any]]:
    """Users come round after round; everything that was seen in between."""
    chance = random.Random(2026)
    seen = []
    for number in range(ROUNDS):
        names = [f"user-{number}-{n}" for n in range(A_ROUND)]
        visits: list[Visit] = [
            (name, chance.lognormvariate(-1, 0.5), {"accuracy": accuracy(chance, group)})
            for n, (name, group) in enumerate(groups_of(gateway, names).items())
            if not lost(group, n)
        ]
        visit(gateway, visits)
        room = client.controller._parts.experiments
        room._participants.take_in()
        room.findings.look()
        seen.append(await shown(client))
    return seen


EXPERIMENT = halves(minimum_sample_size=200, success_metrics=["accuracy", "response_time"])


async def test_a_true_lift_is_started_looked_at_and_concluded(tmp_path: Path) -> None:
    """It ends in `ship`, once and for all looks after it; the winner then serves everybody."""
    gateway = make_gateway(tmp_path, experiment_config(exp={**EXPERIMENT, "enabled": False}))
    async with serving(gateway) as client:
        assert (await shown(client))["status"] == "draft"
        await client.ask("POST", "/api/v1/experiments/exp/start")
        seen = await run(
            client,
            gateway,
            lambda chance, group: min(1.0, chance.random() * 0.5 + (group == "treatment") * 0.08 + 0.3),
        )
        first, last = seen[0], seen[-1]
        assert first["metrics"]["accuracy"]["comparisons"] == []  # below the minimum nothing is shown
        assert (last["verdict"], last["recommended"]) == ("ship", "treatment")
        verdicts = [document["verdict"] for document in seen]
        assert verdicts == sorted(verdicts, key=["continue", "ship"].index)
        (comparison,) = last["metrics"]["accuracy"]["comparisons"]
        low, high = comparison["interval"]
        assert 0 < low < 0.08 < high
        _, done = await client.ask("POST", "/api/v1/experiments/exp/conclude", winner=last["recommended"])
        assert done["status"] == "concluded"
        names = [f"later-{n}" for n in range(50)]
        assert set(groups_of(gateway, names).values()) == {"treatment"}


async def test_without_a_difference_nothing_wins(tmp_path: Path) -> None:
    """Looked at after every batch, an A/A experiment never ships and never stops."""
    gateway = make_gateway(tmp_path, experiment_config(exp=EXPERIMENT))
    async with serving(gateway) as client:
        seen = await run(client, gateway, lambda chance, group: chance.random())
    assert {document["verdict"] for document in seen} == {"continue"}
    assert all(document["sample_ratio"]["ok"] for document in seen)


@pytest.mark.parametrize("group", ["control", "treatment"])
async def test_a_broken_split_is_marked_invalid(tmp_path: Path, group: str) -> None:
    """Whatever the difference looks like: the group that loses users makes every number worthless."""
    gateway = make_gateway(tmp_path, experiment_config(exp=EXPERIMENT))
    async with serving(gateway) as client:
        seen = await run(
            client,
            gateway,
            lambda chance, found: chance.random() * 0.5 + 0.5 * (found == "treatment"),
            lambda found, n: found == group and n % 4 == 0,
        )
        last = seen[-1]
        assert (last["verdict"], last["sample_ratio"]["ok"], last["recommended"]) == ("invalid", False, None)
        assert "contradict their weights" in last["explanation"]
