"""One channel's messages on their way: a bounded queue, and one at a time until it arrives or is given up.

Nobody waits for it: whoever has something to say puts it in and goes on. A message that cannot be
delivered is tried again after pauses that double, of random length, so that many gateways do not come
back at the same moment; what a channel refuses for good is not tried again. The channel's address is a
secret (it often is its own password): it is in no log line, no error and no `repr`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from gateway import logs
from gateway.core.alerts import GRAVITY
from gateway.model.rollout import Severity

CAPACITY = 100
"""Messages that may wait. Beyond that the least grave goes, the oldest of them first."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a delivery is tried, in seconds.

    One try may take `one_try`. The pause after try n is random between 0 and `first_pause` * 2**n, at
    most `longest_pause` ("full jitter": AWS Architecture Blog, "Exponential Backoff and Jitter", 2015).
    After `tries` it is given up: some twenty minutes by these defaults.
    """

    one_try: float = 10.0
    first_pause: float = 1.0
    longest_pause: float = 300.0
    tries: int = 16

    def pause(self, failures: int, asked: float | None) -> float:
        """Seconds to wait after so many failures in a row, and no less than the channel asked for."""
        most = min(self.longest_pause, self.first_pause * 2.0 ** min(failures, 32))
        return max(min(asked or 0.0, self.longest_pause), random.uniform(0.0, most))


@dataclass(frozen=True, slots=True)
class Message:
    """A body to be posted as JSON. Of those with the same `topic` only the newest waits; "" for none."""

    severity: Severity
    title: str
    body: bytes
    topic: str = ""


@dataclass(slots=True)
class Deliveries:
    """What became of a channel's messages. `error` is why the newest try failed, "" after a good one."""

    sent: int = 0
    failed: int = 0
    """Tries that failed; most of these messages arrive later."""
    dropped: int = 0
    """Messages that never arrived: refused, given up, or pushed out of a full queue."""
    error: str = ""


class _Failure(Exception):
    """A try failed. `for_good`: another one would fail too; `pause`: seconds that the channel asks for."""

    def __init__(self, reason: str, *, for_good: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.for_good = for_good
        self.pause = pause


class Outbox:
    """See the module. `run` delivers for ever."""

    def __init__(self, name: str, url: str, patience: Patience = Patience()) -> None:
        """`name` is the channel's, for people; `url` is where its messages are posted."""
        self.deliveries = Deliveries()
        self.on_change: Callable[[], None] = _nothing
        """Called whenever other messages wait than before."""
        self.name = name
        """The channel's, for people."""
        self._url = url
        self._patience = patience
        self._waiting: list[Message] = []
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<Outbox {self.name} waiting={len(self._waiting)} {self.deliveries}>"

    @property
    def waiting(self) -> tuple[Message, ...]:
        """The messages that have not arrived yet, the one under way included."""
        return tuple(self._waiting)

    def put(self, message: Message) -> None:
        """Take a message. Never waits and never fails."""
        under_way, queued = self._waiting[:1], self._waiting[1:]
        if message.topic:
            queued = [other for other in queued if other.topic != message.topic]
        self._waiting = [*under_way, *queued, message]
        if len(self._waiting) > CAPACITY:
            least = min(self._waiting[1:], key=lambda waiting: GRAVITY[waiting.severity])
            self._waiting.remove(least)
            self._drop(least, "too many messages wait")
        self._idle.clear()
        self._news.set()
        self.on_change()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Deliver, one message at a time, for ever."""
        while True:
            await self._news.wait()
            while self._waiting:
                message = self._waiting[0]
                await self._deliver(session, message)
                self._waiting.remove(message)
                self.on_change()
            self._news.clear()
            self._idle.set()

    async def drained(self) -> None:
        """Wait until nothing waits any more."""
        await self._idle.wait()

    def abandon(self, reason: str) -> None:
        """Give up everything that waits."""
        for message in self._waiting:
            self._drop(message, reason)
        self._waiting.clear()
        self._idle.set()
        self.on_change()

    async def _deliver(self, session: aiohttp.ClientSession, message: Message) -> None:
        for failures in range(1, self._patience.tries + 1):
            try:
                await self._post(session, message)
            except _Failure as failure:
                self.deliveries.failed += 1
                self.deliveries.error = str(failure)
                logs.warn("notification failed", channel=self.name, tries=failures, reason=str(failure))
                if failure.for_good or failures == self._patience.tries:
                    break
                await asyncio.sleep(self._patience.pause(failures, failure.pause))
            else:
                self.deliveries.sent += 1
                self.deliveries.error = ""
                return
        self._drop(message, self.deliveries.error)

    async def _post(self, session: aiohttp.ClientSession, message: Message) -> None:
        """Raises _Failure in words that do not hold the address."""
        try:
            async with (
                asyncio.timeout(self._patience.one_try),
                # A redirect would carry the message, and what the address says, to somebody else.
                session.post(self._url, data=message.body, headers=_JSON, allow_redirects=False) as response,
            ):
                status = response.status
                asked = response.headers.get("Retry-After", "")
        except TimeoutError:
            raise _Failure(f"no answer within {self._patience.one_try:g} s") from None
        except (aiohttp.InvalidURL, ValueError):
            raise _Failure("the channel's address is no URL", for_good=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Failure(_reason(error)) from None
        if not 200 <= status < 300:
            pause = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 8 else None
            raise _Failure(f"answered {status}", for_good=_is_for_good(status), pause=pause)

    def _drop(self, message: Message, reason: str) -> None:
        self.deliveries.dropped += 1
        logs.audit("notification dropped", channel=self.name, title=message.title, reason=reason)


def _nothing() -> None:
    """What follows where nobody wants to know."""


_JSON = {"Content-Type": "application/json"}


def _is_for_good(status: int) -> bool:
    """A client error will be one again, but for those that say "later"."""
    later = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
    return 300 <= status < 500 and status not in later


def _reason(error: Exception) -> str:
    """What went wrong, without what aiohttp and asyncio add of the address."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number is not None and number > 0 else type(error).__name__


OutboxFactory = Callable[[str, str], Outbox]
"""Makes the outbox of a channel, from its name and its URL."""
