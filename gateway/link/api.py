"""The seam between the planes: four verbs, and endpoint health and records beside them.

Down: `publish(snapshot)` / `current`. Up: `record(observation)` / `drain()`, and for the requests of
running experiments, which no sum can stand for, `send_records` / `drain_records`. There is an in-memory
form for tests (`link.memory`) and one over sockets for real processes (`link.channel`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from gateway.model.observation import Observation
from gateway.model.records import RecordBatch
from gateway.model.snapshot import Snapshot

EndpointHealth: TypeAlias = Mapping[tuple[str, str], bool]
"""(upstream, endpoint) -> healthy, from the active checks. An endpoint that is absent is healthy."""


class WorkerEnd(Protocol):
    """What a worker holds. `current` and `health` are plain attributes: reading them costs nothing."""

    current: Snapshot
    health: EndpointHealth

    def listen(
        self, on_snapshot: Callable[[Snapshot], None], on_health: Callable[[EndpointHealth], None]
    ) -> None:
        """Call back on every new snapshot or health map, from now on, on the worker's loop."""

    def record(self, observation: Observation) -> bool:
        """Send a report without waiting; False if it could not be sent now (nothing is lost)."""

    def asked_anew(self) -> bool:
        """True once after somebody began to listen who knows no report of before: the next one is whole."""

    def send_records(self, batch: RecordBatch) -> bool:
        """Send records without waiting; False if they could not be sent now."""


class ControlEnd(Protocol):
    """What the control process holds: one end for all workers."""

    def publish(self, snapshot: Snapshot) -> None:
        """Hand the snapshot to every worker, and to every worker started later."""

    def publish_health(self, health: EndpointHealth) -> None:
        """Hand the whole health map to every worker, and to every worker started later."""

    def drain(self) -> list[Observation]:
        """The newest observation of every worker; that of one which is gone once more, and never again."""

    async def reported(self, patience: float) -> None:
        """Return once a worker has reported since the last call, or after `patience` seconds."""

    def drain_records(self) -> list[RecordBatch]:
        """The records that came since the last call, oldest first; each batch is given out once."""

    @property
    def records_dropped(self) -> int:
        """Records that came and that nobody fetched in time, since this end began."""

    async def acknowledged(self, version: int, patience: float) -> bool:
        """Wait until every live worker serves snapshot `version` or newer; False after `patience` s."""
