"""The seam between the planes: four verbs, and endpoint health beside them.

Down: `publish(snapshot)` / `current`. Up: `record(observation)` / `drain()`. There is an in-memory
form for tests (`link.memory`) and one over sockets for real processes (`link.channel`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from gateway.model.observation import Observation
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


class ControlEnd(Protocol):
    """What the control process holds: one end for all workers."""

    def publish(self, snapshot: Snapshot) -> None:
        """Hand the snapshot to every worker, and to every worker started later."""

    def publish_health(self, health: EndpointHealth) -> None:
        """Hand the whole health map to every worker, and to every worker started later."""

    def drain(self) -> list[Observation]:
        """The newest observation of every worker incarnation ever seen by this end."""

    async def acknowledged(self, version: int, patience: float) -> bool:
        """Wait until every live worker serves snapshot `version` or newer; False after `patience` s."""
