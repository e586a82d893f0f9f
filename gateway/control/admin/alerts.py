"""The paths of alerts: active ones, past ones, and the webhook for Alertmanager."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import web

from gateway.control.admin.alerts_openapi import STATES
from gateway.control.admin.problems import Problem
from gateway.control.admin.refusals import translated
from gateway.control.admin.requests import read_json
from gateway.control.admin.resources import API, OPERATOR
from gateway.control.alerting.inbound import Answer, ForeignAlert, MalformedError, read_payload


class AlertBackend(Protocol):
    """What the alerts' paths ask of the control process. Documents are JSON-ready."""

    def alerts(self, state: str) -> list[dict[str, Any]]:
        """The alerts in that state (one of STATES), those that stand first, gravest first."""

    async def take_alerts(self, alerts: Sequence[ForeignAlert], operator: str | None) -> Answer:
        """Act on what Alertmanager's alerts ask for. Raises what `refusals` translates."""


class AlertResources:
    """The handlers over one backend."""

    def __init__(self, backend: AlertBackend) -> None:
        self._backend = backend

    def routes(self) -> Iterable[web.RouteDef]:
        """Every path."""
        return (
            web.get(f"{API}/alerts", self.alerts),
            web.post(f"{API}/alerts/alertmanager", self.alertmanager),
        )

    async def alerts(self, request: web.Request) -> web.Response:
        """The alerts that stand; with `state` those that are over, or all."""
        state = request.query.get("state", STATES[0])
        if state not in STATES:
            raise Problem(HTTPStatus.BAD_REQUEST, f"state must be one of {', '.join(STATES)}")
        return web.json_response(self._backend.alerts(state))

    async def alertmanager(self, request: web.Request) -> web.Response:
        """Alertmanager's webhook: a firing alert may ask for a rollback or an emergency."""
        try:
            alerts = read_payload(await read_json(request))
        except MalformedError as error:
            raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from error
        with translated():
            answer = await self._backend.take_alerts(alerts, OPERATOR.get())
        return web.json_response(
            {
                "taken": [
                    {"alert": one.alert, "action": one.action.value, "repeated": one.repeated}
                    for one in answer.taken
                ],
                "ignored": [
                    {"alert": one.alert, "asked": one.asked, "reason": one.reason} for one in answer.ignored
                ],
            }
        )
