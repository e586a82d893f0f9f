"""The seam inside one process: for tests, and for whoever embeds the data plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.link.api import EndpointHealth
from gateway.link.news import News
from gateway.link.queue import RecordQueue
from gateway.model.observation import Observation
from gateway.model.records import RecordBatch
from gateway.model.snapshot import Snapshot


class MemoryLink:
    """Both ends of the link at once: what is published is current at once, what is recorded is kept."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.current = snapshot
        self.health: EndpointHealth = {}
        self._observations: dict[str, Observation] = {}
        self._records = RecordQueue()
        self._reported = News()
        self._on_snapshot: list[Callable[[Snapshot], None]] = []
        self._on_health: list[Callable[[EndpointHealth], None]] = []

    def listen(
        self, on_snapshot: Callable[[Snapshot], None], on_health: Callable[[EndpointHealth], None]
    ) -> None:
        """See `link.api.WorkerEnd`."""
        self._on_snapshot.append(on_snapshot)
        self._on_health.append(on_health)

    def record(self, observation: Observation) -> bool:
        """See `link.api.WorkerEnd`."""
        before = self._observations.get(observation.incarnation, observation)
        ticks = observation.ticks.after(before.ticks)
        self._observations[observation.incarnation] = replace(observation, ticks=ticks)
        self._reported.came()
        return True

    def asked_anew(self) -> bool:
        """See `link.api.WorkerEnd`; here the reports are remembered, whoever listens."""
        return False

    def send_records(self, batch: RecordBatch) -> bool:
        """See `link.api.WorkerEnd`."""
        self._records.put(batch)
        return True

    def publish(self, snapshot: Snapshot) -> None:
        """See `link.api.ControlEnd`."""
        self.current = snapshot
        for callback in self._on_snapshot:
            callback(snapshot)

    def publish_health(self, health: EndpointHealth) -> None:
        """See `link.api.ControlEnd`."""
        self.health = health
        for callback in self._on_health:
            callback(health)

    def drain(self) -> list[Observation]:
        """See `link.api.ControlEnd`."""
        return list(self._observations.values())

    async def reported(self, patience: float) -> None:
        """See `link.api.ControlEnd`."""
        await self._reported.wait(patience)

    def drain_records(self) -> list[RecordBatch]:
        """See `link.api.ControlEnd`."""
        return self._records.take()

    @property
    def records_dropped(self) -> int:
        """See `link.api.ControlEnd`."""
        return self._records.dropped

    async def acknowledged(self, version: int, patience: float) -> bool:
        """See `link.api.ControlEnd`; in one process publishing is acknowledging."""
        return self.current.version >= version
