"""The core paths of the admin API and what each of them answers.

Handlers translate between HTTP and `Backend`; they do not decide what a request means for the gateway. A
new area is a module of its own with `routes`, its OpenAPI paths beside it, and one line in
`control.front`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextvars import ContextVar
from fractions import Fraction
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import hdrs, web

from gateway.control.admin.openapi import DOCUMENT
from gateway.control.admin.refusals import translated
from gateway.control.admin.requests import Order, read_limit, read_order, read_precondition, read_question
from gateway.control.latching import Operator
from gateway.core.explain import Question
from gateway.model.rollout import (
    Advance,
    Approve,
    Authority,
    BeginDrain,
    Event,
    Pause,
    Reject,
    Resume,
    Rollback,
)

API = "/api/v1"
OPERATOR: ContextVar[str | None] = ContextVar("operator", default=None)
"""Whose token the request under way holds; None where no tokens are configured."""


class Backend(Protocol):
    """What the admin API asks of the control process. Documents are JSON-ready.

    Writes raise what `refusals` translates. `expected` are the versions of the state that a write may
    meet, None for any.
    """

    def not_ready(self) -> str:
        """Why the gateway should get no traffic; "" while it is ready. Never speaks of treatment."""

    async def status(self) -> dict[str, Any]:
        """The gateway at a glance; all that happened up to now is in its version."""

    async def history(self, limit: int) -> list[dict[str, Any]]:
        """The newest events, newest last."""

    def explain(self, question: Question) -> dict[str, Any]:
        """The decision for a request and its reason."""

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type."""

    async def engage(self, by: Operator) -> dict[str, Any]:
        """Everything to control, now."""

    async def release(
        self, by: Operator, number: int | None, percentage: Fraction | None, expected: Collection[int] | None
    ) -> dict[str, Any]:
        """Lift the latch, or move the ceiling."""

    async def carry_out(self, event: Event, expected: Collection[int] | None) -> dict[str, Any]:
        """Have the rollout take a step; where it stands then.

        A gate goes by its id, or by its type where that says which.
        """


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
            web.post(f"{API}/rollout/advance", self.advance),
            web.post(f"{API}/rollout/rollback", self.rollback),
            web.post(f"{API}/rollout/pause", self.pause),
            web.post(f"{API}/rollout/resume", self.resume),
            web.post(f"{API}/gates/{{gate}}/approve", self.approve),
            web.post(f"{API}/gates/{{gate}}/reject", self.reject),
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
        document = await self._backend.status()
        return _json(document, {hdrs.ETAG: f'"{document["version"]}"'})

    async def history(self, request: web.Request) -> web.Response:
        """What happened, newest last."""
        return _json(await self._backend.history(read_limit(request)))

    async def explain(self, request: web.Request) -> web.Response:
        """Which arm serves a user, and why."""
        return _json(self._backend.explain(read_question(request)))

    async def emergency(self, request: web.Request) -> web.Response:
        """Engage the latch. Depends on nothing that was read: If-Match is not looked at."""
        order = await read_order(request, OPERATOR.get())
        return _json(await self._backend.engage(order.by))

    async def release(self, request: web.Request) -> web.Response:
        """Lift the latch, if it still is the engagement that the operator meant."""
        order = await read_order(request, OPERATOR.get(), "number", "percentage")
        expected = read_precondition(request)
        with translated():
            return _json(await self._backend.release(order.by, order.number, order.percentage, expected))

    async def advance(self, request: web.Request) -> web.Response:
        """To the next phase, if the gates allow it or by force."""
        order = await read_order(request, OPERATOR.get(), "force")
        authority = Authority.FORCE if order.force else Authority.GATES
        return await self._carry_out(request, Advance(**_audit(order), authority=authority))

    async def rollback(self, request: web.Request) -> web.Response:
        """Everything to control and a step back: at once, or after a drain."""
        order = await read_order(request, OPERATOR.get(), "graceful")
        event = BeginDrain(**_audit(order)) if order.graceful else Rollback(**_audit(order))
        return await self._carry_out(request, event)

    async def pause(self, request: web.Request) -> web.Response:
        """No advance from now on."""
        order = await read_order(request, OPERATOR.get())
        return await self._carry_out(request, Pause(**_audit(order)))

    async def resume(self, request: web.Request) -> web.Response:
        """The pause ends."""
        order = await read_order(request, OPERATOR.get())
        return await self._carry_out(request, Resume(**_audit(order)))

    async def approve(self, request: web.Request) -> web.Response:
        """A person's word for a gate."""
        order = await read_order(request, OPERATOR.get())
        event = Approve(**_audit(order), gate=request.match_info["gate"], named=order.by.named)
        return await self._carry_out(request, event)

    async def reject(self, request: web.Request) -> web.Response:
        """A person's word against a gate."""
        order = await read_order(request, OPERATOR.get())
        return await self._carry_out(request, Reject(**_audit(order), gate=request.match_info["gate"]))

    async def _carry_out(self, request: web.Request, event: Event) -> web.Response:
        with translated():
            return _json(await self._backend.carry_out(event, read_precondition(request)))


def _audit(order: Order) -> dict[str, Any]:
    """Who and why, as every event takes it."""
    return {"operator": order.by.name, "reason": order.by.reason, "metadata": order.by.metadata}


def _json(document: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(document, headers=headers)
