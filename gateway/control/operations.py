"""The backend of the admin API: what operators, scrapers and probes can see and do.

It combines what the parts of the control process report, and passes operators' requests to the rollout's
desk. Its only own state is the size of the state directory, which is measured now and then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from gateway.control import views
from gateway.control.alerting.watch import view as alert_view
from gateway.control.history import MEMORY_EVENTS
from gateway.control.latching import Operator
from gateway.control.metrics import Gauges, Metrics
from gateway.control.parts import Parts
from gateway.control.rollout.aftermath import view as rollback_view
from gateway.control.rollout.desk import Refused
from gateway.control.rollout.views import gate as gate_view
from gateway.control.rollout.views import number as plain_number
from gateway.control.rollout.views import phases, window
from gateway.control.rollout.views import standing as rollout_standing
from gateway.control.windows import Span
from gateway.core import gates
from gateway.core.explain import Question, explain
from gateway.core.percentage import effective_percentage
from gateway.model.gates import GateType, Verdict
from gateway.model.rollout import (
    Advance,
    Approve,
    BeginDrain,
    Emergency,
    Event,
    HoldKind,
    Refusal,
    RefusalCode,
    Reject,
    Release,
    Retest,
    Rollback,
    RunHooks,
)

ACKNOWLEDGE_PATIENCE = 2.0
"""Seconds that a write waits for the workers to serve by what it changed."""


class Operations:
    """Answers the admin API (`admin.resources.Backend`) from the parts."""

    def __init__(self, parts: Parts, now: Callable[[], float] = time.time) -> None:
        self.state_bytes = 0
        self._records_dropped = 0
        self._parts = parts
        self._now = now
        self._metrics = Metrics(parts.ledger, self._gauges)

    # --- what is seen -----------------------------------------------------------------------------

    def observe(self) -> None:
        """Take in what the workers reported since the last time."""
        self._parts.ledger.take(self._parts.link.drain())
        dropped = self._parts.link.records_dropped
        self._parts.ledger.note_dropped(dropped - self._records_dropped)
        self._records_dropped = dropped
        self._parts.ledger.retire(self._parts.live_pids())

    def not_ready(self) -> str:
        """See `Backend`."""
        self.observe()
        if self._parts.latch.page.draining:
            return "the gateway is shutting down"
        return "" if self._parts.ledger.live else "no worker serves yet"

    async def status(self) -> dict[str, Any]:
        """See `Backend`."""
        await self._parts.desk.settle()
        self.observe()
        parts = self._parts
        standing = parts.keeper.standing
        applied = parts.reloader.applied
        faults = self.faults()
        seen = views.status(
            views.StatusView(
                at=self._now(),
                state=parts.desk.state,
                rules=parts.desk.rules,
                running_tests=parts.pace.running_tests,
                snapshot=parts.publisher.current.version,
                latch=parts.latch.page.state(),
                durable=parts.latch.durable,
                config=views.ConfigView(
                    digest=applied.loaded.digest,
                    loaded_at=applied.at,
                    error=parts.reloader.error,
                    file_differs=parts.reloader.file_differs,
                ),
                totals=parts.ledger.totals(),
                live=parts.ledger.live,
                workers=parts.workers(),
                worker_restarts=standing.worker_restarts,
                control_restarts=standing.control_restarts,
                task_restarts=parts.tasks.restarts,
                failing_tasks=parts.tasks.failing,
                started_at=standing.started_at,
                pid=standing.pid,
            )
        )
        return seen | {
            "phases": phases(parts.windows.phases()),
            "window": window(parts.windows.view(Span.WINDOW)),
            "since_phase_start": window(parts.windows.view(Span.PHASE)),
            "upstreams": parts.upstreams.document(),
            **parts.monitor.document(),
            "pause": views.pause(parts.desk.state, parts.history.recent(MEMORY_EVENTS)),
            "rollback": rollback_view(parts.aftermath.last),
            "channels": [asdict(channel) for channel in parts.notifier.channels()],
            "alerts": [
                *views.faults(faults),
                *(alert_view(alert) for alert in parts.alerts.active if alert.type not in faults),
            ],
        }

    def faults(self) -> Mapping[str, str]:
        """What is wrong with the gateway itself, by type, in words."""
        parts = self._parts
        fault = parts.store.fault
        found = {
            "latch_not_durable": parts.latch.fault or parts.keeper.standing.state_fault,
            "state_not_durable": "" if fault is None else fault.detail,
            "config_not_in_force": parts.reloader.error or "",
            "experiments_not_durable": parts.experiments.fault,
            "no_worker": "" if parts.workers() else "no worker is running",
            "control_task_failing": _failing_in_words(parts.tasks.keep_failing),
        }
        return {kind: text for kind, text in found.items() if text}

    async def history(self, limit: int) -> list[dict[str, Any]]:
        """See `Backend`."""
        await self._parts.desk.settle()
        return views.history(self._parts.history.recent(limit))

    def explain(self, question: Question) -> dict[str, Any]:
        """See `Backend`."""
        self.observe()
        table = self._parts.publisher.table
        available = [self._parts.upstreams.available(upstream) for upstream in table.snapshot.upstreams]
        latched = self._parts.latch.page.engaged
        return asdict(explain(table, question, latched=latched, available=available))

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """See `Backend`."""
        self.observe()
        return self._metrics.render(accept)

    def treatment_healthy(self) -> bool:
        """True if every upstream that serves treatment is available."""
        self.observe()
        return self._parts.upstreams.treatment_healthy()

    # --- what is done -----------------------------------------------------------------------------

    async def carry_out(self, event: Event, expected: Collection[int] | None) -> dict[str, Any]:
        """See `Backend`."""
        desk = self._parts.desk
        await desk.settle()
        if isinstance(event, Approve | Reject):
            name = gates.resolve(event.gate, desk.state, desk.rules, self._now())
            event = replace(event, gate=name or event.gate)
        if isinstance(event, BeginDrain):
            self._check_control()
        try:
            taken = await desk.apply(event, expected)
        except Refused as refused:
            if isinstance(event, Advance) and _waits_for_failed_tests(refused):
                await desk.apply(Retest(operator=event.operator, reason="an advance was asked for"))
            raise
        stands = await self._stands()
        if isinstance(event, Rollback | BeginDrain):
            falls = any(isinstance(effect, RunHooks) for effect in taken.effects)
            return stands | {"repeated": taken.state.latch is not None and not falls}
        if isinstance(event, Approve | Reject):
            results = gates.evaluate(desk.state, desk.rules, self._now())
            shown = next((gate_view(result) for result in results if result.id == event.gate), None)
            return stands | {"gate": shown}
        return stands

    async def engage(self, by: Operator) -> dict[str, Any]:
        """See `Backend`."""
        latch = self._parts.latch
        taken = await self._parts.desk.apply(
            Emergency(operator=by.name, reason=by.reason, metadata=by.metadata)
        )
        await latch.save()
        return {"engaged": True, "number": taken.state.engagement, "durable": latch.durable}

    async def release(
        self, by: Operator, number: int | None, percentage: Fraction | None, expected: Collection[int] | None
    ) -> dict[str, Any]:
        """See `Backend`."""
        desk, page = self._parts.desk, self._parts.latch.page
        await desk.settle()
        desk.check(expected)
        number = page.number if number is None else number
        released = page.engaged
        if released or percentage is not None:
            event = Release(
                operator=by.name,
                reason=by.reason,
                metadata=by.metadata,
                percentage=percentage,
                engagement=number,
            )
            await desk.apply(event, expected)
        return {"engaged": False, "released": released, "number": number, **await self._stands()}

    async def _stands(self) -> dict[str, Any]:
        """Where the rollout stands, once the workers serve by it."""
        parts = self._parts
        version = parts.publisher.current.version
        acknowledged = await parts.link.acknowledged(version, ACKNOWLEDGE_PATIENCE)
        latched = {"latched": parts.latch.page.engaged, "acknowledged": acknowledged}
        return rollout_standing(parts.desk.state, parts.desk.rules) | latched

    # --- helpers ----------------------------------------------------------------------------------

    def _check_control(self) -> None:
        """Raise Refused unless control can take what a graceful rollback hands it, step by step."""
        self.observe()
        if ailing := self._parts.upstreams.ailing_control():
            names = ", ".join(ailing)
            reason = f"control has no usable endpoint ({names}): it cannot take over; an emergency can"
            raise Refused(Refusal(RefusalCode.CONTROL_UNHEALTHY, reason))
        if self._parts.monitor.control_fails:
            reason = "control fails beyond treatment's limit of errors: it takes over at once, or not at all"
            raise Refused(
                Refusal(RefusalCode.CONTROL_UNHEALTHY, f"{reason} (gateway rollback, without --graceful)")
            )

    def _gauges(self) -> Gauges:
        parts = self._parts
        desk = parts.desk
        found = parts.monitor.assessment
        holding = {hold.kind for hold in desk.state.holds}
        results: Mapping[str, int] = {result.value: count for result, count in parts.reloader.results.items()}
        return Gauges(
            phase=desk.state.phase,
            user_percentage=float(plain_number(effective_percentage(desk.state, desk.rules))),
            transitions=parts.history.transitions,
            rollbacks=parts.history.rollbacks,
            gates=gates.asked(desk.state, desk.rules, self._now()),
            cutover_engaged=parts.latch.page.engaged,
            reload_successful=parts.reloader.error is None,
            reload_success_at=parts.reloader.applied.at,
            reloads=results,
            file_differs=parts.reloader.file_differs,
            worker_restarts=parts.keeper.standing.worker_restarts,
            task_restarts=parts.tasks.restarts,
            state_bytes=self.state_bytes,
            alerts=parts.alerts.counts(),
            channels=parts.notifier.channels(),
            snapshot=parts.publisher.current.version,
            breakers=parts.upstreams.breaker_states(),
            experiments=parts.experiments.gauges(),
            holds={kind.value: kind in holding for kind in HoldKind},
            evidence=None if found is None else found.value,
            evidence_limit=None if found is None else found.limit,
        )


def _waits_for_failed_tests(refused: Refused) -> bool:
    return any(
        result.type is GateType.AUTOMATED_TEST and result.verdict is Verdict.FAIL
        for result in refused.refusal.gates
    )


def _failing_in_words(tasks: Collection[str]) -> str:
    if not tasks:
        return ""
    return f"{', '.join(tasks)}: fails again and again, so what depends on it is out of date; see the log"


def directory_bytes(directory: Path) -> int:
    """Bytes of the files in a directory and below; what cannot be read counts nothing."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
