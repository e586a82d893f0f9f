"""What moves by itself: clocks, looks, tests, drains and automatic advances, on a turned clock."""

from __future__ import annotations

import asyncio
import sys

import pytest

from gateway.control.rollout.desk import Refused
from gateway.core.gates import evaluate
from gateway.latch import LatchKind
from gateway.model.gates import Evidence, Proportion, Verdict
from gateway.model.rollout import (
    Advance,
    Approve,
    Authority,
    BeginDrain,
    Emergency,
    Mode,
    Pause,
    RefusalCode,
    Reject,
    Resume,
    Retest,
    Rollback,
)
from tests.support.polling import OF_TASKS, soon
from tests.support.wiring import ANN, BEN, Room, Scene

HOUR = 3600.0
LADDER = """\
deployment:
  initial_phase: canary
  phases:
    canary: {duration: 1h, success_criteria: {error_rate: < 0.01}}
"""
AUTOMATIC = LADDER.replace("{duration", "{advance: automatic, duration")
APPROVED = """\
deployment:
  initial_phase: staging
  gates:
    staging -> canary:
      - {type: manual_approval, approvals: 1, expires: 1h}
"""
DRAIN = "deployment: {initial_phase: full_production, rollback: {drain: {steps: 4, over: 40s}}}"
GOOD = Evidence(5000, {"error_rate": Proportion(5000, 5)})
BAD = Evidence(5000, {"error_rate": Proportion(5000, 500)})
APPROVAL = "staging.canary.manual_approval"


def with_test(script: str, timeout: str = "10s") -> str:
    """Two tests before canary, the first of them a Python script."""
    command = [sys.executable, "-c", script]
    return f"""\
deployment:
  initial_phase: staging
  gates:
    staging -> canary:
      - {{type: automated_test, command: {command!r}, timeout: {timeout}}}
"""


async def until(room: Room, verdict: Verdict) -> None:
    """Ticks until the first gate says so; the clock of the test stands still meanwhile."""

    async def look() -> bool:
        await room.pace.tick(0.0)
        return room.verdicts[0] is verdict

    await soon(look, patience=10)


# --- clocks -------------------------------------------------------------------------------------------


async def test_a_time_gate_adds_up_healthy_service_over_restarts(scene: Scene) -> None:
    """Downtime, an unhealthy treatment and a pause do not count."""
    scene.text = LADDER
    async with scene.control() as room:
        await room.serve(HOUR / 2)
        scene.treatment_healthy = False
        await room.serve(HOUR)
        scene.treatment_healthy = True
        await room.desk.apply(Pause(operator=ANN))
        await room.serve(HOUR)
        await room.desk.apply(Resume(operator=ANN))
    scene.now += 7 * HOUR
    async with scene.control(with_kept=False) as room:
        assert room.verdicts[0] is Verdict.PENDING
        await room.serve(HOUR / 2)
        assert room.verdicts[0] is Verdict.PASS


async def test_a_killed_process_loses_ten_seconds_of_service_at_most(scene: Scene) -> None:
    """The clocks are written as they go, not at the end."""
    async with scene.control() as room:
        await room.serve(95.0, tick=1.0)
        kept = scene.kept[-1]
    scene.kept = [kept]
    async with scene.control() as room:
        assert room.desk.state.clocks.service >= 85.0


# --- metrics ------------------------------------------------------------------------------------------


async def test_metrics_are_judged_at_the_window_s_end_and_what_follows(scene: Scene) -> None:
    """Fail at the first look, pass at the second, half a window later; both are in the history."""
    scene.text, scene.measured.found = LADDER, BAD
    async with scene.control() as room:
        await room.serve(HOUR - 60)
        assert room.verdicts == [Verdict.PENDING, Verdict.PENDING]
        await room.serve(60)
        assert room.verdicts == [Verdict.PASS, Verdict.FAIL]
        with pytest.raises(Refused) as refused:
            await room.desk.apply(Advance(operator=ANN))
        assert [gate.verdict for gate in refused.value.refusal.gates] == [Verdict.PASS, Verdict.FAIL]
        scene.measured.found = GOOD
        await room.serve(HOUR / 2 - 60)
        assert room.verdicts[1] is Verdict.FAIL
        await room.serve(60)
        assert room.verdicts[1] is Verdict.PASS
        assert [kind for kind in room.types if kind == "gate"] == ["gate", "gate"]


async def test_without_data_a_gate_is_inconclusive_and_holds(scene: Scene) -> None:
    """No data is not success; the history says so once, however often it is looked, and after a restart."""
    scene.text = AUTOMATIC
    async with scene.control() as room:
        await room.serve(3 * HOUR)
        assert room.verdicts == [Verdict.PASS, Verdict.INCONCLUSIVE]
        assert room.desk.state.phase == "canary"
        assert room.types.count("gate") == 1
    async with scene.control(with_kept=False) as room:
        (judgement,) = room.desk.state.judgements
        assert judgement.look == 5
        await room.serve(HOUR)
        assert room.types.count("gate") == 1


async def test_a_judgement_survives_a_restart(scene: Scene) -> None:
    """Nobody looks twice, for each look costs certainty."""
    scene.text, scene.measured.found = LADDER, GOOD
    async with scene.control() as room:
        await room.serve(HOUR)
    async with scene.control(with_kept=False) as room:
        await room.serve(60.0)
        assert room.verdicts == [Verdict.PASS, Verdict.PASS]
        assert room.types == ["gate"]


# --- automatic advance --------------------------------------------------------------------------------


async def test_an_automatic_phase_moves_when_every_gate_passes(scene: Scene) -> None:
    """By the gateway's own hand, and no further than its own gates allow."""
    scene.text, scene.measured.found = AUTOMATIC, GOOD
    async with scene.control() as room:
        await room.serve(HOUR)
        assert room.desk.state.phase == "limited_production"
        event = room.history.recent(1)[0]
        assert (event.operator, event.evidence["cause"]) == ("gateway", "automatic")
        assert [gate["verdict"] for gate in event.evidence["gates"]] == ["pass", "pass"]


async def test_after_a_rollback_nothing_moves_by_itself_into_the_phase_that_failed(scene: Scene) -> None:
    """Until a person advances."""
    scene.text = "deployment: {initial_phase: staging, phases: {staging: {advance: automatic}}}"
    async with scene.control() as room:
        await room.serve(60.0)
        assert room.desk.state.phase == "canary"
        await room.desk.apply(Rollback(operator=ANN))
        await room.release()
        await room.serve(HOUR)
        assert room.desk.state.phase == "staging"
        await room.desk.apply(Advance(operator=ANN))
        assert room.desk.state.phase == "canary"


@pytest.mark.parametrize("stop", ["paused", "latched"])
async def test_nothing_moves_by_itself_while_paused_or_latched(scene: Scene, stop: str) -> None:
    """Gates that pass are no reason then."""
    scene.text, scene.measured.found = AUTOMATIC, GOOD
    async with scene.control() as room:
        await room.desk.apply(Pause(operator=ANN) if stop == "paused" else Emergency(operator=ANN))
        phase = room.desk.state.phase
        await room.serve(3 * HOUR)
        assert room.desk.state.phase == phase


# --- approvals ----------------------------------------------------------------------------------------


async def test_an_approval_expires(scene: Scene) -> None:
    """An hour later it has to be asked for again, over a restart too."""
    scene.text = APPROVED
    async with scene.control() as room:
        await room.desk.apply(Approve(operator=ANN, gate=APPROVAL))
        assert room.verdicts == [Verdict.PASS]
    scene.now += 3599.0
    async with scene.control(with_kept=False) as room:
        assert room.verdicts == [Verdict.PASS]
        scene.now += 1.0
        assert room.verdicts == [Verdict.PENDING]
        with pytest.raises(Refused) as refused:
            await room.desk.apply(Advance(operator=ANN))
        assert refused.value.refusal.code is RefusalCode.GATES


async def test_a_rejection_outweighs_an_approval(scene: Scene) -> None:
    """Until the same person approves."""
    scene.text = APPROVED
    async with scene.control() as room:
        await room.desk.apply(Approve(operator=ANN, gate=APPROVAL))
        await room.desk.apply(Reject(operator=BEN, gate=APPROVAL, reason="not on a Friday"))
        assert room.verdicts == [Verdict.FAIL]
        await room.desk.apply(Approve(operator=BEN, gate=APPROVAL))
        assert room.verdicts == [Verdict.PASS]


async def test_a_changed_deployment_voids_an_approval_given_before(scene: Scene) -> None:
    """What was approved was another one."""
    scene.text = APPROVED
    async with scene.control() as room:
        await room.desk.apply(Approve(operator=ANN, gate=APPROVAL))
        await room.desk.reload(scene.load(APPROVED + "  monitoring: {window: 6m}\n"))
        assert room.verdicts == [Verdict.PENDING]
        (gate,) = evaluate(room.desk.state, room.desk.rules, scene.now)
        assert gate.worst.reason == "0 of 1 approvals; void: ann (a reload changed what it was given for)"
        await room.desk.apply(Approve(operator=ANN, gate=APPROVAL))
        assert room.verdicts == [Verdict.PASS]


# --- tests --------------------------------------------------------------------------------------------


@pytest.mark.socket
async def test_an_automated_test_runs_by_itself_and_its_result_stands(scene: Scene) -> None:
    """Its output is in the history; a restart does not run it again."""
    scene.text = with_test("print('all well')")
    async with scene.control() as room:
        await until(room, Verdict.PASS)
        assert room.history.recent(1)[0].evidence["output"] == "all well\n"
    async with scene.control() as room:
        await room.pace.tick(0.0)
        assert (room.verdicts, room.pace.running_tests) == ([Verdict.PASS], frozenset())


@pytest.mark.socket
async def test_a_failed_test_runs_again_when_it_is_asked_for(scene: Scene) -> None:
    """Not by itself: it would run for ever."""
    flag = scene.directory / "fixed"
    scene.text = with_test(f"import os, sys; sys.exit(not os.path.exists({str(flag)!r}))")
    async with scene.control() as room:
        await until(room, Verdict.FAIL)
        flag.touch()
        for _ in range(5):
            await room.pace.tick(0.0)
        assert room.verdicts == [Verdict.FAIL]
        await room.desk.apply(Retest(operator=ANN))
        await until(room, Verdict.PASS)


@pytest.mark.socket
async def test_a_test_is_ended_when_nobody_wants_it_any_more(scene: Scene) -> None:
    """An emergency in the middle: its process is gone, and its result would not count."""
    alive = scene.directory / "alive"
    scene.text = with_test(
        f"import time, pathlib; pathlib.Path({str(alive)!r}).touch(); time.sleep(60)", "5m"
    )
    async with scene.control() as room:

        async def begun() -> bool:
            await room.pace.tick(0.0)
            return alive.exists()

        await soon(begun, patience=10)
        assert room.pace.running_tests == {"staging.canary.automated_test"}
        await room.desk.apply(Emergency(operator=ANN))
        async with asyncio.timeout(OF_TASKS):
            await room.pace.tick(0.0)
        assert room.pace.running_tests == frozenset()


async def test_while_a_test_runs_everything_else_goes_on(scene: Scene) -> None:
    """A tick takes no time though the test does."""
    scene.text = with_test("import time; time.sleep(60)", "5m")
    async with scene.control() as room:
        async with asyncio.timeout(OF_TASKS):
            for _ in range(50):
                await room.pace.tick(1.0)
        assert room.desk.state.clocks.service == 50.0


# --- drains -------------------------------------------------------------------------------------------


async def test_a_graceful_rollback_drains_in_steps_and_ends_latched(scene: Scene) -> None:
    """The shares of the steps, each for its part of the time, also over a restart."""
    scene.text = DRAIN
    async with scene.control() as room:
        await room.desk.apply(BeginDrain(operator=ANN, reason="slow answers"))
        shares = [scene.share]
        for _ in range(2):
            await room.serve(10.0, tick=5.0)
            shares.append(scene.share)
    async with scene.control(with_kept=False) as room:
        await room.serve(10.0, tick=10.0)
        shares.append(scene.share)
        await room.serve(10.0, tick=10.0)
        event = room.history.recent(1)[0]
        state = room.desk.state
    assert shares == [75, 50, 25, 0]
    assert (state.phase, state.mode, scene.page.engaged) == ("limited_production", Mode.LATCHED, True)
    assert (event.type, event.operator, event.evidence["cause"]) == ("rollback", "ann", "drained")


async def test_an_emergency_ends_a_drain(scene: Scene) -> None:
    """Everything to control at once, and no step of the drain after it."""
    scene.text = DRAIN
    async with scene.control() as room:
        await room.desk.apply(BeginDrain(operator=ANN))
        await room.desk.apply(Emergency(operator=BEN))
        await room.serve(60.0, tick=10.0)
        assert (room.desk.state.mode, scene.share) == (Mode.LATCHED, 0)
        assert room.types.count("drain") == 1
        await room.release()
        assert scene.share == 10  # limited production's own


async def test_force_passes_gates_and_is_in_the_history(scene: Scene) -> None:
    """With what the gates said then."""
    scene.text = LADDER
    async with scene.control() as room:
        await room.desk.apply(Advance(operator=ANN, reason="we know", authority=Authority.FORCE))
        event = room.history.recent(1)[0]
    assert (event.evidence["cause"], event.reason) == ("force", "we know")
    assert [gate["verdict"] for gate in event.evidence["gates"]] == ["pending", "pending"]


async def test_a_drain_without_steps_is_the_rollback_itself(scene: Scene) -> None:
    """`over: 0s`: no step, no waiting; the history says that it was asked for gracefully."""
    scene.text = DRAIN.replace("over: 40s", "over: 0s")
    async with scene.control() as room:
        await room.desk.apply(BeginDrain(operator=ANN, reason="slow answers"))
        event = room.history.recent(1)[0]
        assert (room.desk.state.mode, scene.page.engaged, scene.share) == (Mode.LATCHED, True, 0)
    assert (event.type, event.operator, event.evidence["cause"]) == ("rollback", "ann", "drained")


async def test_a_thousand_signals_make_few_lines(scene: Scene) -> None:
    """The first is a line, those of five seconds one more that counts them; who asks is told of all."""
    scene.text = LADDER
    async with scene.control() as room:
        for _ in range(100):
            for _ in range(10):
                scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1 to the gateway", "signal")
            scene.now += 0.125
            await room.desk.settle(repetitions=False)
        assert room.types == ["emergency"] * 3
        await room.desk.settle()
        lines = room.history.recent(10)[1:]
        assert room.desk.state.engagement == scene.page.number == 1000
    assert [line.reason for line in lines] == [
        "SIGUSR1 to the gateway",
        "engaged 400 more times while engaged",
        "engaged 400 more times while engaged",
        "engaged 190 more times while engaged",
    ]


async def test_an_emergency_over_a_rollback_does_not_wait_for_its_line(scene: Scene) -> None:
    """It is graver than what was recorded a moment ago."""
    scene.text = LADDER
    async with scene.control() as room:
        scene.page.engage(LatchKind.ROLLBACK, "bad answers", "ann")
        await room.desk.settle(repetitions=False)
        scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1 to the gateway", "signal")
        await room.desk.settle(repetitions=False)
        assert room.types == ["rollback", "emergency"]
