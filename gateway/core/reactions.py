"""What a conclusion about treatment means for the rollout: the events that follow, if any.

A pure function of the conclusion and the state of the rollout. What already holds is not begun again, so
asking twice does no harm. How the conclusion was reached, by evidence or by a plain threshold, is only
passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from gateway.core.evidence.assessment import Verdict
from gateway.core.evidence.state import HOLD_FROM
from gateway.core.rollout import GATEWAY
from gateway.model.rollout import (
    BeginHold,
    BeginTrial,
    Cause,
    EndHold,
    EndTrial,
    Event,
    HoldKind,
    Mode,
    Rollback,
    Rollout,
)

TRIAL_CAP = Fraction(50)
"""Percent of the users that a trial leaves enrolled at most: two arms of one size tell most."""
HELD_UNTIL = HOLD_FROM / 2
"""A hold ends when the evidence has fallen below this; nearer to where it began it would come and go."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What was found out. `strongest` is the largest evidence on any guardrail.

    `caps_share`: there is nobody to compare with, unless treatment gets less of the users. `evidence` is
    what the history keeps of it, `reason` a sentence for people, `cause` how it was reached.
    """

    verdict: Verdict
    reason: str
    strongest: float = 0.0
    caps_share: bool = False
    evidence: Mapping[str, object] = field(default_factory=dict)
    cause: Cause = Cause.EVIDENCE


def reactions(found: Conclusion, state: Rollout) -> tuple[Event, ...]:
    """The events that follow, in their order; none while the latch is engaged."""
    if state.latch is not None:
        return ()
    if found.verdict is Verdict.ROLL_BACK:
        if state.pending_rollback is not None:
            return ()
        return (Rollback(operator=GATEWAY, reason=found.reason, cause=found.cause, evidence=found.evidence),)
    return (*_trial(found, state), *_holds(found, state))


def _trial(found: Conclusion, state: Rollout) -> Iterator[Event]:
    if state.mode is Mode.DRAINING:
        return  # nobody new is enrolled, and everybody is on the way out
    if found.caps_share and state.trial is None:
        yield BeginTrial(operator=GATEWAY, reason=found.reason, cap=TRIAL_CAP)
    elif not found.caps_share and state.trial is not None:
        yield EndTrial(operator=GATEWAY, reason=found.reason)


def _holds(found: Conclusion, state: Rollout) -> Iterator[Event]:
    held = {hold.kind for hold in state.holds}
    wanted = _WANTED.get(found.verdict)
    if wanted is not None and wanted not in held:
        yield BeginHold(operator=GATEWAY, reason=found.reason, kind=wanted)
    if found.verdict is Verdict.QUIET and found.strongest < HELD_UNTIL:
        for kind in (HoldKind.EVIDENCE, HoldKind.SHARED_OUTAGE):
            if kind in held:
                yield EndHold(operator=GATEWAY, reason=found.reason, kind=kind)


_WANTED: Mapping[Verdict, HoldKind] = {
    Verdict.HOLD: HoldKind.EVIDENCE,
    Verdict.TRIAL: HoldKind.EVIDENCE,
    Verdict.SHARED_OUTAGE: HoldKind.SHARED_OUTAGE,
}
"""The hold that a verdict asks for."""
