"""Tells readers what changed: one bounded queue per reader."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.control.store.api import Change

QUEUE_LIMIT = 1000
"""Changes that a slow reader may be behind; the oldest give way."""


class FeedSubscription:
    """See `store.api.Subscription`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._changes: deque[Change] = deque(maxlen=QUEUE_LIMIT)
        self._news = asyncio.Event()
        self._closed = False

    def put(self, change: Change) -> None:
        """Let the reader have a change."""
        self._changes.append(change)
        self._news.set()

    def __aiter__(self) -> FeedSubscription:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._changes.popleft()

    def close(self) -> None:
        """End the iteration after what is there already."""
        self._closed = True
        self._feed.drop(self)
        self._news.set()


class Feed:
    """All readers of one store."""

    def __init__(self) -> None:
        self._readers: set[FeedSubscription] = set()

    def subscribe(self) -> FeedSubscription:
        """A new reader, of what changes from now on."""
        reader = FeedSubscription(self)
        self._readers.add(reader)
        return reader

    def drop(self, reader: FeedSubscription) -> None:
        """Forget a reader."""
        self._readers.discard(reader)

    def tell(self, change: Change) -> None:
        """Let every reader have a change."""
        for reader in self._readers:
            reader.put(change)

    def close(self) -> None:
        """End every reader's iteration."""
        for reader in tuple(self._readers):
            reader.close()
