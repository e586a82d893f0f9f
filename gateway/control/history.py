"""What happened, by whom and why: the audit trail as the rest of the control plane sees it.

An `Event` is appended once and never changed; the number of the newest is the *state version* that
`If-Match` speaks of. `MemoryHistory` is bounded, lives in the process and is handed over to the next
control process as bytes; a durable store can stand in its place behind `History`.
"""

from __future__ import annotations

import enum
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

MEMORY_LIMIT = 500
"""Events that `MemoryHistory` holds: what a person scrolls through, well under a megabyte."""


class EventType(enum.StrEnum):
    """The kinds of events, as `history` names them."""

    PHASE_TRANSITION = "phase_transition"
    ROLLBACK = "rollback"
    EMERGENCY = "emergency"
    RELEASE = "release"
    APPROVAL = "approval"
    REJECTION = "rejection"
    ALERT = "alert"
    RELOAD = "reload"
    EXPERIMENT = "experiment"
    TRIAL = "trial"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit trail. `at` is Unix time in seconds; `digest` names the config in force.

    `origin` and `target` are what changed, where something did: phases, digests, states of the latch.
    """

    at: float
    type: EventType
    operator: str
    reason: str
    digest: str
    origin: str | None = None
    target: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


class History(Protocol):
    """The audit trail."""

    @property
    def version(self) -> int:
        """The number of the newest event; 0 before the first. Never goes back."""

    def append(self, event: Event) -> int:
        """Add an event; the new version."""

    def recent(self, limit: int) -> list[Event]:
        """The newest `limit` events, newest last."""


class MemoryHistory:
    """A `History` in memory, bounded; `keep` is given the whole as bytes after every event."""

    def __init__(self, kept: bytes | None, keep: Callable[[bytes], None]) -> None:
        """Go on from `kept`, what `keep` was given last. Raises ValueError, KeyError or TypeError on junk."""
        document: Any = json.loads(kept) if kept else {"version": 0, "events": []}
        self._version: int = int(document["version"])
        self._events: deque[Event] = deque(
            (Event(**{**raw, "type": EventType(raw["type"])}) for raw in document["events"]), MEMORY_LIMIT
        )
        self._keep = keep

    def __repr__(self) -> str:
        return f"<MemoryHistory version={self._version} events={len(self._events)}>"

    @property
    def version(self) -> int:
        """See `History`."""
        return self._version

    def append(self, event: Event) -> int:
        """See `History`."""
        self._version += 1
        self._events.append(event)
        document = {"version": self._version, "events": [asdict(event) for event in self._events]}
        self._keep(json.dumps(document, separators=(",", ":")).encode())
        return self._version

    def recent(self, limit: int) -> list[Event]:
        """See `History`."""
        return list(self._events)[-limit:] if limit > 0 else []
