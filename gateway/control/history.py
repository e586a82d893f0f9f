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

MEMORY_BYTES = 256 * 1024
"""Bytes of encoded events that `MemoryHistory` holds: many hundred events as they usually are."""


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
        self._version = 0
        self._events: deque[Event] = deque()
        self._lines: deque[bytes] = deque()  # the same events, encoded once
        self._size = 0
        self._keep = keep
        if kept is not None:
            version, *lines = kept.splitlines()
            for line in lines:
                self._add(_decode(line), line)
            self._version = int(version)

    def __repr__(self) -> str:
        return f"<MemoryHistory version={self._version} events={len(self._events)}>"

    @property
    def version(self) -> int:
        """See `History`."""
        return self._version

    def append(self, event: Event) -> int:
        """See `History`."""
        self._version += 1
        self._add(event, json.dumps(asdict(event)).encode())
        self._keep(b"\n".join([b"%d" % self._version, *self._lines]))
        return self._version

    def recent(self, limit: int) -> list[Event]:
        """See `History`."""
        return list(self._events)[-limit:] if limit > 0 else []

    def _add(self, event: Event, line: bytes) -> None:
        self._events.append(event)
        self._lines.append(line)
        self._size += len(line)
        while self._size > MEMORY_BYTES and len(self._events) > 1:
            self._events.popleft()
            self._size -= len(self._lines.popleft())


def _decode(line: bytes) -> Event:
    document = json.loads(line)
    return Event(**{**document, "type": EventType(document["type"])})
