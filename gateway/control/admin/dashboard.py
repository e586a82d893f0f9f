"""The paths of the dashboard: the page and its files, its data, and the stream of events.

The page contains no data and is served to everybody who can reach the port; the data need a token like
the rest of the API. The stream says that something changed, not what the page should show. A client that
stops reading gets nothing more. It is disconnected at the connection's deadline, which only reading
renews.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, Protocol

from aiohttp import hdrs, web

from gateway.control.admin.guard import CONTINUE
from gateway.control.admin.problems import Problem
from gateway.control.admin.resources import API
from gateway.control.dashboard.document import Reach
from gateway.control.dashboard.files import ASSETS, DIGEST, PREFIX
from gateway.control.dashboard.page import POLICY, page

LOOK_INTERVAL = 0.2
"""Seconds between two looks for something new: how late a stream hears of it."""
TICK_INTERVAL = 2.0
"""Seconds between two ticks of a stream: traffic counts move without any event."""
HEARTBEAT_INTERVAL = 1.0
"""Seconds between two comments, which keep proxies from closing a stream."""
MAX_STREAMS = 32
"""Open streams at once; far fewer than the connections that the guard allows."""
_SEND_BUFFER = 16 * 1024  # bytes that the kernel holds of a stream before it shows that nobody reads
_RETRY_AFTER = "5"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class DashboardBackend(Protocol):
    """What the dashboard asks of the control process."""

    def mark(self) -> tuple[object, ...]:
        """Differs from an earlier one once something happened; cheap."""

    def standing(self) -> dict[str, Any]:
        """Where the rollout stands."""

    async def document(self, reach: Reach) -> dict[str, Any]:
        """All that the page shows; courses of time go back as far as asked for."""

    async def panels(self, reach: Reach) -> str:
        """The page's sections as HTML."""


class DashboardResources:
    """The handlers over one backend."""

    def __init__(self, backend: DashboardBackend) -> None:
        self._backend = backend
        self._page = page()
        self._streams = 0
        self._ended = False

    def __repr__(self) -> str:
        return f"<DashboardResources streams={self._streams}>"

    def routes(self) -> Iterable[web.RouteDef]:
        """Every path."""
        return (
            web.get("/", self.page),
            web.get(f"{PREFIX}/{{digest}}/{{name}}", self.asset),
            web.get(f"{API}/dashboard", self.document),
            web.get(f"{API}/dashboard/panels", self.panels),
            web.get(f"{API}/events", self.events),
        )

    def end_streams(self) -> None:
        """The control process ends: no stream waits for it."""
        self._ended = True

    async def page(self, _: web.Request) -> web.Response:
        """The empty page."""
        headers = {**_HEADERS, hdrs.CACHE_CONTROL: "no-cache"}
        return web.Response(text=self._page, content_type="text/html", headers=headers)

    async def asset(self, request: web.Request) -> web.Response:
        """A file of the page. An old digest gets the file of now: it is not kept."""
        asset = ASSETS.get(request.match_info["name"])
        if asset is None:
            raise Problem(HTTPStatus.NOT_FOUND, "the dashboard has no such file")
        is_current = request.match_info["digest"] == DIGEST
        headers = {**_HEADERS, hdrs.CACHE_CONTROL: _FOR_EVER if is_current else "no-store"}
        return web.Response(
            body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers
        )

    async def document(self, request: web.Request) -> web.Response:
        """All that the page shows, as data."""
        document = await self._backend.document(_reach(request))
        headers = {hdrs.ETAG: f'"{document["version"]}"', hdrs.CACHE_CONTROL: "no-store"}
        return web.json_response(document, headers=headers)

    async def panels(self, request: web.Request) -> web.Response:
        """All that the page shows, as the page's sections."""
        headers = {**_HEADERS, hdrs.CACHE_CONTROL: "no-store"}
        html = await self._backend.panels(_reach(request))
        return web.Response(text=html, content_type="text/html", headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events for ever: `hello`, then `state` whenever something happened, and `tick`."""
        if self._streams >= MAX_STREAMS:
            detail = f"{MAX_STREAMS} streams are open already"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {hdrs.RETRY_AFTER: _RETRY_AFTER})
        response = web.StreamResponse(headers={hdrs.CACHE_CONTROL: "no-store", "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        self._streams += 1
        try:
            await response.prepare(request)
            await self._stream(request, response)
        except (ConnectionError, Problem):
            pass  # the reader left, or may not read any more
        finally:
            self._streams -= 1
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        clock, renew = asyncio.get_running_loop().time, CONTINUE.get()
        _bound_memory(request)
        mark, told, ticked = self._backend.mark(), clock(), clock()
        await response.write(_event("hello", {"assets": DIGEST, **self._backend.standing()}))
        while not self._ended:
            await asyncio.sleep(LOOK_INTERVAL)
            now, newest = clock(), self._backend.mark()
            if now - told < HEARTBEAT_INTERVAL and newest == mark:
                continue
            if _unread(request):
                continue
            if newest != mark:
                mark, message = newest, _event("state", self._backend.standing())
            elif now - ticked >= TICK_INTERVAL:
                ticked, message = now, _event("tick", {"version": self._backend.standing()["version"]})
            else:
                message = _ALIVE
            renew()
            await response.write(message)
            told = now


_ALIVE: Final = b": alive\n\n"


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _reach(request: web.Request) -> Reach:
    """How far back is asked for. Raises Problem 400."""
    text = request.query.get("reach", Reach.QUARTER.value)
    try:
        return Reach(text)
    except ValueError:
        known = ", ".join(reach.value for reach in Reach)
        raise Problem(HTTPStatus.BAD_REQUEST, f"reach must be one of {known}") from None


def _bound_memory(request: web.Request) -> None:
    connection = None if request.transport is None else request.transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


def _unread(request: web.Request) -> bool:
    """True while the kernel does not even take what was written. Raises ConnectionError once it is over."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    return transport.get_write_buffer_size() > 0
