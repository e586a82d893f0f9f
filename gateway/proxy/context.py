"""What all connections of one worker share: the plan, the buffers, the counters, the time.

The worker keeps it up to date; connections and exchanges read it. They know nothing else of their worker.
"""

from __future__ import annotations

import asyncio
import os
import time
from email.utils import formatdate
from typing import Protocol

from gateway.latch import LatchPage
from gateway.marks import UserMarks
from gateway.proxy.accesslog import AccessLog
from gateway.proxy.plan import Plan
from gateway.proxy.recorder import Recorder

READ_BUFFER = 65_536
"""One read takes at most this many bytes, so that one stream cannot fill the memory in one go."""

MOST_REFUSED = 32
"""Connections above the limit that get the time to read why they were refused."""


class Swept(Protocol):
    """A client's connection as the worker's sweep sees it. `deadline` is monotonic seconds."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed."""

    def end_treatment(self) -> bool:
        """End what is open on treatment, so that it never looks whole; True if there was something."""

    def drain(self) -> None:
        """Finish what runs, then end."""

    def abort_now(self) -> None:
        """End at once."""


class Context:
    """See the module. All of a worker's connections live on one loop: nothing here needs a lock.

    `buffer` is the one read buffer, valid until the next read.
    """

    plan: Plan

    def __init__(self, loop: asyncio.AbstractEventLoop, latch: LatchPage, marks: UserMarks) -> None:
        self.loop = loop
        self.marks = marks
        self._latch_words = latch.words
        self.buffer = memoryview(bytearray(READ_BUFFER))
        self.recorder = Recorder()
        self.access_log: AccessLog | None = None
        self.clients: set[Swept] = set()
        self.most_clients = 0
        self.draining = False
        self.date_field = b""
        self._told_second = -1
        self.tell_the_time()
        self._request_prefix = os.urandom(8).hex().encode()
        self._request_count = 0

    def __repr__(self) -> str:
        return f"<Context of {len(self.clients)} clients>"

    @property
    def latched(self) -> bool:
        """True while the latch is engaged; see `latch.LatchPage.engaged`, which this is without the call."""
        words = self._latch_words
        return words[1] != words[2]

    def admit(self, client: Swept) -> bool:
        """Count a new connection; False if there are too many."""
        self.clients.add(client)
        return len(self.clients) <= self.most_clients

    @property
    def crowded(self) -> bool:
        """True if even saying why a connection is refused would take too much."""
        return len(self.clients) > self.most_clients + MOST_REFUSED

    def dismiss(self, client: Swept) -> None:
        """A client's connection is gone."""
        self.clients.discard(client)

    def new_request_id(self) -> bytes:
        """32 hexadecimal digits, unique to this worker and, by its random half, among all."""
        self._request_count += 1
        return b"%b%016x" % (self._request_prefix, self._request_count)

    def tell_the_time(self) -> None:
        """Renew the Date line that answers without one get (RFC 9110 section 6.6.1), and the marks' time."""
        now = time.time()
        second = int(now)
        if second != self._told_second:
            self._told_second = second
            self.date_field = b"Date: " + formatdate(now, usegmt=True).encode()
        self.marks.follow(now)
