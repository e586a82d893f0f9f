"""A proxy as one would write it in an afternoon: aiohttp in front, aiohttp behind.

It is the yardstick for what the gateway's own relay buys. Usage: `naive.py LISTEN CONTROL TREATMENT`
(ports on loopback). It splits by user id and streams; it does nothing else.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"})
TREATMENT_SHARE = 10


class Relay:
    """Forwards every request to one of two upstreams."""

    def __init__(self, control: int, treatment: int) -> None:
        self._control = f"http://127.0.0.1:{control}"
        self._treatment = f"http://127.0.0.1:{treatment}"
        self._session: aiohttp.ClientSession

    async def session(self, _: web.Application) -> AsyncIterator[None]:
        """Keep one client session for as long as the application runs."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as self._session:
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Relay one request and stream its answer."""
        user = request.headers.get("X-User-Id", "").encode()
        base = self._treatment if zlib.crc32(user) % 100 < TREATMENT_SHARE else self._control
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        body = request.content if request.can_read_body else None
        async with self._session.request(
            request.method, base + request.raw_path, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers[name] = value
            response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def main() -> None:
    """Serve until a signal."""
    listen, control, treatment = (int(argument) for argument in sys.argv[1:])
    relay = Relay(control, treatment)
    application = web.Application(client_max_size=0)
    application.cleanup_ctx.append(relay.session)
    application.router.add_route("*", "/{path:.*}", relay.handle)
    web.run_app(application, host="127.0.0.1", port=listen, access_log=None, print=None, backlog=4096)


if __name__ == "__main__":
    main()
