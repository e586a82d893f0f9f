"""The admin API's paths and what each of them answers.

Handlers translate between HTTP and `Backend`; what a request means for the gateway is not decided
here. New paths are added to `routes`, and to the OpenAPI document beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import hdrs, web

from gateway.control.admin.openapi import DOCUMENT
from gateway.control.admin.problems import Problem
from gateway.control.admin.requests import check_precondition, read_limit, read_order, read_question
from gateway.control.latching import Engagement, Operator, Release, ReleaseResult
from gateway.core.explain import Question

API = "/api/v1"
OPERATOR: ContextVar[str | None] = ContextVar("operator", default=None)
"""Whose token the request under way holds; None where no tokens are configured."""


class Backend(Protocol):
    """What the admin API asks of the control process. Documents are JSON-ready."""

    def not_ready(self) -> str:
        """Why the gateway should get no traffic; "" while it is ready. Never speaks of treatment."""

    def state_version(self) -> int:
        """The version that `If-Match` is compared with; all that happened up to now is in it."""

    def status(self) -> dict[str, Any]:
        """The gateway at a glance."""

    def history(self, limit: int) -> list[dict[str, Any]]:
        """The newest events, newest last."""

    def explain(self, question: Question) -> dict[str, Any]:
        """The decision for a request and its reason."""

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type."""

    async def engage(self, by: Operator) -> Engagement:
        """Everything to control, now."""

    async def release(self, by: Operator, number: int | None) -> Release:
        """Lift the latch."""


class Resources:
    """The handlers over one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> Iterable[web.RouteDef]:
        """Every path."""
        return (
            web.get("/livez", self.livez),
            web.get("/healthz", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.get("/openapi.json", self.openapi),
            web.get(f"{API}/status", self.status),
            web.get(f"{API}/history", self.history),
            web.get(f"{API}/explain", self.explain),
            web.post(f"{API}/emergency", self.emergency),
            web.post(f"{API}/release", self.release),
        )

    async def livez(self, _: web.Request) -> web.Response:
        """The control process answers."""
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        """The gateway serves, whatever treatment does."""
        if reason := self._backend.not_ready():
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{reason}\n")
        return web.Response(text="ok\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """For Prometheus."""
        body, content_type = self._backend.metrics(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def openapi(self, _: web.Request) -> web.Response:
        """This API, described."""
        return _json(DOCUMENT)

    async def status(self, _: web.Request) -> web.Response:
        """The gateway at a glance; its ETag is what If-Match takes."""
        document = self._backend.status()
        return _json(document, {hdrs.ETAG: f'"{document["version"]}"'})

    async def history(self, request: web.Request) -> web.Response:
        """What happened, newest last."""
        return _json(self._backend.history(read_limit(request)))

    async def explain(self, request: web.Request) -> web.Response:
        """Which arm serves a user, and why."""
        return _json(self._backend.explain(read_question(request)))

    async def emergency(self, request: web.Request) -> web.Response:
        """Engage the latch. Depends on nothing that was read: If-Match is not looked at."""
        order = await read_order(request, OPERATOR.get())
        engagement = await self._backend.engage(Operator(order.operator, order.reason, order.metadata))
        return _json({"engaged": True, "number": engagement.number, "durable": engagement.durable})

    async def release(self, request: web.Request) -> web.Response:
        """Lift the latch, if it still is the engagement that the operator meant."""
        order = await read_order(request, OPERATOR.get())
        check_precondition(request, self._backend.state_version())
        by = Operator(order.operator, order.reason, order.metadata)
        release = await self._backend.release(by, order.number)
        match release.result:
            case ReleaseResult.OVERTAKEN:
                detail = (
                    f"another engagement than number {release.number} holds the latch; nothing was released"
                )
                raise Problem(HTTPStatus.CONFLICT, detail)
            case ReleaseResult.NOT_DURABLE:
                detail = "the release could not be written to the state directory; nothing was released"
                raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
            case ReleaseResult.RELEASED | ReleaseResult.WAS_NOT_ENGAGED:
                released = release.result is ReleaseResult.RELEASED
                return _json({"engaged": False, "released": released, "number": release.number})


def _json(document: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(document, headers=headers)
