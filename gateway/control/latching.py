"""The latch as the control process handles it: flip, release, make durable.

A signal, a worker or the admin API may engage the shared page at any time. The desk then writes the
engagement to disk and retries until it succeeds. Only the desk releases the latch.

It does not know what an engagement means for the rollout; see `control.rollout.desk`.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway import logs
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
    """Who does something and why, for the audit trail. `metadata` is free.

    `named`: a token of the operator's own vouches for the name.
    """

    name: str
    reason: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    named: bool = False


class ReleaseResult(enum.Enum):
    """How a release of the page ended."""

    RELEASED = "released"
    OVERTAKEN = "overtaken"
    """Another engagement than the one that was named holds the latch."""
    NOT_DURABLE = "not durable"
    """The disk refused; nothing was released, or the next start would engage without a trace."""


class LatchDesk:
    """The control process's hands on the latch page."""

    def __init__(
        self,
        page: LatchPage,
        durable: DurableLatch | None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.page = page
        self.fault = "" if durable is not None else "there is no state directory"
        """Why the newest state is not on disk; "" while it is."""
        self._durable = durable
        self._sleep = sleep
        self._saved = 0
        self._lane = Lane("latch")

    def __repr__(self) -> str:
        return f"<LatchDesk {self.page!r} saved={self._saved}>"

    @property
    def durable(self) -> bool:
        """True while the newest engagement is known to be on disk (or there never was one)."""
        return self._saved >= self.page.number

    def engage(self, kind: LatchKind, reason: str, operator: str) -> int:
        """Everything to control, now; the engagement's number. `save` or `persist` makes it durable."""
        number = self.page.engage(kind, reason, operator)
        logs.audit("latch engaged", kind=kind, number=number, operator=operator, reason=reason)
        return number

    async def release(self, number: int, operator: str, reason: str) -> ReleaseResult:
        """Lift engagement `number`: on disk first, then in the page."""
        if number != self.page.number:
            return ReleaseResult.OVERTAKEN
        if self._durable is not None and not await self._write(released=number):
            self._saved = 0  # the disk may have taken it after all: write the truth again
            return ReleaseResult.NOT_DURABLE
        if not self.page.release(number):
            self._saved = 0
            return ReleaseResult.OVERTAKEN
        self._saved = max(self._saved, number)
        logs.audit("latch released", number=number, operator=operator, reason=reason)
        return ReleaseResult.RELEASED

    async def beat(self) -> None:
        """For ever: beat the control process's heart."""
        while True:
            self.page.beat(CONTROL_SLOT)
            await self._sleep(LOOK_INTERVAL)

    async def persist(self) -> None:
        """For ever: write what is not on disk yet, whoever engaged, and again where the disk refused."""
        while True:
            if self._durable is not None and not self.durable:
                await self.save()
            await self._sleep(SAVE_AGAIN if self.fault else LOOK_INTERVAL)

    async def save(self) -> None:
        """Write the page's state now; a refusal shows in `fault` and `durable`."""
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
            fault = f"{durable.path} cannot be written: {error.strerror or error}"
            if fault != self.fault:  # it is tried again each second: said once
                logs.error("latch not durable", reason=fault)
            self.fault = fault
            return False
        if self.fault:
            logs.info("latch durable again")
        self.fault = ""
        return True
