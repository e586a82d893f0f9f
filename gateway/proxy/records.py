"""Records of requests of running experiments, on their way out of a worker.

The hot path writes them into one buffer, and they are sent a batch at a time. A batch that cannot be sent
waits for the next sweep. A record for which there is no space is dropped and counted. A record is sent at
most once.

It does not know what a record means; see `model.records`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.model.records import MOST_RECORDS, RECORD, RecordBatch
from gateway.model.ticks import Series

MOST_WAITING = 64
"""Full batches that wait at most: three megabytes, or half a minute of a busy worker's requests."""
_SIZE: Final = RECORD.size
_FULL: Final = MOST_RECORDS * _SIZE
_pack_into: Final = RECORD.pack_into


class Records:
    """See the module. `send` says whether a batch has left."""

    __slots__ = ("_buffer", "_incarnation", "_metrics", "_series", "_used", "_waiting", "dropped", "send")

    def __init__(self, incarnation: str) -> None:
        self.send: Callable[[RecordBatch], bool] = _nowhere
        self.dropped = 0
        self._incarnation = incarnation
        self._metrics: tuple[str, ...] = ()
        self._series: dict[int, Series] = {}
        self._buffer = bytearray(_FULL)
        self._used = 0
        self._waiting: deque[RecordBatch] = deque()

    def __repr__(self) -> str:
        return f"<Records used={self._used} waiting={len(self._waiting)} dropped={self.dropped}>"

    def follow(self, metrics: tuple[str, ...]) -> None:
        """Metrics are numbered by these from now on."""
        if metrics != self._metrics:
            self._close_batch()
            self._metrics = metrics

    def add(self, user: int, number: int, series: Series, metric: int, value: float) -> None:
        """Record one request, or one value reported for it; see `model.records.Record`."""
        used = self._used
        _pack_into(self._buffer, used, user, number, metric, value)
        self._series[number] = series
        self._used = used = used + _SIZE
        if used == _FULL:
            self._close_batch()
            self._send_waiting()

    def flush(self) -> None:
        """Send what there is, as far as it can leave now."""
        if self._used or self._waiting:
            self._close_batch()
            self._send_waiting()

    def _close_batch(self) -> None:
        if not self._used:
            return
        batch = RecordBatch(
            self._incarnation, self._series, self._metrics, bytes(memoryview(self._buffer)[: self._used])
        )
        self._series = {}
        self._used = 0
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(batch)
        else:
            self.dropped += len(batch)

    def _send_waiting(self) -> None:
        while self._waiting and self.send(self._waiting[0]):
            self._waiting.popleft()


def _nowhere(_: RecordBatch) -> bool:
    return False
