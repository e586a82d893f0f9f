"""What the admin API shows of alerts: active ones, past ones, and the answer to Alertmanager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.control.alerting.inbound import Answer, ForeignAlert, Inbound
from gateway.control.alerting.watch import AlertWatch, resolved_view, view
from gateway.control.history import MEMORY_EVENTS, History


class AlertService:
    """Answers the alerts' paths (`admin.alerts.AlertBackend`)."""

    def __init__(self, watch: AlertWatch, inbound: Inbound, history: History) -> None:
        self._watch = watch
        self._inbound = inbound
        self._history = history

    def alerts(self, state: str) -> list[dict[str, Any]]:
        """See `AlertBackend`. Of those that are over, as many as the newest events tell of."""
        active = [{**view(alert), "resolved_at": None} for alert in self._watch.active]
        if state == "active":
            return active
        events = reversed(self._history.recent(MEMORY_EVENTS))
        resolved = [shown for event in events if (shown := resolved_view(event)) is not None]
        return resolved if state == "resolved" else active + resolved

    async def take_alerts(self, alerts: Sequence[ForeignAlert], operator: str | None) -> Answer:
        """See `AlertBackend`."""
        return await self._inbound.take(alerts, operator)
