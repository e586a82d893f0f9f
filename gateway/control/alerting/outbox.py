"""One channel's messages on their way: bounded, one try at a time, each until it arrives or is given up.

Nobody waits for it: whoever has something to say puts it in and goes on. A message that cannot be
delivered is tried again after pauses that double, of random length, so that many gateways do not come
back at the same moment; what a channel refuses for good is not tried again. Messages about one subject
arrive in their order, for the newest is what holds. Those about another go their own way, the gravest
first: what a receiver chokes on must not hold up an emergency. Nor may it hold up its own subject: one that
is refused again and again is given up as soon as a later one arrives. The channel's address is a secret
(it often is its own password): it is in no log line, no error and no `repr`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from gateway import logs
from gateway.model.alerts import GRAVITY, Severity

CAPACITY = 100
"""Messages that may wait. Beyond that the least grave goes, the oldest of them first."""
MOST_REFUSALS = 5
"""Times that a receiver may refuse a message before the next of its subject is tried as well: some seconds,
and more than a balancer with one broken server behind it refuses by chance."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a delivery is tried, in seconds.

    One try may take `one_try`. The pause after try n is random between 0 and `first_pause` * 2**n, at
    most `longest_pause` ("full jitter": AWS Architecture Blog, "Exponential Backoff and Jitter", 2015).
    A try that fails when the message is older than `give_up` was its last.
    """

    one_try: float = 10.0
    first_pause: float = 1.0
    longest_pause: float = 300.0
    give_up: float = 1200.0

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        return random.uniform(0.0, min(self.longest_pause, self.first_pause * 2.0 ** min(failures, 32)))


@dataclass(frozen=True, slots=True)
class Message:
    """A body to be posted as JSON. Those with the same `subject` arrive in their order.

    Of those with the same `topic` only the newest waits; "" for none.
    """

    severity: Severity
    title: str
    body: bytes
    topic: str = ""
    subject: str = ""


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
    """A try failed. `refused`: by an answer, not for want of one; `for_good`: another one would fail too;
    `pause`: seconds that the channel asks for."""

    def __init__(
        self, reason: str, *, refused: bool = False, for_good: bool = False, pause: float | None = None
    ) -> None:
        super().__init__(reason)
        self.refused = refused
        self.for_good = for_good
        self.pause = pause


@dataclass(eq=False, slots=True)
class _Delivery:
    """A message on its way. `since` and `due` (its next try) are seconds of the loop's clock."""

    message: Message
    since: float
    due: float
    failures: int = 0
    refusals: int = 0


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
        self._waiting: list[_Delivery] = []
        self._under_way: _Delivery | None = None
        self._closed_until = 0.0
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<Outbox {self.name} waiting={len(self._waiting)} {self.deliveries}>"

    @property
    def waiting(self) -> tuple[Message, ...]:
        """The messages that have not arrived yet, the one under way included."""
        return tuple(delivery.message for delivery in self._waiting)

    def put(self, message: Message) -> None:
        """Take a message, to be tried at once. Never waits and never fails."""
        now = asyncio.get_running_loop().time()
        if message.topic:
            self._waiting = [each for each in self._waiting if not self._is_outdated(each, message)]
        self._waiting.append(_Delivery(message, now, now))
        if len(self._waiting) > CAPACITY:
            self._make_room()
        for earlier in self._waiting:
            if earlier.message.subject == message.subject:
                earlier.due = now  # it is in the way of what is to be told now
        self._idle.clear()
        self._news.set()
        self.on_change()

    def _is_outdated(self, earlier: _Delivery, message: Message) -> bool:
        return earlier.message.topic == message.topic and earlier is not self._under_way

    def _make_room(self) -> None:
        candidates = [delivery for delivery in self._waiting if delivery is not self._under_way]
        least = min(candidates, key=lambda delivery: GRAVITY[delivery.message.severity])
        self._waiting.remove(least)
        self._drop(least.message, "too many messages wait")

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Deliver, one message at a time, for ever."""
        while True:
            self._news.clear()
            now = asyncio.get_running_loop().time()
            ahead = self._ahead()
            ready = [delivery for delivery in ahead if max(delivery.due, self._closed_until) <= now]
            if ready:
                await self._deliver(session, max(ready, key=lambda each: GRAVITY[each.message.severity]))
            else:
                await self._until(min((delivery.due for delivery in ahead), default=None))

    def _ahead(self) -> Collection[_Delivery]:
        """The oldest of each subject, oldest first."""
        ahead: dict[str, _Delivery] = {}
        for delivery in self._waiting:
            ahead.setdefault(delivery.message.subject, delivery)
        return ahead.values()

    async def _until(self, due: float | None) -> None:
        """Wait for news, or for something to be due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(None if due is None else max(due, self._closed_until)):
                await self._news.wait()

    async def drained(self) -> None:
        """Wait until nothing waits any more."""
        await self._idle.wait()

    def abandon(self, reason: str) -> None:
        """Give up everything that waits."""
        for message in self.waiting:
            self._drop(message, reason)
        self._waiting.clear()
        self._idle.set()
        self.on_change()

    async def _deliver(self, session: aiohttp.ClientSession, oldest: _Delivery) -> None:
        """Try the oldest of a subject; where that is refused again and again, those behind it too.

        Whatever is refused while a later one arrives is the fault of the message, not of the moment.
        """
        refused: list[_Delivery] = []
        subject = oldest.message.subject
        for delivery in [each for each in self._waiting if each.message.subject == subject]:
            if delivery not in self._waiting:
                continue  # it has made room for another meanwhile
            if await self._try(session, delivery):
                self._give_up(refused)
                return
            if delivery.refusals < MOST_REFUSALS or asyncio.get_running_loop().time() < self._closed_until:
                return
            refused.append(delivery)

    def _give_up(self, refused: Sequence[_Delivery]) -> None:
        """Drop what was refused before a later message arrived."""
        for delivery in refused:
            if delivery in self._waiting:
                self._remove(delivery)
                self._drop(delivery.message, f"refused {delivery.refusals} times, and a later one was not")

    async def _try(self, session: aiohttp.ClientSession, delivery: _Delivery) -> bool:
        """Try once; True if it arrived. What may succeed later waits on."""
        self._under_way = delivery
        try:
            await self._post(session, delivery.message)
        except _Failure as failure:
            if self._is_over(delivery, failure):
                self._remove(delivery)
                self._drop(delivery.message, str(failure))
            return False
        finally:
            self._under_way = None
        self.deliveries.sent += 1
        self.deliveries.error = ""
        self._remove(delivery)
        return True

    def _remove(self, delivery: _Delivery) -> None:
        self._waiting = [other for other in self._waiting if other is not delivery]
        if not self._waiting:
            self._idle.set()
        self.on_change()

    def _is_over(self, delivery: _Delivery, failure: _Failure) -> bool:
        """What a failed try leads to: True if it was the last, else it has its next time."""
        now = asyncio.get_running_loop().time()
        delivery.failures += 1
        delivery.refusals += failure.refused
        self.deliveries.failed += 1
        self.deliveries.error = str(failure)
        logs.warn("notification failed", channel=self.name, tries=delivery.failures, reason=str(failure))
        if failure.pause is not None:
            self._closed_until = now + min(failure.pause, self._patience.longest_pause)
        delivery.due = now + self._patience.pause(delivery.failures)
        return failure.for_good or now - delivery.since >= self._patience.give_up

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
            raise _Failure(f"answered {status}", refused=True, for_good=_is_for_good(status), pause=pause)

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
