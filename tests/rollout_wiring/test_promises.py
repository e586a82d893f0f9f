"""What a rollout promises: users stay, missing data promotes nobody, nothing comes back by itself."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.core.gates import due_looks
from gateway.core.judging import judge
from gateway.core.rollout import automatic_advance
from gateway.core.split import Table
from gateway.model.gates import Evidence, MetricsThreshold, OnNoData, Proportion, Sample, Threshold
from gateway.model.rollout import Cause, Judge, Rollback
from gateway.model.snapshot import Arm, Snapshot
from tests.support.control import CONFIG, Client, Gateway, make_gateway, replace_file
from tests.support.polling import soon
from tests.support.rollouts import ERROR_LIMIT, Drive, make_rules
from tests.support.wiring import Scene

API = "/api/v1"
USERS = [f"user-{number}".encode() for number in range(10_000)]
EXPERIMENT = """\
  experiments:
    duel:
      groups:
        control: {weight: 40, configuration: {dspy_enabled: false}}
        treatment: {weight: 60, configuration: {dspy_enabled: true}}
      success_metrics: [accuracy]
"""

# --- a user stays in one arm ----------------------------------------------------------------------------


class Witness:
    """Ten thousand users, and what each of them has met since canary."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._groups: list[str | None] = [None] * len(USERS)
        self._enrolled_at: list[float] = [math.inf] * len(USERS)
        self._turned_away_at: list[float] = [-1.0] * len(USERS)
        self.arms: list[Arm] = []

    def look(self) -> float:
        """Decide for everybody by the newest snapshot; the share that is enrolled, in percent.

        Raises AssertionError for a user who changed group, or whose place is not what enrolment alone says:
        in at every share above the least one that had them in, out at every share below the greatest that
        had not.
        """
        snapshot: Snapshot = self._gateway.link.current
        table, percentage = Table(snapshot), snapshot.user_percentage
        engaged = self._gateway.page.engaged
        self.arms = []
        for number, user in enumerate(USERS):
            decision = table.decide(table.routes[0], engaged, (True, True), user, None, b"")
            self.arms.append(decision.arm)
            if engaged:
                assert decision.arm is Arm.CONTROL
                continue
            if decision.group is None:
                self._turned_away_at[number] = max(self._turned_away_at[number], percentage)
            else:
                assert self._groups[number] in (None, decision.group)
                self._groups[number] = decision.group
                self._enrolled_at[number] = min(self._enrolled_at[number], percentage)
            assert self._turned_away_at[number] < self._enrolled_at[number]
            assert (decision.arm is Arm.TREATMENT) == (decision.group == "treatment")
        return percentage


async def told(client: Client, path: str, **body: Any) -> None:
    status, answer = await client.ask("POST", API + path, operator="ann", reason="test", **body)
    assert status == 200, answer


@pytest.mark.socket
async def test_from_canary_on_no_arm_flips_but_for_latch_rollback_and_enrolment(tmp_path: Path) -> None:
    """Ten thousand users, every snapshot of a story: steps up, a reload, restarts, a drain, an emergency."""
    text = CONFIG.replace("control: traditional", "experiment: duel, control: traditional") + EXPERIMENT
    drained = text + "  rollback: {drain: {steps: 2, over: 1s}}\n"
    gateway = make_gateway(tmp_path, drained)
    witness = Witness(gateway)
    shares: list[float] = []

    def look() -> list[Arm]:
        shares.append(witness.look())
        return witness.arms

    async with gateway.control() as client:
        await client.status()
        canary = look()
        await told(client, "/rollout/advance")
        limited = look()
        replace_file(gateway.config, drained.replace("user_percentage: 1}", "user_percentage: 2}"))
        client.controller.request_reload()
        digest = gateway.link.current.digest
        await soon(lambda: gateway.link.current.digest != digest)
    async with gateway.control() as client:
        await client.status()
        assert look() == limited
        await told(client, "/rollout/advance")
        everybody = look()
        await told(client, "/emergency")
        assert set(look()) == {Arm.CONTROL}
        await told(client, "/release")
        assert look() == limited
    async with gateway.control() as client:
        await client.status()
        assert look() == limited
        await told(client, "/rollout/rollback", graceful=True)
        while not gateway.page.engaged:
            look()
            await client.status()
        assert set(look()) == {Arm.CONTROL}
        await told(client, "/release", percentage=1)
        assert look() == canary
        await told(client, "/release", percentage=100)
        await told(client, "/rollout/advance", force=True)
        await told(client, "/rollout/advance", force=True)
        assert look() == everybody
    assert {0, 1, 10, 100} < set(shares)
    assert everybody.count(Arm.TREATMENT) == pytest.approx(6000, abs=200)


# --- fault 40: missing data promotes nobody -------------------------------------------------------------

GATE = MetricsThreshold(
    "canary.limited_production.metrics_threshold",
    (Threshold("error_rate", ERROR_LIMIT), Threshold("accuracy", ERROR_LIMIT)),
    120.0,
    300,
    OnNoData.HOLD,
    0.95,
)


def gather(draw: random.Random) -> tuple[Evidence, bool]:
    """Something of what should have come, and whether it was all of it."""
    good: dict[str, Sample] = {"error_rate": Proportion(5000, 1), "accuracy": Proportion(5000, 1)}
    match draw.randrange(6):
        case 0:
            return Evidence(5000, good), True
        case 1:
            return Evidence(0, {}), False
        case 2:
            return Evidence(5000, {}), False
        case 3:  # one metric has no source
            missing = draw.choice(list(good))
            return Evidence(5000, {name: good[name] for name in good if name != missing}), False
        case 4:  # a source that answers with nothing
            return Evidence(5000, good | {draw.choice(list(good)): Proportion(0, 0)}), False
        case _:  # hardly anything of it came
            few = draw.randrange(1, 300)
            return Evidence(few, dict.fromkeys(good, Proportion(few, 0))), False


def looks_until_promoted(draw: random.Random) -> Sequence[bool]:
    """Automatic canary until it advances, at most 20 looks; of each look, whether all data was there."""
    drive = Drive(make_rules(gates={"canary": (GATE,)}, automatic=("canary",))).go_to("canary")
    complete: list[bool] = []
    for _ in range(20):
        drive.serve(60)
        for look in due_looks(drive.state, drive.rules):
            evidence, whole = gather(draw)
            complete.append(whole)
            state = drive.state
            judgement = judge(
                look.gate, look.number, evidence, epoch=state.epoch, window=state.clocks.window, at=drive.now
            )
            drive.apply(Judge(operator="gateway", judgement=judgement))
        advance = automatic_advance(drive.state, drive.rules, drive.now)
        if advance is not None:
            drive.apply(advance)
            assert drive.state.phase == "limited_production"
            return complete
    return [*complete, False]


@pytest.mark.slow
def test_of_a_thousand_runs_none_is_promoted_on_missing_data() -> None:
    """Each promotion follows a look that had everything; those that never had one stay where they are."""
    draw = random.Random(40)
    runs = [looks_until_promoted(draw) for _ in range(1000)]
    promoted = [run for run in runs if run[-1]]
    assert all(not any(run[:-1]) for run in promoted)
    assert len(promoted) > 900
    assert all(not any(run) for run in runs if not run[-1])


# --- fault 41: good metrics after a rollback ------------------------------------------------------------

BY_ITSELF = """\
deployment:
  initial_phase: canary
  phases:
    canary: {advance: automatic, duration: 1h, success_criteria: {error_rate: < 0.01}}
    limited_production: {advance: automatic, duration: 1h, success_criteria: {error_rate: < 0.01}}
    full_production: {user_percentage: 100}
"""
GOOD = Evidence(5000, {"error_rate": Proportion(5000, 1)})


@pytest.mark.slow
async def test_after_a_rollback_good_metrics_bring_nobody_back(tmp_path: Path) -> None:
    """Good hours and a restart: latched still. Released, what failed is not entered again by itself."""
    scene = Scene(tmp_path, BY_ITSELF)
    scene.measured.found = GOOD
    async with scene.control() as room:
        await room.serve(1.5 * 3600)
        assert room.desk.state.phase == "limited_production"
        await room.desk.apply(Rollback(operator="gateway", reason="errors", cause=Cause.EVIDENCE))
        await room.serve(3 * 3600)
    async with scene.control(with_kept=False) as room:
        await room.serve(3 * 3600)
        assert (scene.page.engaged, scene.share, room.desk.state.phase) == (True, 0, "canary")
        await room.release()
        await room.serve(3 * 3600)
        assert (room.desk.state.phase, scene.share) == ("canary", 1)
