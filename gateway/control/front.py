"""The admin API with all its areas, and the dashboard: assembled, opened and closed.

It knows which areas there are. What they answer is up to them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping

from gateway.control.admin.alerts import AlertResources
from gateway.control.admin.dashboard import DashboardResources
from gateway.control.admin.experiments import ExperimentResources
from gateway.control.admin.outcomes import OutcomeResources
from gateway.control.admin.server import Access, AdminServer
from gateway.control.alerting.inbound import Inbound
from gateway.control.alerting.service import AlertService
from gateway.control.dashboard.view import DashboardView
from gateway.control.operations import Operations
from gateway.control.parts import Parts
from gateway.model.config import Config


class Front:
    """The areas over the parts, on a listening socket that somebody else opened."""

    def __init__(
        self,
        parts: Parts,
        operations: Operations,
        listening: socket.socket,
        config: Config,
        now: Callable[[], float],
    ) -> None:
        """`config` says who may ask, until `follow` does; `now` is Unix time in seconds."""
        self._view = DashboardView(parts, operations, now)
        self._dashboard = DashboardResources(self._view)
        inbound = Inbound(parts.store, parts.desk, parts.latch, parts.aftermath.tell)
        areas = (
            self._dashboard,
            AlertResources(AlertService(parts.alerts, inbound, parts.history)),
            ExperimentResources(parts.experiments),
            OutcomeResources(parts.experiments),
        )
        self.server = AdminServer(operations, _access(config), listening, areas=areas)

    def __repr__(self) -> str:
        return f"<Front {self.server!r}>"

    def follow(self, config: Config) -> None:
        """Let in whom this config names, from the next request on."""
        self.server.access = _access(config)

    async def start(self) -> None:
        """Answer from now on."""
        await self.server.start()

    def tasks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The background work, by name."""
        return {"admin": self.server.run, "dashboard": self._view.run}

    async def close(self) -> None:
        """Take no more requests; those that are here have a second to be answered."""
        self._dashboard.end_streams()
        await self.server.close()


def _access(config: Config) -> Access:
    tokens = {name: token.secret for name, token in config.admin.tokens.items()}
    return Access(config.admin.address, tokens)
