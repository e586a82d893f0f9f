"""Receivers of messages: real HTTP servers that take what they are sent, or behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN = "s3cr3t-t0ken"
"""Part of every receiver's URL, as in Slack's: it must never be seen anywhere."""


@dataclass
class Receiver:
    """What came, and how it is answered.

    `statuses` are answered in turn, then 200; to a body with `choking` in it 500 for ever. With `stalled`
    nothing is answered until it is cleared.
    """

    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    tries: int = 0
    url: str = ""
    choking: str = ""

    @property
    def titles(self) -> list[str]:
        """Of webhook messages."""
        return [body["title"] for body in self.bodies]

    async def take(self, request: web.Request) -> web.Response:
        self.tries += 1
        text = await request.text()
        body = json.loads(text)
        await self.stalled.wait()
        if self.choking and self.choking in text:
            return web.Response(status=500)
        status = self.statuses.pop(0) if self.statuses else 200
        if status < 300:
            self.bodies.append(body)
            self.paths.append(request.path)
        return web.Response(status=status, headers=self.headers)


@contextlib.asynccontextmanager
async def receiving(*statuses: int, stalled: bool = False) -> AsyncIterator[Receiver]:
    """A receiver at a URL of its own, with a secret in it."""
    receiver = Receiver(list(statuses))
    if not stalled:
        receiver.stalled.set()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    server = TestServer(app)
    await server.start_server()
    receiver.url = f"http://127.0.0.1:{server.port}/{TOKEN}"
    try:
        yield receiver
    finally:
        receiver.stalled.set()
        await server.close()
