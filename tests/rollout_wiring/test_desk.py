"""The rollout's state over its life: steps in their order, flips ahead of everything, restarts, bad disks."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction

import pytest

from gateway.control.rollout.desk import DOCUMENT, NotReleased, Outdated, Refused
from gateway.control.rollout.views import gates
from gateway.control.store.api import NotDurableError
from gateway.control.store.encoding import from_json
from gateway.control.store.file import move_aside
from gateway.control.store.sqlite import STORE_FILE
from gateway.core.rollout import begin
from gateway.latch import DurableLatch, LatchKind, LatchState
from gateway.model.rollout import (
    ROLLBACK_GATE,
    Advance,
    Approve,
    Authority,
    Cause,
    Clocks,
    Emergency,
    Event,
    Mode,
    Pause,
    Record,
    RefusalCode,
    Release,
    Reload,
    Resume,
    Rollback,
    Rollout,
)
from tests.support.polling import turns
from tests.support.rollouts import replay
from tests.support.wiring import ANN, BEN, LADDER, Scene, falls, refusing_disk

fall = pytest.mark.parametrize("fall", falls(), ids=["rollback", "emergency"])

APPROVAL = """\
deployment:
  initial_phase: staging
  gates:
    staging -> canary:
      - {type: manual_approval, approvals: 1, expires: 1h}
"""


# --- the ladder ---------------------------------------------------------------------------------------


async def test_all_phases_can_be_advanced_through_and_the_workers_get_each_share(scene: Scene) -> None:
    """From development to full production; there the ladder ends."""
    async with scene.control() as room:
        shares = [scene.share]
        for phase in LADDER[1:]:
            taken = await room.desk.apply(Advance(operator=ANN, authority=Authority.FORCE))
            assert (taken.state.phase, scene.published[-1].phase) == (phase, phase)
            shares.append(scene.share)
        with pytest.raises(Refused) as refused:
            await room.desk.apply(Advance(operator=ANN, authority=Authority.FORCE))
    assert shares == [100, 100, 1, 10, 100]
    assert refused.value.refusal.code is RefusalCode.LAST_PHASE
    assert room.types == ["phase_transition"] * 4


@pytest.mark.parametrize(("phase", "previous"), list(zip(LADDER[1:], LADDER, strict=False)))
@fall
async def test_a_rollback_returns_to_the_previous_phase(
    scene: Scene, phase: str, previous: str, fall: Event
) -> None:
    """With everything on control, from every phase."""
    async with scene.control() as room:
        await room.go_to(phase)
        await room.desk.apply(fall)
        assert (room.desk.state.phase, room.desk.state.mode, scene.share) == (previous, Mode.LATCHED, 0)
        assert scene.page.engaged


@fall
async def test_in_the_first_phase_a_fall_stays_in_it_latched(scene: Scene, fall: Event) -> None:
    """There is nothing before it; everything goes to control all the same."""
    async with scene.control() as room:
        await room.desk.apply(fall)
        assert (room.desk.state.phase, room.desk.state.mode, scene.share) == ("development", Mode.LATCHED, 0)
        assert scene.page.engaged


@fall
async def test_a_release_begins_clocks_and_windows_at_zero_and_the_pause_stays(
    scene: Scene, fall: Event
) -> None:
    """What was gathered before was gathered of what failed."""
    async with scene.control() as room:
        await room.go_to("canary")
        await room.serve(600.0)
        await room.desk.apply(Pause(operator=ANN))
        await room.desk.apply(fall)
        await room.serve(600.0)
        scene.measured.restarts.clear()
        await room.release()
        assert room.desk.state.clocks == Clocks()
        assert (room.desk.state.paused, scene.measured.restarts) == (True, ["evidence"])


async def test_a_rollback_that_waits_for_a_person_is_a_gate_and_its_approval_the_rollback(
    scene: Scene,
) -> None:
    """Held meanwhile, over a restart too; the latch is flipped by the approval."""
    scene.text = "deployment: {initial_phase: canary, rollback: {manual_approval_required: true}}"
    found = Rollback(operator="gateway", reason="E = 1200", cause=Cause.EVIDENCE, evidence={"value": 1200})
    async with scene.control() as room:
        await room.desk.apply(found)
        assert (room.types, scene.page.engaged, scene.share) == (["hold"], False, 1)
    async with scene.control(with_kept=False) as room:
        (gate,) = [
            gate for gate in gates(room.desk.state, room.desk.rules, scene.now) if gate["id"] == ROLLBACK_GATE
        ]
        assert (gate["verdict"], gate["transition"]) == ("pending", "canary -> staging")
        with pytest.raises(Refused) as refused:
            await room.desk.apply(Advance(operator=ANN, authority=Authority.FORCE))
        assert refused.value.refusal.code is RefusalCode.HELD
        await room.desk.apply(Approve(operator=BEN, gate=ROLLBACK_GATE, reason="yes"))
        event = room.history.recent(1)[0]
        assert (event.type, event.operator, event.evidence["value"]) == ("rollback", "ben", 1200)
        assert (room.desk.state.phase, scene.page.engaged, scene.share) == ("staging", True, 0)


@pytest.mark.parametrize("phase", LADDER)
async def test_a_restart_resumes_each_phase(scene: Scene, phase: str) -> None:
    """Phase, since when, clocks and version are those that were left; nothing is written down anew."""
    async with scene.control() as room:
        await room.go_to(phase)
        await room.serve(120.0)
        before, lines = room.desk.state, room.types
    scene.now += 3600.0
    async with scene.control(with_kept=False) as room:
        assert room.desk.state == before
        assert room.types == lines
        assert scene.published[-1].phase == phase
    assert before.clocks.service == 120.0


@fall
async def test_a_restart_resumes_the_latch_and_the_ceiling(scene: Scene, fall: Event) -> None:
    """Latched it stays latched, whatever went away meanwhile; released it comes back under its ceiling."""
    async with scene.control() as room:
        await room.go_to("canary")
        await room.desk.apply(fall)
    async with scene.control(with_kept=False) as room:
        assert (room.desk.state.mode, scene.share) == (Mode.LATCHED, 0)
        await room.release()
        assert scene.share == 1
    async with scene.control(with_kept=False) as room:
        assert (room.desk.state.phase, room.desk.state.ceiling, scene.share) == ("staging", 1, 1)
        await room.desk.apply(Advance(operator=ANN))
        assert room.desk.state.ceiling is None


async def test_the_history_in_the_store_replays_to_the_state(scene: Scene) -> None:
    """Every recorded step follows from the ones before it."""
    async with scene.control() as room:
        rules = room.desk.rules
        await room.go_to("canary")
        await room.serve(60.0)
        await room.desk.apply(Pause(operator=ANN))
        await room.desk.apply(Emergency(operator=BEN))
        await room.release()
        await room.desk.apply(Resume(operator=ANN))
        lines = await room.store.newest(100)
        records = [json.loads(entry.body)["record"] for _, entry in lines]
        replayed = replay(begin(rules, scene.now - 60.0), rules, [_record(raw) for raw in records if raw])
        assert replayed.clocks == room.desk.state.clocks
        assert replayed == room.desk.state


def _record(raw: object) -> Record:
    return from_json(Record, json.dumps(raw))


# --- the flip -----------------------------------------------------------------------------------------


@fall
@pytest.mark.parametrize("progress", ["advance", "reload", "pending approval"])
async def test_in_the_middle_of_something_the_flip_does_not_wait(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, fall: Event, progress: str
) -> None:
    """While the disk works at an advance, a reload or an approval, everything is on control already."""
    scene.text = APPROVAL
    async with scene.control() as room:
        commit, reached, may_go_on = room.store.commit, asyncio.Event(), asyncio.Event()

        async def slow_commit(*args: object) -> bool:
            reached.set()
            await may_go_on.wait()
            return await commit(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(room.store, "commit", slow_commit)
        events: dict[str, Event] = {
            "advance": Advance(operator=ANN, authority=Authority.FORCE),
            "reload": Reload(operator=ANN, rules=room.desk.rules),
            "pending approval": Approve(operator=ANN, gate="staging.canary.manual_approval"),
        }
        going_on = asyncio.create_task(room.desk.apply(events[progress]))
        await reached.wait()
        falling = asyncio.create_task(room.desk.apply(fall))
        await turns()
        assert scene.page.engaged
        assert not going_on.done()
        may_go_on.set()
        await going_on
        await falling
        state = room.desk.state
    assert (state.mode, scene.share, state.votes) == (Mode.LATCHED, 0, ())
    assert state.phase == ("staging" if progress == "advance" else "development")


async def test_what_follows_a_fall_is_in_the_history_with_the_time_that_it_took(scene: Scene) -> None:
    """Each part of the sequence, in seconds since it began."""
    async with scene.control() as room:
        await room.go_to("canary")
        await room.desk.apply(Rollback(operator=BEN, reason="bad answers", metadata={"ticket": 7}))
        event = room.history.recent(1)[0]
    assert (event.type, event.operator, event.reason) == ("rollback", "ben", "bad answers")
    assert (event.origin, event.target) == ("canary", "staging")
    assert list(event.evidence["seconds"]) == ["latch", "phase", "publish", "restart evidence", "notify"]
    assert event.evidence["ticket"] == 7
    assert scene.measured.restarts[-1] == "evidence"


async def test_the_steps_after_a_signal_begin_with_the_latch_itself(scene: Scene) -> None:
    """Whoever flipped it, and however late the control process saw it: seconds since the flip."""
    async with scene.control() as room:
        await room.go_to("canary")
        scene.page.restore(LatchState(7, 6, LatchKind.EMERGENCY, "SIGUSR1", "signal", scene.now - 3.0))
        await room.desk.settle()
        event = room.history.recent(1)[0]
    seconds = event.evidence["seconds"]
    assert list(seconds) == ["latch", "phase", "publish", "restart evidence", "notify"]
    assert (seconds["latch"], 3.0 <= seconds["phase"] <= seconds["notify"] < 8.0) == (0.0, True)


async def test_a_signal_is_worked_off_once_with_the_words_of_the_page(scene: Scene) -> None:
    """However often one looks."""
    async with scene.control() as room:
        await room.go_to("canary")
        scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1 to the gateway", "signal")
        await asyncio.gather(*(room.desk.settle() for _ in range(5)))
        event = room.history.recent(1)[0]
        assert (event.type, event.operator, event.reason) == (
            "emergency",
            "signal",
            "SIGUSR1 to the gateway",
        )
        assert room.desk.state.phase == "staging"
        assert room.types.count("emergency") == 1


async def test_a_thousand_signals_are_one_event_and_a_repetition_is_nobody_s(scene: Scene) -> None:
    """No further step back; the page keeps the words of the first, so that they are not the second's."""
    async with scene.control() as room:
        await room.go_to("canary")
        for _ in range(1000):
            scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
        await room.desk.settle()
        scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
        await room.desk.settle()
        first, second = room.history.recent(2)
        assert (first.operator, first.evidence["number"]) == ("signal", 1000)
        assert (second.operator, second.evidence["repeated"]) == ("unknown", True)
        assert room.desk.state.phase == "staging"
        assert +room.history.rollbacks == {"emergency": 1}


async def test_a_signal_while_control_was_dead_is_worked_off_by_the_next(scene: Scene) -> None:
    """The state knows the number that it has seen."""
    async with scene.control() as room:
        await room.go_to("canary")
    scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    async with scene.control() as room:
        assert (room.desk.state.phase, room.desk.state.mode) == ("staging", Mode.LATCHED)
    async with scene.control() as room:
        assert room.types.count("emergency") == 1


async def test_concurrent_emergencies_keep_their_operators(scene: Scene) -> None:
    """Also while somebody looks at the page all the time."""
    async with scene.control() as room:
        names = [f"operator-{n}" for n in range(20)]
        await asyncio.gather(
            *(room.desk.apply(Emergency(operator=name)) for name in names),
            *(room.desk.settle() for _ in range(20)),
        )
        assert [event.operator for event in room.history.recent(20)] == names


async def test_a_signal_s_look_does_not_take_an_operator_s_emergency_for_its_own(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait for the step before them: first the signal is worked off, then the operator by name."""
    async with scene.control() as room:
        commit, reached, may_go_on = room.store.commit, asyncio.Event(), asyncio.Event()

        async def slow_commit(*args: object) -> bool:
            reached.set()
            await may_go_on.wait()
            return await commit(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(room.store, "commit", slow_commit)
        pausing = asyncio.create_task(room.desk.apply(Pause(operator=BEN)))
        await reached.wait()
        scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
        looking = asyncio.create_task(room.desk.settle())
        await turns()
        asking = asyncio.create_task(room.desk.apply(Emergency(operator=ANN)))
        await turns()
        may_go_on.set()
        await asyncio.gather(pausing, looking, asking)
        events = [(event.operator, event.evidence["number"]) for event in room.history.recent(2)]
        assert events == [("signal", 1), ("ann", 2)]


async def test_a_lost_latch_file_does_not_swallow_the_next_emergency(scene: Scene) -> None:
    """The page counts from zero again; the state counts with it."""
    async with scene.control() as room:
        await room.go_to("limited_production")
        for _ in range(3):
            await room.desk.apply(Emergency(operator=ANN))
            await room.release()
        await room.go_to("canary")
    (scene.directory / "latch").unlink()
    scene.page = type(scene.page).create()
    async with scene.control(with_kept=False) as room:
        assert room.desk.state.mode is Mode.RUNNING
        scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
        await room.desk.settle()
        assert (room.desk.state.phase, room.desk.state.mode) == ("staging", Mode.LATCHED)
        await room.release()
        assert not scene.page.engaged


# --- release --------------------------------------------------------------------------------------------


async def test_a_look_at_the_page_does_not_mistake_a_release_on_its_way(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is released, the page is not yet: that is no reason to latch again."""
    async with scene.control() as room:
        await room.desk.apply(Emergency(operator=ANN))
        release, looking = room.latch.release, []

        async def slow_release(*args: object) -> object:
            looking.append(asyncio.create_task(room.desk.settle()))
            await turns(5)
            return await release(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(room.latch, "release", slow_release)
        await room.release()
        await looking[0]
        assert not scene.page.engaged
        assert room.desk.state.mode is Mode.RUNNING


async def test_a_release_that_the_latch_s_disk_refuses_leaves_everything_latched(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page and state agree at the next look: latched, and what was rolled back from is known still."""
    async with scene.control() as room:
        await room.go_to("canary")
        await room.desk.apply(Rollback(operator=ANN))

        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(DurableLatch, "save", refuse)
        with pytest.raises(NotReleased):
            await room.release()
        monkeypatch.undo()
        await room.desk.settle()
        assert (room.desk.state.mode, scene.share, scene.page.engaged) == (Mode.LATCHED, 0, True)
        await room.release()
        assert (room.desk.state.mode, scene.share) == (Mode.RUNNING, 1)


async def test_a_release_of_an_engagement_that_another_followed_changes_nothing(scene: Scene) -> None:
    """The signal came while latched: recorded, and no step back for it."""
    async with scene.control() as room:
        await room.go_to("canary")
        await room.desk.apply(Emergency(operator=ANN))
        scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
        with pytest.raises(NotReleased):
            await room.desk.apply(Release(operator=BEN, engagement=1))
        await room.desk.settle()
        assert (room.desk.state.phase, room.desk.state.mode) == ("staging", Mode.LATCHED)
        assert room.types[-2:] == ["emergency", "emergency"]


async def test_an_emergency_in_the_middle_of_a_release_wins(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever releases number 1 does not release number 2."""
    async with scene.control() as room:
        await room.go_to("canary")
        await room.desk.apply(Emergency(operator=ANN))
        commit = room.store.commit

        async def engaging_commit(*args: object) -> bool:
            monkeypatch.setattr(room.store, "commit", commit)
            scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
            return await commit(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(room.store, "commit", engaging_commit)
        with pytest.raises(NotReleased):
            await room.release()
        await room.desk.settle()
        assert (room.desk.state.mode, scene.share, scene.page.engaged) == (Mode.LATCHED, 0, True)


# --- versions -------------------------------------------------------------------------------------------


async def test_a_step_that_depends_on_another_version_is_not_taken(scene: Scene) -> None:
    """Of two that read the same, one advances."""
    async with scene.control() as room:
        version = room.desk.state.version
        step = Advance(operator=ANN, authority=Authority.FORCE)
        answers = await asyncio.gather(
            room.desk.apply(step, {version}), room.desk.apply(step, {version}), return_exceptions=True
        )
        assert isinstance(answers[1], Outdated)
        assert room.desk.state.phase == "staging"
        with pytest.raises(Outdated):
            await room.desk.apply(Rollback(operator=BEN), {version})
        assert not scene.page.engaged


async def test_clocks_move_no_version(scene: Scene) -> None:
    """A version is of events, never of ticks."""
    async with scene.control() as room:
        version = room.desk.state.version
        await room.serve(600.0)
        assert room.desk.state.version == version


# --- disks ----------------------------------------------------------------------------------------------


async def test_a_full_disk_lets_nobody_in_and_everybody_out(scene: Scene) -> None:
    """An advance does not stand; an emergency does, at once, and is written when that is possible."""
    async with scene.control() as room:
        await room.go_to("staging")
        with refusing_disk():
            with pytest.raises(NotDurableError):
                await room.go_to("canary")
            assert (room.desk.state.phase, scene.published[-1].phase) == ("staging", "staging")
            await room.desk.apply(Emergency(operator=BEN))
            assert (room.desk.state.phase, scene.share) == ("development", 0)
            assert room.store.fault is not None
    async with scene.control(with_kept=False) as room:
        assert (room.desk.state.phase, room.desk.state.mode) == ("development", Mode.LATCHED)
        assert room.types == ["phase_transition", "emergency"]


async def test_what_the_disk_refused_outlives_the_control_process(scene: Scene) -> None:
    """The supervisor remembers what the store has not: the next one goes on from there."""
    async with scene.control() as room:
        await room.go_to("canary")
        with refusing_disk():
            await room.desk.apply(Pause(operator=ANN))
            version = room.desk.state.version
            assert from_json(Rollout, scene.kept[-1].decode()).version == version
            await room.store.close()
    async with scene.control() as room:
        assert (room.desk.state.paused, room.desk.state.version) == (True, version)
        stored = room.store.document(DOCUMENT)
        assert stored is not None
        assert stored.version == version


async def test_a_corrupt_store_is_latched_and_loud(scene: Scene) -> None:
    """What went before is not known: control serves until a person says otherwise."""
    async with scene.control() as room:
        await room.go_to("canary")
    (scene.directory / STORE_FILE).write_bytes(b"SQLite format 3\0" + b"junk" * 4000)
    scene.kept.clear()
    async with scene.control() as room:
        assert (room.desk.state.mode, scene.share) == (Mode.LATCHED, 0)
        assert scene.page.state().kind is LatchKind.STATE
        assert "corrupt" in scene.page.state().reason
        await room.release()
        assert room.desk.state.mode is Mode.RUNNING


@pytest.mark.parametrize("act", ["release", "advance"])
async def test_what_comes_back_from_an_unknown_share_comes_back_with_nobody(scene: Scene, act: str) -> None:
    """The initial phase may enrol everybody: a release alone does not, also of a later process."""
    async with scene.control() as room:
        await room.go_to("canary")
    (scene.directory / STORE_FILE).write_bytes(b"SQLite format 3\0" + b"junk" * 4000)
    scene.kept.clear()
    async with scene.control() as room:
        assert room.desk.state.phase == "development"
    async with scene.control() as room:
        await room.release()
        assert (room.desk.state.ceiling, scene.share) == (0, 0)
        if act == "release":
            engagement = room.latch.page.number
            await room.desk.apply(Release(operator=ANN, percentage=Fraction(7), engagement=engagement))
            assert scene.share == 7
        else:
            await room.desk.apply(Advance(operator=ANN, authority=Authority.FORCE))
            assert (room.desk.state.ceiling, scene.share) == (None, room.desk.state.share)


async def test_a_start_cut_off_while_it_moved_a_corrupt_file_leaves_nothing_open(scene: Scene) -> None:
    """The next one finds no file, and knows all the same that one was there."""
    async with scene.control() as room:
        await room.go_to("canary")
    move_aside(scene.directory / STORE_FILE, scene.now)
    scene.kept.clear()
    async with scene.control() as room:
        assert (scene.page.state().kind, room.desk.state.mode) == (LatchKind.STATE, Mode.LATCHED)
        await room.release()
        assert (room.desk.state.ceiling, scene.share) == (0, 0)


async def test_an_empty_state_directory_has_no_ceiling(scene: Scene) -> None:
    """`state.on_missing: control` latches a gateway that never ran: nothing was lost."""
    scene.page.engage(LatchKind.STATE, "the latch is missing", "gateway")
    async with scene.control() as room:
        await room.release()
        assert (room.desk.state.ceiling, scene.share) == (None, 100)


async def test_a_state_that_cannot_be_read_is_latched(scene: Scene) -> None:
    """A document of another make is as good as none."""
    scene.kept.append(b'{"version": "x"}')
    async with scene.control() as room:
        assert room.desk.state.mode is Mode.LATCHED
        assert scene.page.state().kind is LatchKind.STATE


# --- reload ----------------------------------------------------------------------------------------------


async def test_a_changed_percentage_applies_at_once_and_restarts_the_windows(scene: Scene) -> None:
    """It is in the history; a percentage of another phase restarts nothing."""
    text = "deployment: {{phases: {{development: {{user_percentage: {}}}, canary: {{user_percentage: {}}}}}}}"
    scene.text = text.format(100, 1)
    async with scene.control() as room:
        await room.serve(600.0)
        await room.desk.reload(scene.load(text.format(100, 2)))
        assert (scene.measured.restarts, room.desk.state.clocks.window) == ([], 600.0)
        await room.desk.reload(scene.load(text.format(40, 2)))
        assert (scene.share, room.desk.state.clocks.window) == (40, 0.0)
        assert scene.measured.restarts == ["windows"]
        await room.desk.reload(scene.load(text.format(40, 2) + "  # as agreed"))
        assert room.types == ["reload"] * 3
        assert [event.reason for event in room.history.recent(3)] == [
            "changed: deployment.phases",
            "changed: deployment.phases",
            "changed: comments or layout alone",
        ]


async def test_a_reload_that_drops_the_current_phase_is_refused_whole(scene: Scene) -> None:
    """State, rules and config stay."""
    async with scene.control() as room:
        loaded = room.desk.loaded
        other = "deployment: {ladder: [staging, canary, full_production]}"
        with pytest.raises(Refused) as refused:
            await room.desk.reload(scene.load(other))
        assert refused.value.refusal.code is RefusalCode.PHASE_MISSING
        assert room.desk.loaded is loaded


async def test_a_start_without_the_current_phase_is_latched(scene: Scene) -> None:
    """Kind config; putting the phase back and releasing goes on where it stood."""
    async with scene.control() as room:
        await room.go_to("canary")
    scene.text = "deployment: {ladder: [staging, limited_production, full_production]}"
    async with scene.control() as room:
        assert (room.desk.state.phase, room.desk.state.mode, scene.share) == ("canary", Mode.LATCHED, 0)
        assert scene.page.state().kind is LatchKind.CONFIG
        with pytest.raises(Refused):
            await room.release()
        scene.text = ""
        await room.desk.reload(scene.load())
        await room.release()
        assert (room.desk.state.phase, scene.share) == ("canary", 1)


async def test_a_config_that_changed_while_the_gateway_was_down_is_a_reload(scene: Scene) -> None:
    """The new share applies, and the history says when."""
    async with scene.control() as room:
        await room.go_to("canary")
    scene.text = "deployment: {phases: {canary: {user_percentage: 3}}}"
    async with scene.control(with_kept=False) as room:
        assert scene.share == 3
        assert room.types[-1] == "reload"
