"""The machine under random sequences of events: what holds whatever happens."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.store.encoding import from_json, to_json
from gateway.core import gates
from gateway.core.percentage import effective_percentage
from gateway.core.rollout import TRANSITIONS, automatic_advance, begin, reconcile, step
from gateway.model.gates import Finding, Judgement, ManualApproval, Verdict
from gateway.model.gates import TestResult as Result
from gateway.model.latch import LatchKind, LatchView
from gateway.model.rollout import (
    ROLLBACK_GATE,
    Advance,
    Approve,
    Authority,
    BeginDrain,
    BeginHold,
    BeginTrial,
    Binding,
    Cause,
    DrainStep,
    Emergency,
    EndHold,
    EndTrial,
    EngageLatch,
    Event,
    FinishTest,
    HoldKind,
    Judge,
    LatchInPlace,
    Mode,
    Pause,
    Persist,
    Publish,
    Record,
    Reject,
    Release,
    Reload,
    Resume,
    Retest,
    Rollback,
    Rollout,
    Rules,
    ServiceTick,
)
from tests.support.examples import examples
from tests.support.rollouts import (
    ANN,
    APPROVAL,
    BEN,
    ERROR_LIMIT,
    METRICS,
    NOW,
    SOAK,
    TEST,
    Drive,
    make_rules,
    phase_table,
    replay,
)

CANARY_APPROVAL = ManualApproval("canary.limited_production.manual_approval", 2, 600.0)
GATES = {"staging": (TEST, APPROVAL), "canary": (SOAK, METRICS, CANARY_APPROVAL)}
RULES = [
    make_rules(gates=GATES, automatic=("development", "canary")),
    make_rules(gates=GATES, percentages={"canary": 5, "staging": 50}, rollback_needs_approval=True),
    make_rules(disabled=("staging",), binding=Binding("deployment-2", "treatment-2"), drain_steps=1),
    make_rules(ladder=(("development", 0), ("canary", 7), ("everybody", 100))),
]
who = st.sampled_from([ANN, BEN])


def finding(verdict: Verdict) -> Finding:
    """An error rate judged so."""
    return Finding("error_rate", verdict, 0.1, ERROR_LIMIT, "")


def events() -> st.SearchStrategy[Event]:
    """Anything that can happen, in any order, sensible or not."""
    percentages = st.none() | st.fractions(0, 100, max_denominator=4)
    names = st.sampled_from([APPROVAL.id, CANARY_APPROVAL.id, ROLLBACK_GATE, "nonsense"])
    looks = st.builds(
        lambda epoch, look, verdict: Judgement(METRICS.id, epoch, look, 0.0, NOW, (finding(verdict),)),
        st.integers(0, 6),
        st.integers(1, 3),
        st.sampled_from(Verdict),
    )
    results = st.builds(
        lambda epoch, succeeded: Result(TEST.id, epoch, TEST.subject, succeeded, "", "", NOW),
        st.integers(0, 6),
        st.booleans(),
    )
    advances: st.SearchStrategy[Event] = st.builds(
        Advance, operator=who, authority=st.sampled_from(Authority)
    )
    return st.one_of(
        advances,
        advances,
        st.builds(Rollback, operator=who, cause=st.sampled_from(Cause)),
        st.builds(Emergency, operator=who),
        st.builds(LatchInPlace, operator=who, kind=st.sampled_from(LatchKind)),
        st.builds(Release, operator=who, percentage=percentages, engagement=st.integers(0, 6)),
        st.builds(Release, operator=who, percentage=percentages, engagement=st.integers(0, 6)),
        st.builds(Pause, operator=who),
        st.builds(Resume, operator=who),
        st.builds(BeginDrain, operator=who),
        st.builds(DrainStep, operator=who),
        st.builds(Approve, operator=who, gate=names, named=st.booleans()),
        st.builds(Reject, operator=who, gate=names),
        st.builds(Reload, operator=who, rules=st.sampled_from(RULES)),
        st.builds(BeginHold, operator=who, kind=st.sampled_from(HoldKind)),
        st.builds(EndHold, operator=who, kind=st.sampled_from(HoldKind)),
        st.builds(BeginTrial, operator=who, cap=st.sampled_from([Fraction(50), Fraction(3)])),
        st.builds(EndTrial, operator=who),
        st.builds(Judge, operator=who, judgement=looks),
        st.builds(FinishTest, operator=who, result=results),
        st.builds(Retest, operator=who),
        st.builds(
            ServiceTick, operator=who, seconds=st.floats(allow_nan=True), treatment_healthy=st.booleans()
        ),
    )


histories = st.lists(events(), max_size=40)
firsts = st.sampled_from(RULES)


class Walk(Drive):
    """A drive that also follows reloads, and looks at every step."""

    def walk(self, sequence: list[Event]) -> Walk:
        """Apply everything; a second passes between two events."""
        for event in sequence:
            self.now += 1.0
            before = self.state
            taken = self.apply(event)
            if isinstance(event, Reload) and taken.refusal is None:
                self.rules = event.rules
            self.check(before, event)
        return self

    def check(self, before: Rollout, event: Event) -> None:
        """What holds after every step; subclasses say."""


@examples(300)
@given(firsts, histories)
def test_the_latch_is_never_lifted_but_by_a_release(rules: Rules, history: list[Event]) -> None:
    """Whatever else happens, and however often."""

    class Checked(Walk):
        def check(self, before: Rollout, event: Event) -> None:
            if before.latch is not None and self.state.latch is None:
                assert isinstance(event, Release)
                assert event.engagement == before.engagement

    Checked(rules).walk(history)


@examples(300)
@given(firsts, histories)
def test_the_percentage_is_the_phases_the_ceilings_the_trials_or_nobody(
    rules: Rules, history: list[Event]
) -> None:
    """On its way down in a drain it is a part of that; and what was published is what is in effect."""

    class Checked(Walk):
        def check(self, before: Rollout, event: Event) -> None:
            share = effective_percentage(self.state, self.rules)
            phase = self.rules.find(self.state.phase)
            assert phase is not None
            ceiling = Fraction(100) if self.state.ceiling is None else self.state.ceiling
            cap = Fraction(100) if self.state.trial is None else self.state.trial.cap
            whole = min(phase.share, ceiling, cap)
            match self.state.mode:
                case Mode.LATCHED:
                    assert share == 0
                case Mode.DRAINING:
                    assert 0 <= share < whole or whole == 0
                case _:
                    assert share == whole
            if self.published:
                assert self.published[-1] == Publish(self.state.phase, share)
            else:
                assert (self.state.phase, share) == (rules.initial_phase, rules.phases[0].share)

    Checked(rules).walk(history)


@pytest.mark.slow
@examples(300)
@given(firsts, histories)
def test_the_history_replays_to_the_same_state(rules: Rules, history: list[Event]) -> None:
    """Also through the text that the store keeps, rules and all; but for clocks, and the numbers of looks
    that found what was found before."""
    walk = Walk(rules).walk(history)
    written = [to_json(record) for record in walk.records]
    records = [from_json(Record, text) for text in written]
    assert records == walk.records
    replayed = replay(begin(rules, NOW), rules, records)
    assert _found(replayed) == _found(walk.state)
    now = walk.state
    assert replace(replayed, clocks=now.clocks, judgements=now.judgements) == now
    assert from_json(Rollout, to_json(walk.state)) == walk.state


def test_a_history_that_does_not_follow_is_refused() -> None:
    """A line that is missing, one that could not have happened, and one of what is no step."""
    drive = Drive().go_to("canary")
    first = begin(drive.rules, NOW)
    assert replay(first, drive.rules, drive.records).phase == "canary"
    with pytest.raises(ValueError, match="version 2 follows 0"):
        replay(first, drive.rules, drive.records[1:])
    for event in (
        Release(operator=ANN, engagement=1),
        ServiceTick(operator=ANN, seconds=1.0, treatment_healthy=True),
    ):
        with pytest.raises(ValueError, match="does not follow"):
            replay(first, drive.rules, [replace(drive.records[0], event=event)])


def _found(state: Rollout) -> dict[str, object]:
    return {judgement.gate: judgement.verdicts for judgement in state.judgements}


@examples(300)
@given(firsts, histories, st.sampled_from([Emergency(operator=ANN), Rollback(operator=ANN)]))
def test_emergency_and_rollback_always_win(
    rules: Rules, history: list[Event], fall: Emergency | Rollback
) -> None:
    """In every state that can be reached: latched, at most one phase back, nobody on treatment."""
    walk = Walk(rules).walk(history)
    before = walk.state
    assert walk.apply(fall).refusal is None
    assert walk.state.mode is Mode.LATCHED
    assert effective_percentage(walk.state, walk.rules) == 0
    one_back = walk.rules.neighbour(before.phase, -1)
    stays = before.latch is not None or one_back is None
    assert walk.state.phase == (before.phase if stays or one_back is None else one_back.name)


@examples(300)
@given(firsts, histories)
def test_versions_move_with_events_and_never_with_ticks(rules: Rules, history: list[Event]) -> None:
    """One up for every line of the history; a refusal and a tick change no version."""

    class Checked(Walk):
        def check(self, before: Rollout, event: Event) -> None:
            assert self.state.version == len(self.records)
            if self.last.refusal is not None:
                assert self.last.effects == ()
                assert self.state == before
            if isinstance(event, ServiceTick):
                assert self.state.version == before.version
                assert before.clocks.service <= self.state.clocks.service <= before.clocks.service + 60

    Checked(rules).walk(history)


@examples(200)
@given(firsts, histories)
def test_what_is_asked_of_gates_never_fails(rules: Rules, history: list[Event]) -> None:
    """Every view is total, and an advance that the gateway offers is one that it may make."""
    walk = Walk(rules).walk(history)
    state, now = walk.state, walk.now
    results = gates.evaluate(state, walk.rules, now)
    assert len(results) == len(gates.gates_ahead(state, walk.rules))
    gates.schedule(state, walk.rules, now)
    gates.due_looks(state, walk.rules)
    gates.due_tests(state, walk.rules, now)
    offered = automatic_advance(state, walk.rules, now)
    if offered is not None:
        assert gates.overall(results) is Verdict.PASS
        assert step(state, offered, now, walk.rules).refusal is None


@examples(200)
@given(firsts, histories, st.integers(0, 8), st.booleans(), st.sampled_from(LatchKind))
def test_page_and_state_agree_after_reconciling(
    rules: Rules, history: list[Event], number: int, engaged: bool, kind: LatchKind
) -> None:
    """At start and at every look: one or two events settle it, and it is latched if either is, or if a
    rollback waits for an approval that nobody need give any more."""
    walk = Walk(rules).walk(history)
    waits = walk.state.pending_rollback is not None and not walk.rules.rollback_needs_approval
    was_latched = walk.state.latch is not None or waits
    number = max(number, walk.state.engagement)
    for _ in range(3):
        event = reconcile(walk.state, LatchView(number, engaged, kind, "", ANN), walk.rules)
        if event is None:
            break
        walk.latch_number = number
        walk.apply(event)
        number, engaged = max(number, walk.state.engagement), True
    else:
        pytest.fail("it never settled")
    assert (walk.state.latch is not None) is (was_latched or engaged)


@examples(200)
@given(firsts, histories)
def test_every_move_is_one_that_the_table_has(rules: Rules, history: list[Event]) -> None:
    """The table is the truth about phases, not a drawing of it."""

    class Checked(Walk):
        def check(self, before: Rollout, event: Event) -> None:
            table = phase_table(self.rules)
            for record in self.records:
                places = {table.get((record.source, mode, type(record.event))) for mode in Mode}
                assert record.target in places
            self.records.clear()

    Checked(rules).walk(history)


def test_reconciling_repairs_a_release_that_was_cut_short() -> None:
    """State says released, page says engaged: the latch stays, without another step back."""
    drive = Drive().go_to("canary")
    drive.roll_back()
    drive.release()
    page = LatchView(1, True, LatchKind.ROLLBACK, "bad", ANN)
    event = reconcile(drive.state, page, drive.rules)
    assert isinstance(event, LatchInPlace)
    drive.apply(event)
    assert (drive.state.phase, drive.state.mode) == ("staging", Mode.LATCHED)
    assert reconcile(drive.state, page, drive.rules) is None


def test_a_missing_phase_latches_at_start() -> None:
    """The config no longer has the phase that the state stands in: kind config, nobody on treatment."""
    drive = Drive().go_to("canary")
    drive.rules = make_rules(ladder=(("development", 100), ("full_production", 100)))
    event = reconcile(drive.state, LatchView(0, False, LatchKind.EMERGENCY, "", ""), drive.rules)
    assert event is not None
    drive.apply(event)
    assert drive.state.latch is not None
    assert drive.state.latch.kind is LatchKind.CONFIG
    assert drive.refused(Release(operator=ANN, engagement=1)).code.value == "phase_missing"


def test_emergency_rollback_and_reload_are_legal_in_every_mode() -> None:
    """The table itself says so."""
    for row in TRANSITIONS.values():
        assert {Emergency, Rollback, LatchInPlace, Reload} <= set(row)


def test_a_pair_that_the_table_lacks_is_refused_and_changes_nothing() -> None:
    """All of them, in each mode."""
    samples: dict[type[Event], Event] = {
        Advance: Advance(operator=ANN),
        Resume: Resume(operator=ANN),
        Approve: Approve(operator=ANN, gate=APPROVAL.id),
        DrainStep: DrainStep(operator=ANN),
        BeginDrain: BeginDrain(operator=ANN),
        Release: Release(operator=ANN),
        BeginTrial: BeginTrial(operator=ANN, cap=Fraction(50)),
        EndTrial: EndTrial(operator=ANN),
    }
    drives = {mode: Drive().go_to("canary") for mode in Mode}
    drives[Mode.PAUSED].apply(Pause(operator=ANN))
    drives[Mode.DRAINING].apply(BeginDrain(operator=ANN))
    drives[Mode.LATCHED].roll_back()
    refused = 0
    for mode, drive in drives.items():
        assert drive.state.mode is mode
        for kind, event in samples.items():
            if kind not in TRANSITIONS[mode]:
                drive.refused(event)
                refused += 1
    assert refused == 18


def test_the_written_out_table_takes_nobody_further_than_a_neighbour() -> None:
    """Phase by phase: advance one up, rollback and emergency one down, all else stays."""
    table = phase_table(RULES[0])
    assert table["canary", Mode.RUNNING, Advance] == "limited_production"
    assert table["canary", Mode.PAUSED, Rollback] == "staging"
    assert table["development", Mode.RUNNING, Emergency] == "development"
    assert table["canary", Mode.LATCHED, Rollback] == "canary"
    moves = {event for (phase, _, event), target in table.items() if target != phase}
    assert moves == {Advance, Rollback, Emergency}


def test_all_phases_can_be_advanced_through_and_a_rollback_returns_to_the_previous() -> None:
    """The mission's own readiness tests."""
    drive = Drive()
    for phase in ("staging", "canary", "limited_production", "full_production"):
        assert drive.apply(Advance(operator=ANN)).refusal is None
        assert drive.state.phase == phase
    assert drive.refused(Advance(operator=ANN)).code.value == "last_phase"
    drive = Drive().go_to("canary")
    drive.roll_back()
    assert drive.state.phase == "staging"


def test_a_failed_advance_says_for_every_gate_why() -> None:
    """And force passes them, with what they said on record."""
    drive = Drive(make_rules(gates=GATES)).go_to("canary")
    refusal = drive.refused(Advance(operator=ANN))
    assert [(result.id, result.verdict) for result in refusal.gates] == [
        (gate.id, Verdict.PENDING) for gate in GATES["canary"]
    ]
    assert all(result.worst.reason for result in refusal.gates)
    drive.apply(Advance(operator=ANN, authority=Authority.FORCE, reason="demo"))
    assert drive.records[-1].gates == refusal.gates


def test_what_lets_more_users_in_must_be_durable_and_what_takes_them_out_must_not_wait() -> None:
    """Over every event of a walk: a step up or a person's word is required to be on disk."""
    drive = Drive(make_rules(gates={"staging": (APPROVAL,)}))
    sequence: list[Event] = [
        Advance(operator=ANN),
        Approve(operator=ANN, gate=APPROVAL.id),
        Advance(operator=ANN),
        Pause(operator=ANN),
        Resume(operator=ANN),
        BeginTrial(operator="gateway", cap=Fraction(50)),
        EndTrial(operator="gateway"),
        BeginDrain(operator=ANN),
        Emergency(operator=ANN),
        Release(operator=ANN, engagement=1),
    ]
    durabilities = []
    for event in sequence:
        (persist,) = [effect for effect in drive.apply(event).effects if isinstance(effect, Persist)]
        durabilities.append(persist.durability.value)
    required, best_effort = "required", "best_effort"
    before, trial, after = durabilities[:5], durabilities[5:7], durabilities[7:]
    assert before == [required] * 3 + [best_effort, required]
    assert trial == [best_effort, required]
    assert after == [best_effort, best_effort, required]


@given(firsts, histories)
def test_a_flip_of_the_latch_is_an_answer_of_its_own(rules: Rules, history: list[Event]) -> None:
    """Where the latch is to be flipped first, nothing else is done and nothing has changed."""
    walk = Walk(rules).walk(history)
    for event in (Emergency(operator=ANN), Rollback(operator=ANN, cause=Cause.SYSTEM_FAILURE)):
        taken = step(walk.state, event, walk.now, walk.rules)
        assert taken.state == walk.state
        assert [type(effect) for effect in taken.effects] == [EngageLatch]
