"""Alerts at work: assessed every few seconds, kept over restarts, written to the history, sent.

The active alerts are a document of the store. It is replaced together with the lines of the history that
say what changed. An alert that was active before a restart is active after it, and nobody is told again.

It does not know how anything is measured (`lookout`), what counts as an alert (`core.alerts`) or who is
told (`notifier`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from gateway import logs
from gateway.control.alerting import notices
from gateway.control.alerting.lookout import HELD
from gateway.control.alerting.notices import Notice
from gateway.control.history import Event, EventType, History, entry
from gateway.control.rollout.views import Document, timestamp
from gateway.control.store.api import Document as Stored
from gateway.control.store.api import Store
from gateway.control.store.encoding import to_json
from gateway.control.store.values import put, recall
from gateway.core.advice import on_alert
from gateway.core.alerts import MISSING_TRAFFIC, assess
from gateway.core.rollout import GATEWAY
from gateway.model.alerts import Alert, AlertState, Change, ChangeKind, Levels, Look, Severity
from gateway.model.metrics import Metric
from gateway.model.safety import Alerts

DOCUMENT = "alerts"
"""Name of what stands in the store."""
LOOK_INTERVAL = 2.0
"""Seconds between two looks, at least."""
MOST_BUSY = 0.02
"""The share of the time that looks may take: with much traffic and long streams they are rarer."""
LONGEST_INTERVAL = 30.0
"""Seconds between two looks at most, however long they take."""
CHECKPOINT_INTERVAL = 10.0
"""Seconds between two writes of what moves without a change: since when it has been calm, the trends."""
BLIND_AFTER = 3
"""Looks that fail in a row until people are told so: no alert can be raised meanwhile."""
_HELD = frozenset(kind.value for kind in HELD)
_TYPES = (*(metric.value for metric in Metric), *_HELD, MISSING_TRAFFIC)


class Telling(Protocol):
    """Who is told. Telling never waits."""

    standing: Callable[[], Iterable[Notice]]

    def tell(self, notice: Notice) -> None:
        """Have everybody told whom it concerns."""


class AlertWatch:
    """See the module. `run` looks for ever."""

    def __init__(
        self,
        store: Store,
        history: History,
        people: Telling,
        look: Callable[[], Look],
        *,
        levels: Callable[[], Mapping[Metric, Levels]],
        digest: Callable[[], str],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`levels` and `digest` are those of the config in force."""
        self._store = store
        self._history = history
        self._people = people
        self._look = look
        self._levels = levels
        self._digest = digest
        self._now = now
        stood = recall(AlertState, store.document(DOCUMENT), "the alerts that stood")
        self._state = stood or AlertState()
        self._checkpointed = now()
        self._failed_in_a_row = 0
        people.standing = self._standing

    def __repr__(self) -> str:
        return f"<AlertWatch active={[alert.key for alert in self.active]}>"

    @property
    def active(self) -> tuple[Alert, ...]:
        """The alerts that stand, gravest first."""
        return self._state.active

    def counts(self) -> Counter[tuple[str, str]]:
        """How many alerts stand by type and severity; 0 for those that could."""
        counts = Counter({(name, severity.value): 0 for name in _TYPES for severity in Severity})
        counts.update((alert.type, alert.severity.value) for alert in self.active)
        return counts

    async def run(self) -> None:
        """For ever: look."""
        while True:
            began = time.thread_time()
            try:
                await self.look()
            except Exception as error:
                self._say_blind(error)
                raise
            self._failed_in_a_row = 0
            busy = time.thread_time() - began
            await asyncio.sleep(min(max(LOOK_INTERVAL, busy / MOST_BUSY), LONGEST_INTERVAL))

    def _say_blind(self, error: Exception) -> None:
        """Of every other task that fails an alert tells; of this one nobody would."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row == BLIND_AFTER:
            text = f"the gateway cannot look at its alerts ({type(error).__name__}); see the log"
            advice = on_alert("control_task_failing", "")
            blind = notices.happened(Severity.CRITICAL, "alerts are blind", text, self._now(), advice)
            self._people.tell(blind)

    async def look(self) -> None:
        """Look once, and write down and tell what is new."""
        state, changes = assess(self._state, self._look(), self._levels())
        self._state = state
        if changes:
            await self._keep(changes)
            for change in changes:
                self._say(change)
        elif self._now() - self._checkpointed >= CHECKPOINT_INTERVAL:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Keep what moved without a change."""
        self._checkpointed = self._now()
        standing = self._store.document(DOCUMENT)
        version = 0 if standing is None else standing.version
        if standing is not None:
            self._store.checkpoint(DOCUMENT, Stored(version, to_json(self._state)))

    async def _keep(self, changes: Iterable[Change]) -> None:
        events = [self._event(change) for change in changes]
        await put(self._store, DOCUMENT, self._state, [entry(event) for event in events])
        for event in events:
            self._history.note(event)

    def _event(self, change: Change) -> Event:
        alert = change.alert
        resolved = change.kind is ChangeKind.RESOLVED
        evidence = {"change": change.kind.value, "resolved": resolved, **view(alert)}
        return Event(self._now(), EventType.ALERT, GATEWAY, change.reason, self._digest(), evidence=evidence)

    def _say(self, change: Change) -> None:
        """In the log whatever its level, and to people, but for what the rollout tells them itself."""
        alert, at = change.alert, self._now()
        logs.audit("alert", change=change.kind.value, reason=change.reason, **view(alert))
        if change.kind is ChangeKind.RAISED and alert.type in _HELD:
            self._people.tell(notices.lasting(alert, at))
        else:
            self._people.tell(notices.changed(change, at))

    def _standing(self) -> Iterable[Notice]:
        at = self._now()
        return [notices.lasting(alert, at) for alert in self.active]


def levels_of(alerts: Alerts) -> Mapping[Metric, Levels]:
    """The levels that a config has."""
    return {metric: Levels(both.warning, both.critical) for metric, both in alerts.by_metric().items()}


def view(alert: Alert) -> Document:
    """An alert as the admin API, the history and the log show it."""
    return {
        "type": alert.type,
        "arm": alert.arm or None,
        "severity": alert.severity.value,
        "worst": alert.worst.value,
        "message": alert.message,
        "since": timestamp(alert.since),
        "value": alert.value,
        "threshold": alert.threshold,
        "window": alert.window,
        "samples": alert.samples,
        "calm_since": _moment(alert.calm_since),
        "calm_until": _moment(alert.calm_until),
    }


def _moment(at: float | None) -> str | None:
    return None if at is None else timestamp(at)


def resolved_view(event: Event) -> dict[str, Any] | None:
    """An alert that is over, from its last line of the history; None where that is another line."""
    evidence = event.evidence
    if event.type is not EventType.ALERT or not evidence.get("resolved"):
        return None
    shown = {name: value for name, value in evidence.items() if name not in ("change", "resolved")}
    return {**shown, "resolved_at": timestamp(event.at)}
