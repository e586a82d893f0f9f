"""What operators, scrapers and probes get to see and do: the admin API's backend.

It looks at the parts of the control process and puts together what they say; it holds nothing
itself but the size of the state directory, which is measured now and then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.control import views
from gateway.control.health import HealthChecks
from gateway.control.history import History
from gateway.control.latching import Engagement, LatchDesk, Operator, Release
from gateway.control.ledger import Ledger
from gateway.control.metrics import Gauges, Metrics
from gateway.control.publishing import Publisher
from gateway.control.reload import Reloader
from gateway.control.tasks import TaskKeeper
from gateway.core.explain import Question, explain
from gateway.latch import LatchKind
from gateway.link.api import ControlEnd
from gateway.model.process import Keeper, WorkerStatus


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running control process."""

    link: ControlEnd
    keeper: Keeper
    workers: Callable[[], Sequence[WorkerStatus]]
    publisher: Publisher
    reloader: Reloader
    health: HealthChecks
    latch: LatchDesk
    history: History
    ledger: Ledger
    tasks: TaskKeeper


class Operations:
    """Answers the admin API (`admin.resources.Backend`) from the parts."""

    def __init__(self, parts: Parts, phase_since: Callable[[], float]) -> None:
        """`phase_since` is when the current phase began, in Unix seconds."""
        self.state_bytes = 0
        self._parts = parts
        self._phase_since = phase_since
        self._metrics = Metrics(parts.ledger, self._gauges)

    def observe(self) -> None:
        """Take in what the workers reported since the last time."""
        self._parts.ledger.take(self._parts.link.drain())
        self._parts.ledger.retire({worker.pid for worker in self._parts.workers()})

    def not_ready(self) -> str:
        """See `Backend`."""
        self.observe()
        if self._parts.latch.page.draining:
            return "the gateway is shutting down"
        return "" if self._parts.ledger.live else "no worker serves yet"

    def state_version(self) -> int:
        """See `Backend`."""
        self._parts.latch.note()
        return self._parts.history.version

    def status(self) -> dict[str, Any]:
        """See `Backend`."""
        self.observe()
        parts = self._parts
        standing = parts.keeper.standing
        applied = parts.reloader.applied
        return views.status(
            views.StatusView(
                version=self.state_version(),
                phase=parts.publisher.current.phase,
                phase_since=self._phase_since(),
                user_percentage=parts.publisher.current.user_percentage,
                snapshot=parts.publisher.current.version,
                latch=parts.latch.page.state(),
                durable=parts.latch.durable,
                state_fault=parts.latch.fault or standing.state_fault,
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
                started_at=standing.started_at,
                pid=standing.pid,
            )
        )

    def history(self, limit: int) -> list[dict[str, Any]]:
        """See `Backend`."""
        self._parts.latch.note()
        return views.history(self._parts.history.recent(limit))

    def explain(self, question: Question) -> dict[str, Any]:
        """See `Backend`."""
        self.observe()
        table = self._parts.publisher.table
        available = [
            self._available(upstream.name, upstream.endpoints) for upstream in table.snapshot.upstreams
        ]
        latched = self._parts.latch.page.engaged
        return asdict(explain(table, question, latched=latched, available=available))

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """See `Backend`."""
        self.observe()
        return self._metrics.render(accept)

    async def engage(self, by: Operator) -> Engagement:
        """See `Backend`."""
        return await self._parts.latch.engage(LatchKind.EMERGENCY, by)

    async def release(self, by: Operator, number: int | None) -> Release:
        """See `Backend`."""
        return await self._parts.latch.release(by, number)

    def _available(self, upstream: str, endpoints: Sequence[str]) -> bool:
        """True if a worker uses one of the endpoints; before any reported, if a check found one good."""
        reported: dict[str, bool] = {}
        for report in self._parts.ledger.live.values():
            for endpoint in report.endpoints:
                if endpoint.upstream == upstream:
                    reported[endpoint.endpoint] = reported.get(endpoint.endpoint, False) or endpoint.healthy
        checked = self._parts.health.health
        return any(reported.get(endpoint, checked.get((upstream, endpoint), True)) for endpoint in endpoints)

    def _gauges(self) -> Gauges:
        parts = self._parts
        results: Mapping[str, int] = {result.value: count for result, count in parts.reloader.results.items()}
        return Gauges(
            phase=parts.publisher.current.phase,
            user_percentage=parts.publisher.current.user_percentage,
            cutover_engaged=parts.latch.page.engaged,
            reload_successful=parts.reloader.error is None,
            reload_success_at=parts.reloader.applied.at,
            reloads=results,
            file_differs=parts.reloader.file_differs,
            worker_restarts=parts.keeper.standing.worker_restarts,
            task_restarts=parts.tasks.restarts,
            state_bytes=self.state_bytes,
            snapshot=parts.publisher.current.version,
        )


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
