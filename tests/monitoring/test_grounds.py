"""The numbers that alerts of holds state."""

from __future__ import annotations

import pytest

from gateway.control.monitoring.grounds import grounds
from gateway.core.evidence.assessment import Verdict
from gateway.model.alerts import Grounds
from gateway.model.rollout import Cause, HoldKind, Rollback
from tests.support.monitoring import Served, Stage, Watch

NONE = Grounds()
CONTROL = Served(good=180)
BROKEN = Served(bad=20)


def canary(rollback: str = "") -> str:
    """A config that begins in canary with a tenth of the users on treatment."""
    phases = "{canary: {user_percentage: 10, rollback_threshold: {error_rate: 0.02}}}"
    return f"deployment: {{initial_phase: canary, phases: {phases}, rollback: {{{rollback}}}}}\n"


def stated(watch: Watch, kind: HoldKind) -> Grounds:
    """The numbers of a hold now."""
    return grounds(kind, watch.room.desk.state, watch.monitor, watch.stage.scene.now)


async def test_a_rollback_that_waits_states_failures_limit_requests_and_time(stage: Stage) -> None:
    """As they are now: forty of a hundred and forty, in seven seconds."""
    stage.scene.text = canary("manual_approval_required: true")
    async with stage.control() as watch:
        await watch.seconds(5, Served(good=20), CONTROL)
        await watch.seconds(2, BROKEN, CONTROL)
        assert "pending_rollback" in watch.holds
        assert stated(watch, HoldKind.PENDING_ROLLBACK) == Grounds(40 / 140, 0.02, 140, 7.0)


async def test_an_outage_of_both_arms_states_what_treatment_does(stage: Stage) -> None:
    """Though the evidence against it is small, for control does no better."""
    stage.scene.text = canary()
    async with stage.control() as watch:
        await watch.seconds(60, BROKEN, Served(bad=180))
        assert "shared_outage" in watch.holds
        assert stated(watch, HoldKind.SHARED_OUTAGE) == Grounds(1.0, 0.02, 1200, 60.0)


async def test_without_a_limit_of_that_sort_the_evidence_is_stated(stage: Stage) -> None:
    """And what it takes: a treatment that refuses what control takes."""
    stage.scene.text = canary("manual_approval_required: true")
    async with stage.control() as watch:
        await watch.seconds(60, Served(refused=20), CONTROL)
        found = stated(watch, HoldKind.PENDING_ROLLBACK)
        assert watch.monitor.assessment is not None
        assert watch.monitor.assessment.verdict is Verdict.ROLL_BACK
        assert found.value is not None
        assert found.value >= 1000.0 == found.threshold
        assert (found.samples, found.window) == (1200, 60.0)


@pytest.mark.parametrize("cause", [Cause.ALERT, Cause.THRESHOLD])
async def test_what_rests_on_no_evidence_states_none(stage: Stage, cause: Cause) -> None:
    """An alert of somebody else's has numbers of its own, and so has a wrong sample ratio."""
    stage.scene.text = canary("manual_approval_required: true")
    async with stage.control() as watch:
        assert stated(watch, HoldKind.SHARED_OUTAGE) == NONE  # before the first look
        await watch.second(Served(good=20), CONTROL)
        await watch.room.desk.apply(Rollback(operator="gateway", reason="it pages", cause=cause))
        assert watch.holds == ["pending_rollback"]
        assert {stated(watch, kind) for kind in HoldKind if kind is not HoldKind.SHARED_OUTAGE} == {NONE}
