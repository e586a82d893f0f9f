"""The audit trail as the rest of the control plane sees it: what happened, who did it, and why.

An `Event` is written once and never changed. `History` keeps the newest events in memory, so that reading
never waits for a disk, and passes every event to the store, which keeps them all. An event of the rollout
includes the state machine's own record, from which the state can be rebuilt.
"""

from __future__ import annotations

import enum
import json
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway import logs
from gateway.control.store.api import Entry, Store
from gateway.control.store.encoding import to_json
from gateway.model.rollout import Cause, Record

_OURS = frozenset(("cause", "failed", "followed_up", "hooks", "number", "repeated", "seconds"))
"""Names in an event's evidence that the gateway itself goes by."""
MEMORY_EVENTS = 500
"""Events that are held in memory, and read back at start: as many as the admin API shows."""


class EventType(enum.StrEnum):
    """The kinds of events, as `history` names them."""

    PHASE_TRANSITION = "phase_transition"
    ROLLBACK = "rollback"
    ROLLBACK_STEPS = "rollback_steps"
    """What a rollback or an emergency came to once hooks and notices were through."""
    EMERGENCY = "emergency"
    RELEASE = "release"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    HOLD = "hold"
    GATE = "gate"
    APPROVAL = "approval"
    REJECTION = "rejection"
    ALERT = "alert"
    RELOAD = "reload"
    EXPERIMENT = "experiment"
    TRIAL = "trial"
    WORKER = "worker"


_REASONS = (*(cause.value for cause in Cause), EventType.EMERGENCY.value)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit trail. `at` is Unix time in seconds; `digest` names the config in force.

    `origin` and `target` are what changed, where something did: phases, digests.
    """

    at: float
    type: EventType
    operator: str
    reason: str
    digest: str
    origin: str | None = None
    target: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


class History:
    """The newest events in memory, all of them in the store."""

    def __init__(self, store: Store, newest: Iterable[Event] = ()) -> None:
        """`newest` is what the store held at the start, newest last."""
        self.transitions: Counter[tuple[str, str, str]] = Counter()
        """Phase transitions by (from, to, reason) among the events held at the start, and since."""
        self.rollbacks: Counter[str] = Counter(dict.fromkeys(_REASONS, 0))
        """Rollbacks and emergencies by reason, counted likewise; 0 for those that there were none of."""
        self._store = store
        self._events: deque[Event] = deque(maxlen=MEMORY_EVENTS)
        for event in newest:
            self.note(event)

    def __repr__(self) -> str:
        return f"<History events={len(self._events)}>"

    def append(self, event: Event) -> None:
        """Add an event that stands by itself."""
        self._store.append(entry(event))
        self.note(event)

    def note(self, event: Event) -> None:
        """Hold an event that the store has, or is given with the state that it led to."""
        self._events.append(event)
        cause = str(event.evidence.get("cause", event.type.value))
        if event.type in (EventType.ROLLBACK, EventType.EMERGENCY) and not event.evidence.get("repeated"):
            self.rollbacks[cause] += 1
        if event.type is not EventType.RELOAD and event.target not in (None, event.origin):
            self.transitions[event.origin or "", event.target or "", cause] += 1

    def recent(self, limit: int) -> list[Event]:
        """The newest `limit` events, newest last."""
        return list(self._events)[-limit:] if limit > 0 else []


def with_metadata(evidence: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence with an operator's own words behind it.

    They never take the place of ours: what would is kept as `metadata.NAME`.
    """
    ours = evidence.keys() | _OURS
    theirs = {f"metadata.{name}" if name in ours else name: value for name, value in metadata.items()}
    return {**evidence, **theirs}


def entry(event: Event, record: Record | None = None) -> Entry:
    """The event as the store keeps it; `record` is the machine's own word on it."""
    document = asdict(event)
    document["record"] = None if record is None else json.loads(to_json(record))
    return Entry(event.at, event.type.value, json.dumps(document))


def read_back(entries: Iterable[tuple[int, Entry]]) -> list[Event]:
    """The events that the store kept. One that cannot be read is left out, loudly."""
    events = []
    for number, kept in entries:
        try:
            document = json.loads(kept.body)
            document.pop("record", None)
            events.append(Event(**{**document, "type": EventType(document["type"])}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logs.error("an event of the history is not readable", number=number, error=repr(error))
    return events
