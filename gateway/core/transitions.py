"""What each event does to the rollout's state if it is legal: one function per event.

Pure: a function gets the state, the event, the time and the rules, and returns the state after it and the
effects that only this event has. The table in `core.rollout` says which function applies when;
`core.rollout` also adds what all steps have in common: the version, the record, the publication.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from gateway.core import advice, gates
from gateway.core.percentage import effective_percentage
from gateway.model.alerts import Severity
from gateway.model.gates import GateResult, ManualApproval, Verdict
from gateway.model.latch import LatchKind
from gateway.model.rollout import (
    ROLLBACK_GATE,
    Advance,
    AdvanceMode,
    Approve,
    Authority,
    BeginDrain,
    BeginHold,
    BeginTrial,
    Cause,
    Clocks,
    Drain,
    DrainStep,
    Effect,
    Emergency,
    EndHold,
    EndTrial,
    EngageLatch,
    FinishTest,
    Hold,
    HoldKind,
    Judge,
    Latched,
    LatchInPlace,
    Notify,
    Pause,
    PendingRollback,
    PhaseRules,
    Refusal,
    RefusalCode,
    Reject,
    Release,
    ReleaseLatch,
    Reload,
    RestartEvidence,
    RestartWindows,
    Resume,
    Retest,
    Rollback,
    RolledBackFrom,
    Rollout,
    Rules,
    RunHooks,
    ServiceTick,
    Stance,
    Trial,
    Vote,
)

LONGEST_TICK = 60.0
"""Seconds that one tick adds at most: a process that slept longer did not watch the service."""


@dataclass(frozen=True, slots=True)
class Change:
    """The state after an event, the effects that only this event has, and what the gates said."""

    state: Rollout
    effects: tuple[Effect, ...] = ()
    gates: tuple[GateResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A change outside the history: a clock that moved, a gate that found what it had found before, a latch
    to flip first, or nothing at all."""

    state: Rollout
    effects: tuple[Effect, ...] = ()


Outcome: TypeAlias = Change | Unrecorded | Refusal
Handler: TypeAlias = Callable[[Rollout, Any, float, Rules], Outcome]


# --- forwards -----------------------------------------------------------------------------------


def advance(state: Rollout, event: Advance, at: float, rules: Rules) -> Outcome:
    """To the next phase if holds and gates allow it, or by force."""
    target = rules.neighbour(state.phase, 1)
    if target is None:
        return Refusal(RefusalCode.LAST_PHASE, f"{state.phase} is the last phase")
    if event.authority is Authority.AUTOMATIC and not _moves_by_itself(state, target, rules):
        return Refusal(RefusalCode.AUTOMATIC_OFF, f"nothing advances into {target.name} by itself")
    results = gates.evaluate(state, rules, at)
    refusal = _obstacle(state, event.authority, results)
    if refusal is not None:
        return refusal
    entered = _fresh_epoch(state, target, at)
    if event.authority is not Authority.AUTOMATIC:
        entered = replace(entered, automatic_off=_without(state.automatic_off, target.name))
    notice = Notify(Severity.LOW, f"advanced to {target.name}", _by(event))
    return Change(replace(entered, ceiling=None), (notice,), results)


def _moves_by_itself(state: Rollout, target: PhaseRules, rules: Rules) -> bool:
    phase = rules.find(state.phase)
    automatic = phase is not None and phase.advance is AdvanceMode.AUTOMATIC
    return automatic and target.name not in state.automatic_off


def _obstacle(state: Rollout, authority: Authority, results: tuple[GateResult, ...]) -> Refusal | None:
    """What stands in the way. Force passes gates and holds, but not a rollback that is being asked for."""
    forced = authority is Authority.FORCE
    for hold in state.holds:
        if not forced or hold.kind is HoldKind.PENDING_ROLLBACK:
            return Refusal(RefusalCode.HELD, f"held by {hold.kind}: {hold.reason}", results)
    if not forced and gates.overall(results) is not Verdict.PASS:
        return Refusal(RefusalCode.GATES, "not every gate has passed", results)
    return None


def _fresh_epoch(state: Rollout, phase: PhaseRules | None, at: float) -> Rollout:
    """The state with everything counted so far reset, in `phase` (None: the same phase)."""
    if phase is not None and phase.name != state.phase:
        state = replace(state, phase=phase.name, since=at)
    return replace(
        state,
        share=phase.share if phase is not None else state.share,
        epoch=state.epoch + 1,
        clocks=Clocks(),
        drain=None,
        trial=None,
        pending_rollback=None,
        holds=(),
        votes=(),
        judgements=(),
        tests=(),
    )


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(item for item in names if item != name)


# --- backwards ----------------------------------------------------------------------------------


def fall_back(state: Rollout, event: Rollback | Emergency, at: float, rules: Rules) -> Outcome:
    """Everything to control, then one phase back: once per engagement, and no further while latched."""
    kind = LatchKind.EMERGENCY if isinstance(event, Emergency) else LatchKind.ROLLBACK
    if event.engagement is None:
        if _must_ask(state, event, rules):
            return _ask(state, event, at)
        return Unrecorded(state, (EngageLatch(kind, event),))
    if event.engagement <= state.engagement:
        return Unrecorded(state)
    if state.latch is not None:
        return _engaged_again(state, event, kind)
    previous = rules.neighbour(state.phase, -1) or rules.find(state.phase)
    failed = (*_without(state.automatic_off, state.phase), state.phase)
    fallen = _latched(state, event, kind, at, rules)
    fallen = replace(_fresh_epoch(fallen, previous, at), automatic_off=failed)
    moved = f" to {fallen.phase}" if fallen.phase != state.phase else ""
    title = f"{kind}: {state.phase}{moved}, everything to control"
    notice = Notify(Severity.CRITICAL, title, _by(event), advice.AFTER_FALL)
    return Change(fallen, (RunHooks(), notice))


def _must_ask(state: Rollout, event: Rollback | Emergency, rules: Rules) -> bool:
    asks = rules.rollback_needs_approval and isinstance(event, Rollback) and event.cause.is_judgement
    return asks and state.latch is None


def _ask(state: Rollout, event: Rollback | Emergency, at: float) -> Outcome:
    assert isinstance(event, Rollback)
    if state.pending_rollback is not None:
        return Unrecorded(state)
    pending = PendingRollback(event.cause, event.reason, event.evidence, at)
    held = _held(state, Hold(HoldKind.PENDING_ROLLBACK, event.reason, at))
    title = f"rollback of {state.phase} waits for approval"
    notice = Notify(Severity.CRITICAL, title, event.reason, advice.on_hold(HoldKind.PENDING_ROLLBACK))
    return Change(replace(held, pending_rollback=pending), (notice,))


def _latched(
    state: Rollout, event: Rollback | Emergency | LatchInPlace, kind: LatchKind, at: float, rules: Rules
) -> Rollout:
    assert event.engagement is not None
    before_drain = replace(state, drain=None)  # the end of a drain is nobody: no share to come back to
    if rules.find(state.phase) is None:  # nor is that of a phase that the config lost
        percentage = state.share if state.ceiling is None else min(state.share, state.ceiling)
    else:
        percentage = effective_percentage(before_drain, rules)
    return replace(
        state,
        latch=Latched(kind, event.reason, event.operator, at),
        engagement=max(state.engagement, event.engagement),
        rolled_back_from=RolledBackFrom(state.phase, percentage),
        ceiling=None,
    )


def _engaged_again(state: Rollout, event: Rollback | Emergency | LatchInPlace, kind: LatchKind) -> Change:
    """Only recorded, unless it is the first emergency: that takes over from what is milder, and is told."""
    assert state.latch is not None
    assert event.engagement is not None
    again = replace(state, engagement=max(state.engagement, event.engagement))
    if kind is not LatchKind.EMERGENCY or state.latch.kind is LatchKind.EMERGENCY:
        return Change(again)
    latch = replace(state.latch, kind=kind, reason=event.reason, operator=event.operator)
    title = f"{kind} in {state.phase}, latched already ({state.latch.kind}): everything stays on control"
    notice = Notify(Severity.HIGH, title, _by(event), advice.AFTER_FALL)
    return Change(replace(again, latch=latch), (notice,))


def latch_in_place(state: Rollout, event: LatchInPlace, at: float, rules: Rules) -> Outcome:
    """Everything to control in the same phase: treatment did not fail, the gateway's own knowledge did."""
    if event.engagement is None:
        return Unrecorded(state, (EngageLatch(event.kind, event),))
    if state.latch is not None:
        if event.engagement <= state.engagement:
            return Unrecorded(state)
        return _engaged_again(state, event, event.kind)
    latched = _latched(state, event, event.kind, at, rules)
    title = f"latched ({event.kind}): everything to control"
    notice = Notify(Severity.CRITICAL, title, event.reason, advice.AFTER_LATCH)
    return Change(_fresh_epoch(latched, rules.find(state.phase), at), (notice,))


def release(state: Rollout, event: Release, at: float, rules: Rules) -> Outcome:
    """Lift the latch; treatment gets at most the percentage that was rolled back from."""
    phase = rules.find(state.phase)
    if phase is None:
        return Refusal(
            RefusalCode.PHASE_MISSING, f"the config has no phase {state.phase}: put it back, then release"
        )
    if event.engagement != state.engagement:
        return Refusal(
            RefusalCode.STALE, f"the current engagement is {state.engagement}, not {event.engagement}"
        )
    ceiling = event.percentage
    if ceiling is None and state.rolled_back_from is not None:
        ceiling = state.rolled_back_from.percentage
    if ceiling is not None and ceiling >= phase.share:
        ceiling = None
    released = replace(state, latch=None, rolled_back_from=None, ceiling=ceiling)
    notice = Notify(Severity.HIGH, f"latch released in {state.phase}", _by(event), advice.AFTER_RELEASE)
    return Change(_fresh_epoch(released, phase, at), (ReleaseLatch(state.engagement), notice))


def set_ceiling(state: Rollout, event: Release, at: float, rules: Rules) -> Outcome:
    """Without a latch, a release can only change the ceiling, and must say to which percentage."""
    phase = rules.find(state.phase)
    if event.percentage is None or phase is None:
        return Refusal(RefusalCode.NOT_APPLICABLE, "the latch is not engaged: there is nothing to release")
    ceiling = event.percentage if event.percentage < phase.share else None
    return _restarted_if_moved(state, replace(state, ceiling=ceiling), rules)


def _restarted_if_moved(before: Rollout, after: Rollout, rules: Rules) -> Change:
    """Restart the windows if the share changed: no gate judges a mixture of two shares."""
    if effective_percentage(before, rules) == effective_percentage(after, rules):
        return Change(after)
    return Change(_fresh_windows(after), (RestartWindows(),))


def _fresh_windows(state: Rollout) -> Rollout:
    return replace(state, clocks=replace(state.clocks, window=0.0), judgements=())


# --- standing still -----------------------------------------------------------------------------


def pause(state: Rollout, event: Pause, at: float, rules: Rules) -> Outcome:
    """No advance from now on; alerts and automatic rollback continue."""
    if state.paused:
        return Refusal(RefusalCode.NOT_APPLICABLE, "the rollout is paused already")
    return Change(replace(state, paused=True))


def resume(state: Rollout, event: Resume, at: float, rules: Rules) -> Outcome:
    """The pause ends."""
    if not state.paused:
        return Refusal(RefusalCode.NOT_APPLICABLE, "the rollout is not paused")
    return Change(replace(state, paused=False))


def begin_drain(state: Rollout, event: BeginDrain, at: float, rules: Rules) -> Outcome:
    """The first step of a graceful rollback; earlier approvals become void.

    Without steps (`drain.over: 0s`) it is the rollback itself.
    """
    if not rules.drain_steps:
        rollback = Rollback(
            operator=event.operator, reason=event.reason, metadata=event.metadata, cause=Cause.DRAINED
        )
        return Unrecorded(state, (EngageLatch(LatchKind.ROLLBACK, rollback),))
    notice = Notify(Severity.HIGH, f"draining {state.phase}", _by(event), advice.DURING_DRAIN)
    drain = Drain(1, rules.drain_steps, event.operator, event.reason)
    void = _void_approvals(state, f"{event.operator} began to drain {state.phase}")
    return Change(replace(state, drain=drain, votes=void), (notice,))


def drain_step(state: Rollout, event: DrainStep, at: float, rules: Rules) -> Outcome:
    """One step further down; after the last one only the rollback itself remains."""
    drain = state.drain
    assert drain is not None  # the table has this event in draining only
    if drain.step >= drain.steps:
        return Refusal(RefusalCode.NOT_APPLICABLE, "the drain is at its end")
    return Change(replace(state, drain=replace(drain, step=drain.step + 1)))


_HOLD_SEVERITY = {
    HoldKind.EVIDENCE: Severity.MEDIUM,  # nobody is woken for what is decided without them, in seconds
    HoldKind.SAMPLE_RATIO: Severity.HIGH,
    HoldKind.SHARED_OUTAGE: Severity.CRITICAL,
}


def begin_hold(state: Rollout, event: BeginHold, at: float, rules: Rules) -> Outcome:
    """No advance from now on; approvals given without knowing of this become void."""
    if event.kind is HoldKind.PENDING_ROLLBACK:
        return Refusal(RefusalCode.NOT_APPLICABLE, "only an automatic rollback can wait for approval")
    if any(hold.kind is event.kind for hold in state.holds):
        return Unrecorded(state)
    title = f"{state.phase} is held: {event.kind}"
    notice = Notify(_HOLD_SEVERITY[event.kind], title, event.reason, advice.on_hold(event.kind))
    return Change(_held(state, Hold(event.kind, event.reason, at)), (notice,))


def _held(state: Rollout, hold: Hold) -> Rollout:
    return replace(state, holds=(*state.holds, hold), votes=_void_approvals(state, f"held by {hold.kind}"))


def _void_approvals(state: Rollout, why: str) -> tuple[Vote, ...]:
    """The votes, with all approvals void. They are kept so that their operators see why."""
    return tuple(vote if vote.stance is Stance.REJECTED else _void(vote, why) for vote in state.votes)


def _void(vote: Vote, why: str) -> Vote:
    return replace(vote, void=vote.void or why)


def end_hold(state: Rollout, event: EndHold, at: float, rules: Rules) -> Outcome:
    """One reason to hold is gone."""
    if event.kind is HoldKind.PENDING_ROLLBACK:
        return Refusal(RefusalCode.NOT_APPLICABLE, "a rollback that waits is approved or rejected")
    return _hold_lifted(state, event.kind)


def _hold_lifted(state: Rollout, kind: HoldKind) -> Outcome:
    left = tuple(hold for hold in state.holds if hold.kind is not kind)
    return Unrecorded(state) if left == state.holds else Change(replace(state, holds=left))


# --- a trial ------------------------------------------------------------------------------------


def begin_trial(state: Rollout, event: BeginTrial, at: float, rules: Rules) -> Outcome:
    """The users enrolled last go to control at once, for comparison; nobody else moves."""
    if state.trial is not None:
        return Unrecorded(state)
    begun = replace(state, trial=Trial(event.cap, event.reason, at))
    title = f"trial of {state.phase}: no control to compare with"
    notice = Notify(Severity.CRITICAL, title, event.reason, advice.DURING_TRIAL)
    change = _restarted_if_moved(state, begun, rules)
    return replace(change, effects=(*change.effects, notice))


def end_trial(state: Rollout, event: EndTrial, at: float, rules: Rules) -> Outcome:
    """The users who left treatment for the trial come back."""
    if state.trial is None:
        return Unrecorded(state)
    return _restarted_if_moved(state, replace(state, trial=None), rules)


def _by(event: Advance | Rollback | Emergency | LatchInPlace | Release | BeginDrain) -> str:
    """Who did it and why, for people."""
    return f"{event.operator}: {event.reason or 'no reason given'}"


# --- gates --------------------------------------------------------------------------------------


def approve(state: Rollout, event: Approve, at: float, rules: Rules) -> Outcome:
    """A vote for a gate. For the gate of a pending rollback, it triggers that rollback."""
    if event.gate == ROLLBACK_GATE and state.pending_rollback is not None:
        pending = state.pending_rollback
        said = f": {event.reason}" if event.reason else ""
        reason = f"{pending.reason} (approved{said})"
        rollback = Rollback(
            operator=event.operator,
            reason=reason,
            metadata=event.metadata,
            cause=pending.cause,
            evidence=pending.evidence,
        )
        return Unrecorded(state, (EngageLatch(LatchKind.ROLLBACK, rollback),))
    gate = _approval_gate(event.gate, state, rules)
    if isinstance(gate, Refusal):
        return gate
    if gate.approvals > 1 and not event.named:
        return Refusal(RefusalCode.UNNAMED, f"{gate.id} needs {gate.approvals} operators with tokens")
    expires = None if gate.expires is None else at + gate.expires
    vote = Vote(
        gate.id, event.operator, Stance.APPROVED, at, expires, state.binding, event.reason, event.metadata
    )
    return Change(_voted(state, vote))


def reject(state: Rollout, event: Reject, at: float, rules: Rules) -> Outcome:
    """A vote against a gate. A pending rollback is dropped, together with its evidence."""
    if event.gate == ROLLBACK_GATE and state.pending_rollback is not None:
        dropped = replace(_nothing_asked(state), trial=None)
        return Change(_fresh_windows(dropped), (RestartEvidence(),))
    gate = _approval_gate(event.gate, state, rules)
    if isinstance(gate, Refusal):
        return gate
    vote = Vote(gate.id, event.operator, Stance.REJECTED, at, None, state.binding, event.reason)
    return Change(_voted(state, vote))


def _nothing_asked(state: Rollout) -> Rollout:
    """The state without the rollback that waits for a person, and without its hold."""
    left = tuple(hold for hold in state.holds if hold.kind is not HoldKind.PENDING_ROLLBACK)
    return replace(state, pending_rollback=None, holds=left)


def _approval_gate(name: str, state: Rollout, rules: Rules) -> ManualApproval | Refusal:
    ahead = gates.gates_ahead(state, rules)
    for gate in ahead:
        if gate.id == name and isinstance(gate, ManualApproval):
            return gate
    known = ", ".join(gate.id for gate in ahead if isinstance(gate, ManualApproval)) or "none"
    return Refusal(RefusalCode.UNKNOWN_GATE, f"no gate {name} waits for approval; those that do: {known}")


def _voted(state: Rollout, vote: Vote) -> Rollout:
    """The newest vote of an operator on a gate replaces the one before."""
    others = tuple(item for item in state.votes if (item.gate, item.operator) != (vote.gate, vote.operator))
    return replace(state, votes=(*others, vote))


def judge(state: Rollout, event: Judge, at: float, rules: Rules) -> Outcome:
    """A judgement holds until the next look. A worse one, or a first one that fails, voids the approvals.

    If it has the same result as the last one, only the numbers change and nothing is recorded.
    """
    new = event.judgement
    old = next((item for item in state.judgements if item.gate == new.gate), None)
    ahead = any(gate.id == new.gate for gate in gates.gates_ahead(state, rules))
    repeated = old is not None and new.look <= old.look
    if new.epoch != state.epoch or new.window > state.clocks.window or repeated or not ahead:
        return Refusal(RefusalCode.STALE, f"the judgement of {new.gate} is outdated")
    others = tuple(item for item in state.judgements if item.gate != new.gate)
    judged = replace(state, judgements=(*others, new))
    if old is not None and old.verdicts == new.verdicts:
        return Unrecorded(judged)
    if new.verdict > (Verdict.INCONCLUSIVE if old is None else old.verdict):
        judged = replace(judged, votes=_void_approvals(state, f"{new.gate} became worse"))
    return Change(judged)


def finish_test(state: Rollout, event: FinishTest, at: float, rules: Rules) -> Outcome:
    """A result holds for this epoch, or until a failed test is run again."""
    result = event.result
    ahead = any(gate.id == result.gate for gate in gates.gates_ahead(state, rules))
    if result.epoch != state.epoch or not ahead:
        return Refusal(RefusalCode.STALE, f"the result of {result.gate} is outdated")
    others = tuple(test for test in state.tests if test.gate != result.gate)
    return Change(replace(state, tests=(*others, result)))


def retest(state: Rollout, event: Retest, at: float, rules: Rules) -> Outcome:
    """Failed tests are forgotten, so they are due again."""
    passed = tuple(test for test in state.tests if test.succeeded)
    return Unrecorded(state) if passed == state.tests else Change(replace(state, tests=passed))


# --- the rest -----------------------------------------------------------------------------------


def reload(state: Rollout, event: Reload, at: float, rules: Rules) -> Outcome:
    """The new rules apply at once; approvals given for other rules become void.

    A rollback that waits for approval is dropped if treatment is another one now. It is dropped too if
    nobody need approve it any more and what asked for it looks again and again: the next look decides.
    """
    phase = event.rules.find(state.phase)
    if phase is None:
        return Refusal(RefusalCode.PHASE_MISSING, f"{state.phase} is the current phase: it cannot be removed")
    after = replace(state, share=phase.share, binding=event.rules.binding)
    if after.binding != state.binding:
        void = tuple(_void(vote, "a reload changed what it was given for") for vote in state.votes)
        after = replace(after, votes=void, automatic_off=())
    if after.binding.treatment != state.binding.treatment:
        after = replace(_fresh_windows(_nothing_asked(after)), tests=(), trial=None)
        return Change(after, (RestartEvidence(),))
    pending = state.pending_rollback
    if pending is not None and pending.cause.is_repeated and not event.rules.rollback_needs_approval:
        after = _nothing_asked(after)
    if after.share != state.share:
        return Change(_fresh_windows(after), (RestartWindows(),))
    return Change(after)


def tick(state: Rollout, event: ServiceTick, at: float, rules: Rules) -> Outcome:
    """Both clocks count healthy service; a pause stops the clock of the time gates."""
    seconds = min(max(0.0, event.seconds), LONGEST_TICK)
    if not event.treatment_healthy or seconds == 0.0:
        return Unrecorded(state)
    service = state.clocks.service if state.paused else state.clocks.service + seconds
    return Unrecorded(replace(state, clocks=Clocks(service, state.clocks.window + seconds)))


def stand_still(state: Rollout, event: ServiceTick, at: float, rules: Rules) -> Outcome:
    """No clock runs while treatment serves nobody on purpose."""
    return Unrecorded(state)
