"""The monitor over a real rollout: what becomes of treatment, second by second of hand-made traffic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.control.archive import StoredSums
from gateway.core.folding import Tick
from gateway.core.gates import evaluate, pending_rollback
from gateway.core.sums import Sums
from gateway.model.gates import Verdict
from gateway.model.rollout import Advance, Approve, Authority, Cause, Emergency, Pause, Reject
from gateway.model.ticks import bucket_of
from tests.support.monitoring import Served, Stage, Watch
from tests.support.wiring import ANN, BEN

WELL = Served(good=20)
CONTROL = Served(good=180)
BROKEN = Served(bad=20)
CONTROL_BROKEN = Served(bad=180)
HALF_TREATMENT, HALF_CONTROL = Served(good=100), Served(good=100)
EVERYBODY, EVERYBODY_BROKEN = Served(good=200), Served(bad=200)


def canary(rollback: str = "", **keys: str) -> str:
    """A config that begins in canary with a tenth of the users on treatment."""
    more = "".join(f", {name}: {value}" for name, value in keys.items())
    phases = f"{{canary: {{user_percentage: 10, rollback_threshold: {{error_rate: 0.02}}{more}}}}}"
    return f"deployment: {{initial_phase: canary, phases: {phases}, rollback: {{{rollback}}}}}\n"


def lines(watch: Watch, kind: str) -> list[str]:
    """The reasons of the history's lines of a type."""
    return [event.reason for event in watch.room.history.recent(500) if event.type.value == kind]


async def until_held(watch: Watch) -> None:
    """A fifth of treatment's requests fail until that holds the rollout, which is before it convicts."""
    for _ in range(30):
        await watch.second(Served(good=16, bad=4), CONTROL)
        if watch.holds:
            break
    assert watch.holds == ["evidence"]


# --- evidence ---------------------------------------------------------------------------------------


async def test_a_treatment_that_fails_is_rolled_back_by_evidence(stage: Stage) -> None:
    """Within two seconds of twenty failures each, with the numbers in the history."""
    async with stage.control() as watch:
        await watch.seconds(60, WELL, CONTROL)
        assert not watch.latched
        assert await watch.seconds(60, BROKEN, CONTROL) <= 2
        assert (watch.latched, watch.share) == (True, 0.0)
        (rollback,) = [event for event in watch.room.history.recent(50) if event.type.value == "rollback"]
        assert rollback.operator == "gateway"
        assert "20 of 1220 treatment requests (each user's first in ten minutes) failed" in rollback.reason
        assert rollback.evidence["cause"] == Cause.EVIDENCE.value
        assert rollback.evidence["value"] >= rollback.evidence["limit"] == 1000.0
        assert rollback.evidence["parts"]["error_rate"] >= 1000.0


@pytest.mark.slow
async def test_two_healthy_arms_are_left_alone(stage: Stage) -> None:
    """Ten minutes with the same share of failures in both: nothing in the history at all."""
    async with stage.control() as watch:
        for second in range(600):
            if second % 20:
                await watch.second(WELL, CONTROL)
            else:
                await watch.second(Served(good=19, bad=1), Served(good=171, bad=9))
        assert watch.room.types == []


async def test_evidence_that_gathers_holds_and_its_end_is_the_hold_s(stage: Stage) -> None:
    """No advance meanwhile, no rollback; good service takes it back."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        await until_held(watch)
        assert not watch.latched
        await watch.seconds(120, WELL, CONTROL)
        assert watch.holds == []
        assert watch.room.types == ["hold", "hold"]


async def test_a_hold_by_evidence_voids_what_was_approved(stage: Stage) -> None:
    """Who approved did not know of it."""
    gates = "gates: {canary -> limited_production: [{type: manual_approval}]}"
    stage.scene.text = canary().replace("deployment: {", f"deployment: {{{gates}, ")
    async with stage.control() as watch:
        desk = watch.room.desk
        gate = "canary.limited_production.manual_approval"
        await desk.apply(Approve(operator=ANN, gate=gate))
        assert watch.room.verdicts == [Verdict.PASS]
        await until_held(watch)
        assert watch.room.verdicts == [Verdict.PENDING]


async def test_a_pause_stops_no_rollback(stage: Stage) -> None:
    """It holds the way up, never the way down."""
    async with stage.control() as watch:
        await watch.room.desk.apply(Pause(operator=ANN))
        assert await watch.seconds(30, BROKEN, CONTROL) <= 2


async def test_a_treatment_that_refuses_what_control_takes_is_rolled_back(stage: Stage) -> None:
    """404 to everything is no error of an arm, and yet worse than control."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        assert await watch.seconds(60, Served(refused=20), CONTROL) < 60
        assert "client errors" in lines(watch, "rollback")[0]


async def test_a_treatment_that_is_slower_than_its_limit_is_rolled_back(stage: Stage) -> None:
    """Three times control's latency, once it is known what control's latency is."""
    slow = Served(good=20, latency=bucket_of(0.3))
    async with stage.control() as watch:
        await watch.seconds(360, WELL, CONTROL)
        assert await watch.seconds(120, slow, CONTROL) < 120
        assert "slow" in lines(watch, "rollback")[0]


# --- fresh starts ---------------------------------------------------------------------------------


async def test_a_release_begins_the_evidence_afresh(stage: Stage) -> None:
    """What convicted is forgotten; what fails again convicts again."""
    async with stage.control() as watch:
        await watch.seconds(30, BROKEN, CONTROL)
        await watch.room.release()
        await watch.second(WELL, CONTROL)
        assert not watch.latched
        assert watch.monitor.assessment is not None
        assert watch.monitor.assessment.value < 10
        assert await watch.seconds(30, BROKEN, CONTROL) <= 2


async def test_an_advance_begins_the_evidence_afresh(stage: Stage) -> None:
    """Another phase has other limits, and what was seen in the last one was let through."""
    async with stage.control() as watch:
        await watch.seconds(2, Served(good=18, bad=2), CONTROL)
        await watch.room.desk.apply(Advance(operator=ANN, authority=Authority.FORCE))
        await watch.second(WELL, CONTROL)
        assert watch.monitor.dossier.state.errors.bad == 0


async def test_another_upstream_behind_treatment_begins_the_evidence_afresh(stage: Stage) -> None:
    """What was measured was something else."""
    stage.scene.text = canary()
    async with stage.control() as watch:
        await watch.seconds(2, Served(good=18, bad=2), CONTROL)
        other = stage.scene.text + (
            "upstreams:\n  traditional: {endpoints: [http://127.0.0.1:9001]}\n"
            "  dspy: {endpoints: [http://127.0.0.1:9003]}\n"
        )
        await watch.room.desk.reload(stage.scene.load(other))
        await watch.second(WELL, CONTROL)
        assert watch.monitor.dossier.state.errors.bad == 0


async def test_another_percentage_keeps_the_evidence(stage: Stage) -> None:
    """Treatment is the same, so what speaks against it stands."""
    stage.scene.text = canary()
    async with stage.control() as watch:
        await watch.seconds(2, Served(good=18, bad=2), CONTROL)
        text = stage.scene.text.replace("user_percentage: 10", "user_percentage: 20")
        await watch.room.desk.reload(stage.scene.load(text))
        await watch.second(WELL, CONTROL)
        assert watch.share == 20.0
        assert watch.monitor.dossier.state.errors.bad == 4


# --- a person is asked first ----------------------------------------------------------------------


async def test_where_a_person_must_approve_the_evidence_asks_pages_and_holds(stage: Stage) -> None:
    """Once, however long it lasts; approved it is the rollback, with its evidence."""
    stage.scene.text = canary("manual_approval_required: true")
    async with stage.control() as watch:
        desk = watch.room.desk
        assert await watch.seconds(10, BROKEN, CONTROL) == 10
        waiting = pending_rollback(desk.state, desk.rules)
        assert waiting is not None
        assert waiting.id == "rollback"
        assert "pending_rollback" in watch.holds
        assert watch.share == 10.0
        asked = [
            event for event in watch.room.history.recent(50) if event.evidence.get("cause") == "evidence"
        ]
        assert len(asked) == 1
        await desk.apply(Approve(operator=BEN, gate="rollback", reason="yes"))
        assert watch.latched
        (rollback,) = [event for event in watch.room.history.recent(50) if event.type.value == "rollback"]
        assert (rollback.operator, rollback.evidence["value"] >= 1000) == (BEN, True)


async def test_a_rejected_rollback_goes_on_with_fresh_evidence(stage: Stage) -> None:
    """What a person judged to be none is not held against treatment; what comes after it is."""
    stage.scene.text = canary("manual_approval_required: true")
    async with stage.control() as watch:
        desk = watch.room.desk
        await watch.seconds(3, BROKEN, CONTROL)
        await desk.apply(Reject(operator=BEN, gate="rollback", reason="a test of ours"))
        await watch.seconds(10, WELL, CONTROL)
        assert desk.state.pending_rollback is None
        assert watch.holds == []
        await watch.seconds(3, BROKEN, CONTROL)
        assert desk.state.pending_rollback is not None


async def test_where_nobody_is_asked_any_more_the_next_look_rolls_back(stage: Stage) -> None:
    """A question that was open does not stand in the way, and the history has what became of it."""
    stage.scene.text = canary("manual_approval_required: true")
    async with stage.control() as watch:
        await watch.seconds(3, BROKEN, CONTROL)
        assert "pending_rollback" in watch.holds
        await watch.room.desk.reload(stage.scene.load(canary()))
        assert "pending_rollback" not in watch.holds
        assert await watch.seconds(5, BROKEN, CONTROL) == 1
        line = next(event for event in watch.room.history.recent(9)[::-1] if event.type.value == "reload")
        assert line.evidence["dropped"]["gate"] == "rollback"
        assert "treatment requests" in line.evidence["dropped"]["reason"]


async def test_another_upstream_behind_treatment_takes_the_question_back(stage: Stage) -> None:
    """What is to be approved is not rolled back in another one's place, which is judged afresh."""
    stage.scene.text = canary("manual_approval_required: true")
    other = stage.scene.text + (
        "upstreams:\n  traditional: {endpoints: [http://127.0.0.1:9001]}\n"
        "  dspy: {endpoints: [http://127.0.0.1:9003]}\n"
    )
    async with stage.control() as watch:
        await watch.seconds(3, BROKEN, CONTROL)
        await watch.room.desk.reload(stage.scene.load(other))
        await watch.seconds(10, WELL, CONTROL)
        assert (watch.room.desk.state.pending_rollback, watch.holds) == (None, [])
        await watch.seconds(3, BROKEN, CONTROL)
        assert watch.room.desk.state.pending_rollback is not None
        assert watch.monitor.dossier.state.errors.count == 13 * 20


# --- after a rollback -----------------------------------------------------------------------------


async def test_after_a_rollback_by_evidence_nothing_advances_by_itself(stage: Stage) -> None:
    """Until a person advances, or the deployment is another."""
    stage.scene.text = canary().replace("{canary:", "{staging: {advance: automatic}, canary:")
    async with stage.control() as watch:
        await watch.seconds(10, BROKEN, CONTROL)
        assert watch.room.desk.state.phase == "staging"
        await watch.room.release()
        await watch.room.serve(600)
        assert watch.room.desk.state.phase == "staging"
        assert watch.room.desk.state.automatic_off == ("canary",)
        assert evaluate(watch.room.desk.state, watch.room.desk.rules, stage.scene.now) == ()


# --- both arms ------------------------------------------------------------------------------------


async def test_an_outage_of_both_arms_holds_and_pages_and_rolls_nothing_back(stage: Stage) -> None:
    """Treatment is not to blame for what control suffers too; afterwards the hold ends."""
    async with stage.control() as watch:
        await watch.seconds(60, WELL, CONTROL)
        assert await watch.seconds(30, BROKEN, CONTROL_BROKEN) == 30
        assert "shared_outage" in watch.holds
        for _ in range(900):
            await watch.second(WELL, CONTROL)
            if not watch.holds:
                break
        assert (watch.holds, lines(watch, "rollback")) == ([], [])


async def test_an_outage_of_both_arms_is_a_rollback_where_that_is_wanted(stage: Stage) -> None:
    """`on_shared_outage: rollback`."""
    stage.scene.text = canary("on_shared_outage: rollback")
    async with stage.control() as watch:
        await watch.seconds(60, WELL, CONTROL)
        assert await watch.seconds(60, BROKEN, CONTROL_BROKEN) < 60


# --- nobody on control: the trial -----------------------------------------------------------------

FULL = "deployment: {initial_phase: full_production}\n"


async def test_with_nobody_on_control_a_trial_convicts(stage: Stage) -> None:
    """The share is halved at once, and what control does better then is the rollback."""
    stage.scene.text = FULL
    async with stage.control() as watch:
        await watch.seconds(30, EVERYBODY)
        await watch.second(EVERYBODY_BROKEN)
        assert watch.share == 50.0
        assert "control" in lines(watch, "trial")[0]
        assert await watch.seconds(30, Served(bad=100), HALF_CONTROL) <= 2
        assert lines(watch, "rollback")


@pytest.mark.slow
async def test_a_trial_that_convicts_nobody_is_a_shared_outage(stage: Stage) -> None:
    """Held and paged after a minute; the cap stays while treatment fails, and goes when it is well."""
    stage.scene.text = FULL
    async with stage.control() as watch:
        await watch.seconds(30, EVERYBODY)
        await watch.second(EVERYBODY_BROKEN)
        assert await watch.seconds(90, Served(bad=100), Served(bad=100)) == 90
        assert "shared_outage" in watch.holds
        assert watch.share == 50.0
        for _ in range(3600):
            await watch.second(HALF_TREATMENT, HALF_CONTROL)
            if watch.share == 100.0 and not watch.holds:
                break
        assert watch.share == 100.0
        assert (watch.holds, lines(watch, "rollback")) == ([], [])


async def test_a_trial_without_a_healthy_control_is_a_shared_outage_at_once(stage: Stage) -> None:
    """There is nobody to compare with, and nobody to take over: nobody is sent there."""
    stage.scene.text = FULL
    stage.endpoints.control = False
    async with stage.control() as watch:
        await watch.seconds(30, EVERYBODY)
        await watch.seconds(3, EVERYBODY_BROKEN)
        assert watch.holds == ["shared_outage"]
        assert watch.share == 100.0


async def test_a_trial_leaves_nobody_on_a_control_that_dies_in_it(stage: Stage) -> None:
    """No cap without a healthy endpoint: everybody is back on treatment, held and paged."""
    stage.scene.text = FULL
    async with stage.control() as watch:
        await watch.seconds(30, EVERYBODY)
        await watch.second(EVERYBODY_BROKEN)
        assert watch.share == 50.0
        stage.endpoints.control = False
        await watch.seconds(2, Served(good=90, bad=10), Served(bad=100))
        assert (watch.share, "shared_outage" in watch.holds) == (100.0, True)


async def test_a_trial_leaves_nobody_on_a_control_that_fails_more(stage: Stage) -> None:
    """A second shows it, no other trial follows while treatment fails, and the page ends with that alone."""
    stage.scene.text = FULL
    ailing = Served(good=180, bad=20)
    async with stage.control() as watch:
        await watch.seconds(30, EVERYBODY)
        for _ in range(10):
            await watch.second(ailing)
            if watch.share == 50.0:
                break
        await watch.second(Served(good=90, bad=10), Served(bad=100))
        stage.turn(660.0)
        await watch.seconds(30, ailing)
        assert (watch.share, "shared_outage" in watch.holds) == (100.0, True)
        assert len(lines(watch, "trial")) == 2  # its beginning and its end
        assert await watch.seconds(180, EVERYBODY) == 180
        assert (watch.share, watch.holds) == (100.0, [])


async def test_an_emergency_during_a_trial_wins(stage: Stage) -> None:
    """Everything to control, and the trial is over."""
    stage.scene.text = FULL
    async with stage.control() as watch:
        await watch.seconds(30, EVERYBODY)
        await watch.second(EVERYBODY_BROKEN)
        await watch.room.desk.apply(Emergency(operator=BEN, reason="now"))
        await watch.seconds(3, EVERYBODY_BROKEN)
        assert (watch.share, watch.room.desk.state.trial) == (0.0, None)
        assert lines(watch, "emergency") == ["now"]


# --- no sign of life ------------------------------------------------------------------------------

GONE = Served(failed_over=20)


async def test_a_treatment_that_restarts_is_no_reason_for_a_rollback(stage: Stage) -> None:
    """Twenty seconds in which control answered for it: not held, not latched."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        stage.endpoints.treatment = False
        assert await watch.seconds(20, GONE, CONTROL) == 20
        stage.endpoints.treatment = True
        assert await watch.seconds(60, WELL, CONTROL) == 60
        assert watch.room.types == []


@pytest.mark.parametrize("seen_by", ["endpoints", "requests"])
async def test_no_sign_of_life_for_a_minute_is_a_system_failure(stage: Stage, seen_by: str) -> None:
    """Whether checks find it out or the requests do; it asks nobody."""
    stage.scene.text = canary("manual_approval_required: true")
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        stage.endpoints.treatment = seen_by == "requests"
        lasted = await watch.seconds(120, GONE, CONTROL)
        assert lasted in (60, 61)
        (rollback,) = [event for event in watch.room.history.recent(50) if event.type.value == "rollback"]
        assert rollback.evidence["cause"] == Cause.SYSTEM_FAILURE.value
        assert "no sign of life for 1m" in rollback.reason


async def test_a_break_in_the_absence_begins_it_again(stage: Stage) -> None:
    """Without a break, it says; silence is none."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        stage.endpoints.treatment = False
        await watch.seconds(50, GONE, CONTROL)
        stage.endpoints.treatment = True
        await watch.second(WELL, CONTROL)
        stage.endpoints.treatment = False
        assert await watch.seconds(50, GONE, CONTROL) == 50
        stage.endpoints.treatment = True
        assert await watch.seconds(30, control=CONTROL) < 12


@pytest.mark.parametrize("why", ["never alive", "control is gone", "control fails", "not a trigger"])
async def test_an_absence_is_no_system_failure(stage: Stage, why: str) -> None:
    """Where treatment never lived in this phase, control is no better, or nobody asked for it."""
    if why == "not a trigger":
        stage.scene.text = canary("automatic_triggers: []")
    async with stage.control() as watch:
        if why != "never alive":
            await watch.seconds(30, WELL, CONTROL)
        stage.endpoints.treatment = False
        stage.endpoints.control = why != "control is gone"
        control = Served(bad=180) if why == "control fails" else CONTROL
        assert await watch.seconds(120, GONE, control) == 120


async def test_a_shared_outage_that_is_over_stands_in_no_system_failure_s_way(stage: Stage) -> None:
    """Control is asked how it is, not how it was: so few requests do not make the evidence forget."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        assert await watch.seconds(120, BROKEN, CONTROL_BROKEN) == 120
        stage.endpoints.treatment = False
        assert await watch.seconds(120, GONE, Served(good=18)) in (60, 61)
        assert "no sign of life for 1m" in lines(watch, "rollback")[0]


async def test_a_system_failure_waits_until_control_is_well(stage: Stage) -> None:
    """While control fails it does not convict; once that is a minute ago it does."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        stage.endpoints.treatment = False
        assert await watch.seconds(120, GONE, CONTROL_BROKEN) == 120
        assert 50 <= await watch.seconds(120, GONE, CONTROL) <= 61


async def test_where_nobody_is_on_control_a_system_failure_asks_its_endpoints_alone(stage: Stage) -> None:
    """There are no requests to tell by."""
    stage.scene.text = FULL
    async with stage.control() as watch:
        await watch.seconds(30, EVERYBODY)
        stage.endpoints.treatment = False
        assert await watch.seconds(120, Served(failed_over=200)) in (60, 61)


async def test_an_absence_goes_on_over_a_restart(stage: Stage) -> None:
    """What was seen of it is kept; the time in which nobody looked does not count."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        stage.endpoints.treatment = False
        await watch.seconds(40, GONE, CONTROL)
        watch.monitor.close()
    stage.turn(600)
    async with stage.control() as watch:
        assert 15 <= await watch.seconds(60, GONE, CONTROL) <= 25


async def test_a_slow_head_does_not_keep_a_broken_treatment_in_place(stage: Stage) -> None:
    """The ticks since the break are all open, for one request of each arm; what is known of them convicts."""
    async with stage.control() as watch:
        await watch.seconds(60, WELL, CONTROL)
        tick = watch.progress(BROKEN, CONTROL).closed[0]
        waiting = {series: replace(one, started=one.started + 1) for series, one in tick.counts.items()}
        watch.windows.open = (Tick(tick.at, waiting), Tick(tick.at + 250, waiting))
        watch.monitor.look()
        await watch.monitor.act()
        assert watch.latched
        assert "40 of 1242 treatment requests" in lines(watch, "rollback")[0]


async def test_an_outage_of_both_arms_is_not_foreseen(stage: Stage) -> None:
    """What is open of control counts as failed there, and says nothing of control."""
    stage.scene.text = canary("on_shared_outage: rollback")
    async with stage.control() as watch:
        await watch.seconds(60, WELL, CONTROL)
        tick = watch.progress(BROKEN, Served()).closed[0]
        silent = {
            series: replace(one, started=180 if series.arm == "control" else one.started)
            for series, one in tick.counts.items()
        }
        watch.windows.open = tuple(Tick(tick.at + 250 * number, silent) for number in range(8))
        watch.monitor.look()
        await watch.monitor.act()
        assert not watch.latched


# --- the plain threshold --------------------------------------------------------------------------


async def test_a_plain_threshold_acts_from_its_least_number_of_samples(stage: Stage) -> None:
    """Not before, however clear it is; and then with the window's numbers."""
    stage.scene.text = canary("decision: threshold, minimum_samples: 100")
    async with stage.control() as watch:
        assert await watch.seconds(60, BROKEN, CONTROL) == 5
        assert (
            "error_rate of treatment is 100 % over the last 5m (100 samples), beyond 2 %"
            in lines(watch, "rollback")[0]
        )
        assert watch.room.history.rollbacks["threshold"] == 1


@pytest.mark.slow
async def test_a_plain_threshold_looks_at_its_window_alone(stage: Stage) -> None:
    """What is older than the window is forgotten, and so is what was before a release."""
    stage.scene.text = canary("decision: threshold, minimum_samples: 100")
    async with stage.control() as watch:
        await watch.seconds(4, BROKEN, CONTROL)
        assert await watch.seconds(400, Served(), CONTROL) == 400
        assert await watch.seconds(60, WELL, CONTROL) == 60
        assert await watch.seconds(60, BROKEN, CONTROL) < 60
        await watch.room.release()
        assert await watch.seconds(60, WELL, CONTROL) == 60


async def test_a_plain_threshold_knows_the_slowdown(stage: Stage) -> None:
    """By the same definition as everywhere: beyond 15 % in canary."""
    stage.scene.text = canary("decision: threshold, minimum_samples: 100")
    async with stage.control() as watch:
        assert await watch.seconds(20, Served(good=20, latency=bucket_of(0.11)), CONTROL) == 20
        assert await watch.seconds(60, Served(good=20, latency=bucket_of(0.2)), CONTROL) < 60
        assert "performance_degradation" in lines(watch, "rollback")[0]


async def test_a_plain_threshold_goes_on_after_a_restart(stage: Stage) -> None:
    """Three seconds of failures were settled and stored; two more make the least number of samples."""
    stage.scene.text = canary("decision: threshold, minimum_samples: 100")
    async with stage.control() as watch:
        assert await watch.seconds(3, BROKEN, CONTROL) == 3
        watch.monitor.close()
    settled = Sums()
    settled.count(replace(BROKEN, bad=60).counts())
    stored = StoredSums(1, ("default", "treatment", "", ""), int(stage.scene.now) - 2, settled.numbers())
    before = replace(stored, at=int(stage.scene.now) - 1000)
    stage.restored = (before, stored)
    async with stage.control() as watch:
        assert await watch.seconds(60, BROKEN, CONTROL) == 2
