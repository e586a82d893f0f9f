"""Puts together what the dashboard shows, from the parts of the control process.

A document is made at most once a second however many people look, and anew once something happened.
It decides nothing and changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from gateway.control.dashboard.document import (
    ArmFigures,
    Document,
    EvidencePoint,
    Facts,
    Rung,
    document,
)
from gateway.control.dashboard.panels import render
from gateway.control.dashboard.trail import FIRST_DISTANCE, Trail
from gateway.control.operations import Operations, Parts
from gateway.control.rollout.views import number, standing
from gateway.core.folding import Profile
from gateway.model.rollout import Rules
from gateway.model.snapshot import Arm

FRESH = 1.0
"""Seconds that a document is shown again before it is made anew."""
SHOWN_EVENTS = 500
"""Events that alerts are counted in."""

Mark: TypeAlias = tuple[object, ...]
"""Differs from an earlier one once something happened that people should see at once."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A document, and the page's sections made of it."""

    mark: Mark
    at: float
    document: Document
    html: str


class DashboardView:
    """The dashboard's backend (`admin.dashboard.DashboardBackend`). `run` it in the background."""

    def __init__(
        self,
        parts: Parts,
        operations: Operations,
        now: Callable[[], float] = time.time,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._operations = operations
        self._now = now
        self._monotonic = monotonic
        self._trail = Trail()
        self._drawn: Drawn | None = None
        self._drawing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<DashboardView {self._trail!r}>"

    async def run(self) -> None:
        """For ever: remember how the evidence goes."""
        while True:
            self._remember(await self._operations.status())
            await asyncio.sleep(FIRST_DISTANCE)

    def mark(self) -> Mark:
        """See `DashboardBackend`."""
        parts = self._parts
        latch, newest = parts.latch.page, parts.history.recent(1)
        happened = (newest[0].at, newest[0].type) if newest else None
        return parts.desk.state.version, latch.number, latch.engaged, happened, parts.reloader.error

    def standing(self) -> dict[str, Any]:
        """See `DashboardBackend`."""
        desk = self._parts.desk
        return standing(desk.state, desk.rules) | {"latched": self._parts.latch.page.engaged}

    async def document(self) -> Document:
        """See `DashboardBackend`."""
        return (await self._newest()).document

    async def panels(self) -> str:
        """See `DashboardBackend`."""
        return (await self._newest()).html

    async def _newest(self) -> Drawn:
        async with self._drawing:
            mark, at = self.mark(), self._monotonic()
            drawn = self._drawn
            if drawn is None or drawn.mark != mark or at - drawn.at >= FRESH:
                made = document(await self._facts())
                drawn = self._drawn = Drawn(mark, at, made, render(made))
            return drawn

    async def _facts(self) -> Facts:
        parts, status = self._parts, await self._operations.status()
        self._remember(status)
        config = parts.reloader.applied.loaded.config
        monitoring = config.deployment.monitoring
        return Facts(
            at=self._now(),
            status=status,
            history=await self._operations.history(SHOWN_EVENTS),
            ladder=_ladder(parts.desk.rules),
            boards=[board.value for board in monitoring.dashboards],
            window=monitoring.window,
            recent=_by_arm(parts.windows.recent()),
            degradation=None,
            step=10.0,
            points=(),
            evidence=self._trail.points,
            experiments=(),
            named_operators=bool(config.admin.tokens),
        )

    def _remember(self, status: Mapping[str, Any]) -> None:
        evidence = status.get("evidence") or {}
        if evidence.get("limit") is not None:
            self._trail.add(EvidencePoint(self._now(), evidence["value"]))


def _ladder(rules: Rules) -> list[Rung]:
    return [
        Rung(phase.name, float(number(phase.user_percentage)), phase.advance.value) for phase in rules.phases
    ]


def _by_arm(recent: Mapping[tuple[str, str], Profile]) -> dict[str, ArmFigures]:
    """The window's traffic over all routes."""
    arms = {arm.label: Profile() for arm in Arm}
    for (_, arm), profile in recent.items():
        arms[arm].add(profile)
    return {arm: _figures(profile) for arm, profile in arms.items()}


def _figures(profile: Profile) -> ArmFigures:
    return ArmFigures(
        requests=profile.answered,
        failures=profile.failures,
        error_rate=profile.error_rate,
        mean=profile.mean,
        p50=profile.quantile(0.5),
        p90=profile.quantile(0.9),
        p99=profile.quantile(0.99),
        scores={name: score.mean for name, score in profile.scores.items() if score.mean is not None},
    )
