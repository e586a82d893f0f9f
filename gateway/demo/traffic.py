"""The demo's users: a bounded, open-loop load of JSON completions and token streams.

Requests arrive at random at a fixed mean rate, whatever the answers do, as with real users. A limit
on open requests keeps a hanging pipeline from filling the memory. Every user keeps one id for ever.

It knows the gateway's public address and headers and nothing else of it.
"""

from __future__ import annotations

import asyncio
import random
import time

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from gateway.demo.tally import Ending, Sample, Tally
from gateway.model.snapshot import Arm

USER_COUNT = 300
MAX_SECONDS = 12 * 3600.0
"""A demo that was forgotten ends by itself."""
MAX_OPEN = 512
"""Requests open at once; what is due beyond that is not sent."""
_STREAM_SHARE = 0.25
_CLIENT_TIMEOUT = 15.0
_PATIENCE = 20.0  # seconds without any answer; longer than the client's own timeout
_ARMS = {arm.label: arm for arm in Arm}
_NAMES = (
    *("ada", "alan", "barbara", "claude", "donald", "edsger", "emmy", "frances", "grace", "hedy"),
    *("john", "karen", "katherine", "leslie", "linus", "margaret", "niklaus", "radia", "tim", "tony"),
)


class NoAnswers(Exception):
    """The gateway answered nothing for so long that it must be gone."""


def user_ids(count: int) -> list[str]:
    """Distinct, readable ids: `ada-1`, `alan-1`, … `ada-2` …"""
    return [f"{_NAMES[i % len(_NAMES)]}-{i // len(_NAMES) + 1}" for i in range(count)]


class Traffic:
    """Sends `rate` requests per second to `url` and tells the tally how each of them ended.

    After `patience` seconds without any answer the gateway counts as gone.
    """

    def __init__(
        self, url: str, rate: float, tally: Tally, rng: random.Random, patience: float = _PATIENCE
    ) -> None:
        self._patience = patience
        self._url = url
        self._rate = rate
        self._tally = tally
        self._rng = rng
        self._users = user_ids(USER_COUNT)
        self._open: set[asyncio.Task[None]] = set()
        self._last_answer = 0.0

    async def run(self) -> None:
        """Send until cancelled, or for `MAX_SECONDS`. Raises NoAnswers when the gateway is gone."""
        timeout = ClientTimeout(total=_CLIENT_TIMEOUT, sock_connect=2.0)
        async with ClientSession(connector=TCPConnector(limit=0), timeout=timeout) as session:
            try:
                await self._send_on_schedule(session)
            finally:
                await self._abandon()

    async def _send_on_schedule(self, session: ClientSession) -> None:
        start = due = self._last_answer = time.monotonic()
        while due - start < MAX_SECONDS:
            if time.monotonic() - self._last_answer > self._patience:
                raise NoAnswers(f"{self._url} answered nothing for {self._patience:g} s")
            due += self._rng.expovariate(self._rate)
            await asyncio.sleep(due - time.monotonic())
            if len(self._open) < MAX_OPEN:
                task = asyncio.create_task(self._request(session))
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    async def _abandon(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _request(self, session: ClientSession) -> None:
        user = self._rng.choice(self._users)
        streamed = self._rng.random() < _STREAM_SHARE
        began = time.monotonic()
        arm, status, first_byte = None, 0, 0.0
        try:
            async with session.post(
                self._url,
                json={"prompt": "How does the rollout go?", "stream": streamed},
                headers={"X-User-Id": user, "X-Step-Type": "generate"},
            ) as response:
                status = response.status
                arm = _ARMS.get(response.headers.get("X-Gateway-Arm", ""))
                last = b""
                async for chunk in response.content.iter_any():
                    first_byte = first_byte or time.monotonic() - began
                    last = (last + chunk)[-64:]
                ending = _ending(status, streamed, last)
        except TimeoutError:
            ending = Ending.TIMEOUT
        except (ClientError, OSError):
            ending = Ending.CUT_OFF if status else Ending.NO_CONNECTION
        now = time.monotonic()
        if status:
            self._last_answer = now
        self._tally.add(Sample(now, user, arm, streamed, status, ending, first_byte, now - began))


def _ending(status: int, streamed: bool, last_bytes: bytes) -> Ending:
    if status != 200:
        return Ending.FAILED
    if streamed and not last_bytes.endswith(b"data: [DONE]\n\n"):
        return Ending.CUT_OFF
    return Ending.OK
