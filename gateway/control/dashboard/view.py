"""Collects what the dashboard shows from the parts of the control process.

A document is made at most once a second, however many people look, and again after every change.
It decides nothing and changes nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gateway.control.dashboard.document import (
    ArmFigures,
    Document,
    EvidencePoint,
    Facts,
    Point,
    Reach,
    Rung,
    document,
)
from gateway.control.dashboard.panels import render
from gateway.control.dashboard.served import Sample, Served
from gateway.control.dashboard.trail import FIRST_DISTANCE, Trail
from gateway.control.operations import Operations
from gateway.control.parts import Parts
from gateway.control.rollout.aftermath import Outcome
from gateway.control.rollout.views import number, standing
from gateway.control.traffic import ArmMetrics
from gateway.control.traffic import Point as TrafficPoint
from gateway.control.windows import Span
from gateway.model.rollout import Cause, Rules
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
        self._served = Served()
        self._drawn: dict[Reach, Drawn] = {}
        self._drawing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<DashboardView {self._trail!r} {self._served!r}>"

    async def run(self) -> None:
        """For ever: remember how the evidence and the traffic go."""
        while True:
            self._remember()
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

    async def document(self, reach: Reach) -> Document:
        """See `DashboardBackend`."""
        return (await self._newest(reach)).document

    async def panels(self, reach: Reach) -> str:
        """See `DashboardBackend`."""
        return (await self._newest(reach)).html

    async def _newest(self, reach: Reach) -> Drawn:
        async with self._drawing:
            mark, at = self.mark(), self._monotonic()
            drawn = self._drawn.get(reach)
            if drawn is None or drawn.mark != mark or at - drawn.at >= FRESH:
                made = document(await self._facts(reach))
                drawn = self._drawn[reach] = Drawn(mark, at, made, render(made))
            return drawn

    async def _facts(self, reach: Reach) -> Facts:
        parts, status, now = self._parts, await self._operations.status(), self._now()
        self._remember()
        recent = parts.windows.view(Span.WINDOW)
        config = parts.reloader.applied.loaded.config
        monitoring = config.deployment.monitoring
        return Facts(
            at=now,
            status=status,
            history=await self._operations.history(SHOWN_EVENTS),
            ladder=_ladder(parts.desk.rules),
            boards=[board.value for board in monitoring.dashboards],
            window=monitoring.window,
            recent={arm: _figures(metrics) for arm, metrics in recent.arms.items()},
            degradation=recent.degradation,
            rate=self._served.rate(now - monitoring.window, now),
            reach=reach,
            points=course(parts.windows.series(now - reach.seconds, reach.step), self._served, reach, now),
            evidence=[point for point in self._trail.points if point.at >= now - reach.seconds],
            experiments=parts.experiments.documents(),
            named_operators=bool(config.admin.tokens),
        )

    def _remember(self) -> None:
        now, totals, found = self._now(), self._parts.ledger.totals(), self._parts.monitor.assessment
        served = (totals.served(arm.label) for arm in (Arm.CONTROL, Arm.TREATMENT))
        self._served.add(Sample(now, *served))
        if found is not None:
            self._trail.add(EvidencePoint(now, found.value if math.isfinite(found.value) else None))
        if (convicted := _convicted(self._parts.aftermath.last)) is not None:
            self._trail.mark(convicted)


def _convicted(rollback: Outcome | None) -> EvidencePoint | None:
    """The evidence that the last rollback was for: it is over the line for one look only."""
    if rollback is None or rollback.line.evidence.get("cause") != Cause.EVIDENCE:
        return None
    value = rollback.line.evidence.get("value")
    return None if value is None else EvidencePoint(rollback.line.at, value)


def _ladder(rules: Rules) -> list[Rung]:
    return [
        Rung(phase.name, float(number(phase.user_percentage)), phase.advance.value) for phase in rules.phases
    ]


def _figures(arm: ArmMetrics | None) -> ArmFigures:
    if arm is None:
        return ArmFigures()
    return ArmFigures(
        requests=arm.requests,
        failures=arm.errors + arm.truncated,
        error_rate=arm.error_rate,
        mean=arm.mean,
        p50=arm.p50,
        p90=arm.p90,
        p99=arm.p99,
        scores={name: score.mean for name, score in arm.scores.items() if score.mean is not None},
    )


def course(points: Sequence[TrafficPoint], served: Served, reach: Reach, now: float) -> list[Point]:
    """The points on an unbroken grid of time; what nobody counted is nothing, and the last one is over."""
    known = {point.at: point.arms for point in points}
    begins = [*known, *([] if served.since is None else [served.since])]
    if not begins:
        return []
    begin = int(max(min(begins), now - reach.seconds))
    grid = range(begin - begin % reach.step, int(now) - reach.step + 1, reach.step)
    return [
        Point(
            at,
            _figures(known.get(at, {}).get(Arm.CONTROL.label)),
            _figures(known.get(at, {}).get(Arm.TREATMENT.label)),
            served.between(at, at + reach.step),
        )
        for at in grid
    ]
