"""What moves the rollout by itself: clocks, evaluation of gates, tests, drains, automatic advances.

On each tick, pure functions of the state find what is due, and it goes to the desk as events. A refused
event is simply not due any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from gateway import logs
from gateway.control.actions import Ran
from gateway.control.rollout.desk import Outdated, Refused, RolloutDesk
from gateway.control.rollout.testing import run_test
from gateway.control.store.api import NotDurableError, Store
from gateway.core.gates import due_looks, due_tests
from gateway.core.judging import judge
from gateway.core.rollout import GATEWAY, automatic_advance
from gateway.model.gates import AutomatedTest, Evidence, MetricsThreshold, TestResult
from gateway.model.rollout import (
    Cause,
    DrainStep,
    Event,
    FinishTest,
    Judge,
    Rollback,
    ServiceTick,
)

TICK = 0.5
"""Seconds between two ticks."""
LATCH_LOOK = 0.1
"""Seconds between two looks at the latch's page."""
CHECKPOINT_INTERVAL = 10.0
"""Seconds between two writes of the clocks: what a time gate may lose with the process."""
PRUNE_INTERVAL = 60.0


class Judged(Protocol):
    """What the gates are judged by."""

    def evidence(self, gate: MetricsThreshold) -> Evidence:
        """Treatment's traffic since the windows last began, as far as this gate looks at it."""


class Pace:
    """Runs the ticks over a desk."""

    def __init__(
        self,
        desk: RolloutDesk,
        store: Store,
        judged: Judged,
        *,
        treatment_healthy: Callable[[], bool],
        folder: Path,
        now: Callable[[], float] = time.time,
        run: Callable[[AutomatedTest, Path], Awaitable[Ran]] = run_test,
    ) -> None:
        """`folder` is where test commands run; `treatment_healthy` says whether clocks may go on."""
        self._desk = desk
        self._store = store
        self._judged = judged
        self._treatment_healthy = treatment_healthy
        self._folder = folder
        self._now = now
        self._run_test = run
        self._tests: dict[AutomatedTest, asyncio.Task[TestResult]] = {}
        self._drained = 0.0
        self._since_checkpoint = self._since_prune = 0.0

    def __repr__(self) -> str:
        return f"<Pace tests={sorted(gate.id for gate in self._tests)}>"

    @property
    def running_tests(self) -> frozenset[str]:
        """The ids of the gates whose tests run now."""
        return frozenset(gate.id for gate in self._tests)

    async def watch_latch(self) -> None:
        """For ever: work off what the latch's page says."""
        while True:
            await self._desk.settle(repetitions=False)
            await asyncio.sleep(LATCH_LOOK)

    async def run(self) -> None:
        """Tick for ever; tests that run are ended with it."""
        last = time.monotonic()
        try:
            while True:
                await asyncio.sleep(TICK)
                now = time.monotonic()
                await self.tick(now - last)
                last = now
        finally:
            await self.end()

    async def end(self) -> None:
        """End the tests that run, with all their children."""
        await self._end_tests(frozenset())

    async def tick(self, seconds: float) -> None:
        """Everything that is due, `seconds` after the last time."""
        healthy = self._treatment_healthy()
        await self._try(ServiceTick(operator=GATEWAY, seconds=seconds, treatment_healthy=healthy))
        await self._drain_on(seconds)  # before all that could fail: users are on their way to control
        await self._look()
        await self._conduct_tests()
        advance = automatic_advance(self._desk.state, self._desk.rules, self._now())
        if advance is not None:
            await self._try(advance)
        await self._keep_up(seconds)

    async def _try(self, event: Event) -> None:
        try:
            await self._desk.apply(event)
        except (Refused, Outdated, NotDurableError) as error:
            logs.debug("not now", what=type(event).__name__, reason=str(error))

    async def _look(self) -> None:
        """Judge the metrics gates that are due."""
        for look in due_looks(self._desk.state, self._desk.rules):
            state = self._desk.state
            judgement = judge(
                look.gate,
                look.number,
                self._judged.evidence(look.gate),
                epoch=state.epoch,
                window=state.clocks.window,
                at=self._now(),
                passed_at=look.passed_at,
            )
            await self._try(Judge(operator=GATEWAY, judgement=judgement))

    async def _conduct_tests(self) -> None:
        """Take in the tests that ended, begin those that are due, end those that are not wanted any more."""
        for gate, task in list(self._tests.items()):
            if task.done():
                del self._tests[gate]
                await self._try(FinishTest(operator=GATEWAY, result=task.result()))
        due = frozenset(due_tests(self._desk.state, self._desk.rules, self._now()))
        await self._end_tests(due)
        for gate in due - self._tests.keys():
            test = self._test(gate, self._desk.state.epoch)
            self._tests[gate] = asyncio.create_task(test, name=f"test {gate.id}")

    async def _end_tests(self, wanted: frozenset[AutomatedTest]) -> None:
        unwanted = {gate: task for gate, task in self._tests.items() if gate not in wanted}
        for gate, task in unwanted.items():
            del self._tests[gate]
            task.cancel()
        await asyncio.gather(*unwanted.values(), return_exceptions=True)

    async def _test(self, gate: AutomatedTest, epoch: int) -> TestResult:
        logs.info("test begins", gate=gate.id, subject=gate.subject)
        ran = await self._run_test(gate, self._folder)
        logs.info("test ended", gate=gate.id, success=ran.succeeded, detail=ran.detail)
        return TestResult(gate.id, epoch, gate.subject, ran.succeeded, ran.detail, ran.output, self._now())

    async def _drain_on(self, seconds: float) -> None:
        """Take the next step of a graceful rollback when its time has come, and at last the rollback."""
        drain = self._desk.state.drain
        self._drained = 0.0 if drain is None else self._drained + seconds
        if drain is None:
            return
        over = self._desk.loaded.config.deployment.rollback.drain.over
        if self._drained < over / drain.steps:
            return
        self._drained = 0.0
        if drain.step < drain.steps:
            await self._try(DrainStep(operator=drain.operator, reason=drain.reason))
        else:
            await self._try(Rollback(operator=drain.operator, reason=drain.reason, cause=Cause.DRAINED))

    async def _keep_up(self, seconds: float) -> None:
        self._since_checkpoint += seconds
        self._since_prune += seconds
        if self._since_checkpoint >= CHECKPOINT_INTERVAL:
            self._since_checkpoint = 0.0
            self._desk.checkpoint()
        if self._since_prune >= PRUNE_INTERVAL:
            self._since_prune = 0.0
            await self._store.prune(self._now())
