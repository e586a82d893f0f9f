"""The latch as the control process handles it: engage, release, notice, make durable, write down.

Anybody may engage the shared page at any time: a signal, a worker, the admin API. The desk looks at
the engagement number a few times a second, so whatever happened is on disk and in the history once,
also when the control process was dead at the time. It is the only one that releases.

What an engagement means for the rollout is not known here.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway import logs
from gateway.control.history import Event, EventType, History
from gateway.control.tasks import Lane
from gateway.latch import CONTROL_SLOT, DurableLatch, LatchKind, LatchPage

LOOK_INTERVAL = 0.1
"""Seconds between two looks at the engagement number, and between two heartbeats."""
SAVE_PATIENCE = 2.0
"""Seconds to wait for the disk before the caller is told that the latch is not durable."""
SAVE_AGAIN = 1.0
"""Seconds between attempts to write what could not be written."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who does something and why, for the audit trail. `metadata` is free."""

    name: str
    reason: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


_SOMEBODY = Operator("unknown", "engaged again while engaged")


@dataclass(frozen=True, slots=True)
class Engagement:
    """An emergency that was carried out: its number, and whether it is on disk already."""

    number: int
    durable: bool


class ReleaseResult(enum.Enum):
    """How a release ended."""

    RELEASED = "released"
    WAS_NOT_ENGAGED = "was not engaged"
    OVERTAKEN = "overtaken"
    """Another engagement than the one that was named holds the latch."""
    NOT_DURABLE = "not durable"
    """The disk refused; nothing was released, or the next start would engage without a trace."""


@dataclass(frozen=True, slots=True)
class Release:
    """The engagement that a release named and how it ended."""

    number: int
    result: ReleaseResult


def noted_at_start(page: LatchPage) -> int:
    """The engagement that counts as written down where no earlier control process left word.

    An engaged latch is news once, whatever its number; a released one is not.
    """
    return page.number - 1 if page.engaged else page.number


class LatchDesk:
    """The control process's hands on the latch page."""

    def __init__(
        self,
        page: LatchPage,
        durable: DurableLatch | None,
        history: History,
        *,
        noted: int,
        digest: Callable[[], str],
        keep_noted: Callable[[int], None],
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`noted` is the newest engagement that is in the history; `keep_noted` is told when it grows."""
        self.page = page
        self.fault = "" if durable is not None else "there is no state directory"
        """Why the newest state is not on disk; "" while it is."""
        self._durable = durable
        self._history = history
        self._noted = noted
        self._digest = digest
        self._keep_noted = keep_noted
        self._now = now
        self._sleep = sleep
        self._saved = 0
        # When the engagement began whose words on the page are in the history already.
        self._described = page.state().since if page.engaged and noted > page.released else 0.0
        self._lane = Lane("latch")

    def __repr__(self) -> str:
        return f"<LatchDesk {self.page!r} noted={self._noted} saved={self._saved}>"

    @property
    def durable(self) -> bool:
        """True while the newest engagement is known to be on disk (or there never was one)."""
        return self._saved >= self.page.number

    async def engage(self, kind: LatchKind, by: Operator) -> Engagement:
        """Everything to control, now; then durable, then written down."""
        number = self.page.engage(kind, by.reason, by.name)
        logs.audit("latch engaged", kind=kind, number=number, operator=by.name, reason=by.reason)
        self._note(by)
        await self._save()
        return Engagement(number, self._saved >= number)

    async def release(self, by: Operator, number: int | None = None) -> Release:
        """Lift engagement `number` (the newest, if None): on disk first, then in the page."""
        self.note()
        number = self.page.number if number is None else number
        if not self.page.engaged:
            return Release(number, ReleaseResult.WAS_NOT_ENGAGED)
        if number != self.page.number:
            return Release(number, ReleaseResult.OVERTAKEN)
        was = self.page.state()
        if self._durable is not None and not await self._write(released=number):
            self._saved = 0  # the disk may have taken it after all: write the truth again
            return Release(number, ReleaseResult.NOT_DURABLE)
        released = self.page.release(number)
        self._saved = max(self._saved, number)
        if not released:
            return Release(number, ReleaseResult.OVERTAKEN)
        logs.audit("latch released", number=number, operator=by.name, reason=by.reason)
        evidence: dict[str, Any] = {
            "number": number,
            "kind": was.kind.value,
            "engaged_for": round(self._now() - was.since, 3),
        }
        self._append(EventType.RELEASE, by.name, by.reason, evidence | dict(by.metadata))
        return Release(number, ReleaseResult.RELEASED)

    async def watch(self) -> None:
        """For ever: beat the control process's heart and note what is new on the page."""
        while True:
            self.page.beat(CONTROL_SLOT)
            self.note()
            await self._sleep(LOOK_INTERVAL)

    async def persist(self) -> None:
        """For ever: write what is not on disk yet, whoever engaged, and again where the disk refused."""
        while True:
            if self._durable is not None and not self.durable:
                await self._save()
            await self._sleep(SAVE_AGAIN if self.fault else LOOK_INTERVAL)

    def note(self) -> None:
        """Write an engagement down that somebody else made, once."""
        if self.page.number > self._noted:
            state = self.page.state()
            # A repetition leaves the page's words as they are: they are not its own.
            repeated = state.since == self._described
            self._note(_SOMEBODY if repeated else Operator(state.operator, state.reason))

    def _note(self, by: Operator) -> None:
        state = self.page.state()
        evidence: dict[str, Any] = {
            "number": state.number,
            "kind": state.kind.value,
            "repeats": state.number - self._noted - 1,
        }
        self._noted = state.number
        self._described = state.since
        kind = EventType.ROLLBACK if state.kind is LatchKind.ROLLBACK else EventType.EMERGENCY
        self._append(kind, by.name, by.reason, evidence | dict(by.metadata))
        self._keep_noted(self._noted)

    def _append(self, kind: EventType, operator: str, reason: str, evidence: Mapping[str, Any]) -> None:
        self._history.append(Event(self._now(), kind, operator, reason, self._digest(), evidence=evidence))

    async def _save(self) -> None:
        number = self.page.number
        if await self._write(released=None):
            self._saved = max(self._saved, number)

    async def _write(self, released: int | None) -> bool:
        durable = self._durable
        if durable is None:
            return False
        try:
            await self._lane.run(SAVE_PATIENCE, lambda: durable.save(self.page, released))
        except OSError as error:  # TimeoutError is one
            self.fault = f"{durable.path} cannot be written: {error.strerror or error}"
            logs.error("latch not durable", reason=self.fault)
            return False
        self.fault = ""
        return True
