"""The rollout's state machine: one transition table, and the step that applies it.

`step` is pure and total: state, event, time and rules in; the next state and the effects out. An event
that the table does not have for a mode is refused and changes nothing. Emergency and rollback are in
every row, so they win over whatever is in progress.

Nothing is done here: the control process carries out the effects, in their order.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.core import gates, transitions
from gateway.core.percentage import effective_percentage
from gateway.core.transitions import Change, Handler, Unrecorded
from gateway.model.gates import Verdict
from gateway.model.latch import LatchKind, LatchView
from gateway.model.rollout import (
    Advance,
    AdvanceMode,
    Approve,
    Authority,
    BeginDrain,
    BeginHold,
    BeginTrial,
    Cause,
    DrainStep,
    Durability,
    Effect,
    Emergency,
    EndHold,
    EndTrial,
    Event,
    FinishTest,
    Judge,
    LatchInPlace,
    Mode,
    Pause,
    Persist,
    Publish,
    Record,
    Refusal,
    RefusalCode,
    Reject,
    Release,
    Reload,
    RestartEvidence,
    Resume,
    Retest,
    Rollback,
    Rollout,
    Rules,
    ServiceTick,
    Step,
)

GATEWAY = "gateway"
"""Who is named as the operator of what the gateway does by itself."""


class Move(enum.Enum):
    """Which phase an event leads to."""

    STAY = 0
    NEXT = 1
    PREVIOUS = -1


@dataclass(frozen=True, slots=True)
class Rule:
    """What an event does in a mode: which phase it leads to, and the function that computes the rest.

    REQUIRED: the step lets more users in or relies on a person's decision, so it has no effect until it is
    on disk. A step towards control never waits for a disk.
    """

    move: Move
    handler: Handler
    durability: Durability = Durability.BEST_EFFORT


_REQUIRED = Durability.REQUIRED

_EVERYWHERE: Mapping[type[Event], Rule] = {
    LatchInPlace: Rule(Move.STAY, transitions.latch_in_place),
    Reload: Rule(Move.STAY, transitions.reload),
}
_SERVING: Mapping[type[Event], Rule] = {
    **_EVERYWHERE,
    Rollback: Rule(Move.PREVIOUS, transitions.fall_back),
    Emergency: Rule(Move.PREVIOUS, transitions.fall_back),
    BeginHold: Rule(Move.STAY, transitions.begin_hold),
    EndHold: Rule(Move.STAY, transitions.end_hold),
}
_ASKING: Mapping[type[Event], Rule] = {
    **_SERVING,
    Release: Rule(Move.STAY, transitions.set_ceiling, _REQUIRED),
    BeginDrain: Rule(Move.STAY, transitions.begin_drain),
    BeginTrial: Rule(Move.STAY, transitions.begin_trial),
    EndTrial: Rule(Move.STAY, transitions.end_trial, _REQUIRED),
    Approve: Rule(Move.STAY, transitions.approve, _REQUIRED),
    Reject: Rule(Move.STAY, transitions.reject),
    Judge: Rule(Move.STAY, transitions.judge),
    FinishTest: Rule(Move.STAY, transitions.finish_test),
    Retest: Rule(Move.STAY, transitions.retest),
    ServiceTick: Rule(Move.STAY, transitions.tick),
}

TRANSITIONS: Mapping[Mode, Mapping[type[Event], Rule]] = {
    Mode.RUNNING: {
        **_ASKING,
        Advance: Rule(Move.NEXT, transitions.advance, _REQUIRED),
        Pause: Rule(Move.STAY, transitions.pause),
    },
    Mode.PAUSED: {
        **_ASKING,
        Resume: Rule(Move.STAY, transitions.resume, _REQUIRED),
    },
    Mode.DRAINING: {
        **_SERVING,
        DrainStep: Rule(Move.STAY, transitions.drain_step),
        Pause: Rule(Move.STAY, transitions.pause),
        ServiceTick: Rule(Move.STAY, transitions.stand_still),
    },
    Mode.LATCHED: {
        **_EVERYWHERE,
        Rollback: Rule(Move.STAY, transitions.fall_back),
        Emergency: Rule(Move.STAY, transitions.fall_back),
        Release: Rule(Move.STAY, transitions.release, _REQUIRED),
        Pause: Rule(Move.STAY, transitions.pause),
        ServiceTick: Rule(Move.STAY, transitions.stand_still),
    },
}
"""Mode and event to what happens. A missing pair is illegal: refused, state unchanged."""


def begin(rules: Rules, at: float) -> Rollout:
    """The state of a gateway that never ran: the initial phase, nothing gathered.

    Raises ValueError if the rules do not have their own initial phase.
    """
    phase = rules.find(rules.initial_phase)
    if phase is None:
        raise ValueError(f"there is no phase {rules.initial_phase}")
    return Rollout(0, phase.name, at, 0, phase.share, rules.binding)


def step(state: Rollout, event: Event, at: float, rules: Rules) -> Step:
    """What `event` at time `at` makes of `state`.

    `rules` are those in force before the event; a `Reload` brings its own. Where the answer has an
    `EngageLatch`, that is its only effect and the state is the one before: flip first, then step again.
    """
    rule = TRANSITIONS[state.mode].get(type(event))
    if rule is None:
        return Step(state, refusal=_illegal(state))
    outcome = rule.handler(state, event, at, rules)
    match outcome:
        case Refusal():
            return Step(state, refusal=outcome)
        case Unrecorded():
            return Step(outcome.state, outcome.effects)
        case Change():
            return _recorded(state, event, at, rules, change=outcome, durability=rule.durability)


def _recorded(
    before: Rollout, event: Event, at: float, rules: Rules, *, change: Change, durability: Durability
) -> Step:
    """What every step has in common: the version, the record, the publication, fresh evidence."""
    after = replace(change.state, version=before.version + 1)
    new_rules = event.rules if isinstance(event, Reload) else rules
    percentage = effective_percentage(after, new_rules)
    record = Record(
        after.version, at, event, before.clocks, before.phase, after.phase, percentage, change.gates
    )
    effects: list[Effect] = [Persist(record, durability)]
    moved = (before.phase, effective_percentage(before, rules)) != (after.phase, percentage)
    if moved or isinstance(event, Reload):
        effects.append(Publish(after.phase, percentage))
    if after.epoch != before.epoch:
        effects.append(RestartEvidence())
    return Step(after, (*effects, *change.effects))


def _illegal(state: Rollout) -> Refusal:
    match state.mode:
        case Mode.LATCHED:
            assert state.latch is not None
            reason = f"the latch is engaged ({state.latch.kind}: {state.latch.reason}): release it first"
            return Refusal(RefusalCode.LATCHED, reason)
        case Mode.DRAINING:
            reason = "a graceful rollback is under way: now there is only rollback, emergency and pause"
            return Refusal(RefusalCode.DRAINING, reason)
        case Mode.PAUSED:
            return Refusal(RefusalCode.PAUSED, "the rollout is paused: nothing advances until it is resumed")
        case Mode.RUNNING:
            return Refusal(RefusalCode.NOT_APPLICABLE, "the rollout is neither paused nor draining")


def automatic_advance(state: Rollout, rules: Rules, at: float) -> Advance | None:
    """The automatic advance that is due now, or None."""
    phase = rules.find(state.phase)
    if phase is None or phase.advance is not AdvanceMode.AUTOMATIC:
        return None
    if gates.overall(gates.evaluate(state, rules, at)) is not Verdict.PASS:
        return None
    event = Advance(operator=GATEWAY, reason="every gate has passed", authority=Authority.AUTOMATIC)
    return event if step(state, event, at, rules).refusal is None else None


def reconcile(state: Rollout, latch: LatchView, rules: Rules) -> Event | None:
    """What page, config and state do not agree on, as the event that settles it; None if they agree.

    For the start and for every look at the page. An engaged page wins over a state that is not
    latched, and a latched state over a page that is not engaged: only a release lifts either.
    """
    if latch.engaged and latch.number > state.engagement:
        return _engagement(latch)
    if latch.engaged and state.latch is None:
        return LatchInPlace(
            operator=latch.operator, reason=latch.reason, kind=latch.kind, engagement=latch.number
        )
    if state.latch is not None and not latch.engaged:
        return LatchInPlace(operator=GATEWAY, reason=state.latch.reason, kind=state.latch.kind)
    if state.latch is None and rules.find(state.phase) is None:
        reason = f"the config has no phase {state.phase}, where the rollout stands"
        return LatchInPlace(operator=GATEWAY, reason=reason, kind=LatchKind.CONFIG)
    pending = state.pending_rollback
    if pending is not None and not rules.rollback_needs_approval:
        return Rollback(
            operator=GATEWAY, reason=pending.reason, cause=pending.cause, evidence=pending.evidence
        )
    return None


def _engagement(latch: LatchView) -> Event:
    operator, reason, number = latch.operator, latch.reason, latch.number
    match latch.kind:
        case LatchKind.EMERGENCY:
            return Emergency(operator=operator, reason=reason, engagement=number)
        case LatchKind.ROLLBACK:
            return Rollback(operator=operator, reason=reason, cause=Cause.OPERATOR, engagement=number)
        case LatchKind.CONFIG | LatchKind.STATE | LatchKind.CORRUPT:
            return LatchInPlace(operator=operator, reason=reason, kind=latch.kind, engagement=number)
