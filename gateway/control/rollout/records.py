"""Records of the state machine as lines of the history: type, phases, evidence.

Pure translation of values. It decides nothing and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.control.history import Event, EventType, with_metadata
from gateway.control.rollout.views import Document, gate, number
from gateway.model.gates import Judgement, TestResult
from gateway.model.rollout import (
    ROLLBACK_GATE,
    Advance,
    Approve,
    BeginDrain,
    BeginHold,
    BeginTrial,
    DrainStep,
    Emergency,
    EndHold,
    EndTrial,
    FinishTest,
    Judge,
    LatchInPlace,
    Pause,
    PendingRollback,
    Record,
    Reject,
    Release,
    Reload,
    Resume,
    Retest,
    Rollback,
    ServiceTick,
)


@dataclass(frozen=True, slots=True)
class Digests:
    """The config before and after an event: the same unless it is a reload."""

    before: str | None
    after: str


def describe(
    record: Record, digests: Digests, *, repeated: bool = False, dropped: PendingRollback | None = None
) -> Event:
    """The line of the history that a record is.

    `repeated`: the latch was engaged already; `dropped` is a rollback that waits for approval no more.
    """
    kind, evidence = _particulars(record)
    if dropped is not None:
        evidence["dropped"] = {"gate": ROLLBACK_GATE, "reason": dropped.reason}
    if repeated and kind in (EventType.ROLLBACK, EventType.EMERGENCY):
        evidence["repeated"] = True
    reloads = isinstance(record.event, Reload)
    return Event(
        record.at,
        kind,
        record.event.operator,
        record.event.reason,
        digests.after,
        origin=digests.before if reloads else record.source,
        target=digests.after if reloads else record.target,
        evidence=with_metadata(
            {"version": record.version, "user_percentage": number(record.percentage), **evidence},
            record.event.metadata,
        ),
    )


def _particulars(record: Record) -> tuple[EventType, Document]:
    """The type of the event, and what is worth knowing of it beyond who and why."""
    match record.event:
        case Advance() as event:
            found = {"cause": event.authority.value, "gates": [gate(result) for result in record.gates]}
            return EventType.PHASE_TRANSITION, found
        case Rollback() as event:
            kind = EventType.HOLD if event.engagement is None else EventType.ROLLBACK
            return kind, {"cause": event.cause.value, "number": event.engagement, **event.evidence}
        case Emergency() as event:
            return EventType.EMERGENCY, {"cause": "emergency", "number": event.engagement}
        case LatchInPlace() as event:
            return EventType.EMERGENCY, {"cause": event.kind.value, "number": event.engagement}
        case Release() as event:
            return EventType.RELEASE, {"number": event.engagement}
        case Approve() as event:
            return EventType.APPROVAL, {"gate": event.gate}
        case Reject() as event:
            return EventType.REJECTION, {"gate": event.gate}
        case Reload():
            return EventType.RELOAD, {"phase": record.target}
        case Judge() as event:
            return EventType.GATE, _judgement(event.judgement)
        case FinishTest() as event:
            return EventType.GATE, _test(event.result)
        case _ as event:
            return _TYPES[type(event)], _hold(event)


_TYPES: dict[type, EventType] = {
    Pause: EventType.PAUSE,
    Resume: EventType.RESUME,
    BeginDrain: EventType.DRAIN,
    DrainStep: EventType.DRAIN,
    BeginHold: EventType.HOLD,
    EndHold: EventType.HOLD,
    BeginTrial: EventType.TRIAL,
    EndTrial: EventType.TRIAL,
    Retest: EventType.GATE,
}
"""The events of which the type says all. A `ServiceTick` is never recorded."""


def _hold(
    event: Pause
    | Resume
    | BeginDrain
    | DrainStep
    | BeginHold
    | EndHold
    | BeginTrial
    | EndTrial
    | Retest
    | ServiceTick,
) -> Document:
    if isinstance(event, BeginHold | EndHold):
        return {"hold": event.kind.value, "holds": isinstance(event, BeginHold)}
    if isinstance(event, BeginTrial | EndTrial):
        return {"trial": isinstance(event, BeginTrial)}
    return {}


def _test(result: TestResult) -> Document:
    return {
        "gate": result.gate,
        "success": result.succeeded,
        "detail": result.detail,
        "output": result.output,
    }


def _judgement(judgement: Judgement) -> Document:
    return {
        "gate": judgement.gate,
        "verdict": judgement.verdict.label,
        "look": judgement.look,
        "findings": {
            str(finding.metric): f"{finding.verdict.label}: {finding.reason}"
            for finding in judgement.findings
        },
    }
