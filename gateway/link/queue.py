"""Records that wait in the control process until somebody takes them: bounded, oldest first.

A queue and its two counts; it does not look into a batch.
"""

from __future__ import annotations

from gateway.model.records import RecordBatch

MOST_WAITING = 500_000
"""Records that wait at most, of 24 bytes each: what a busy gateway makes in half a minute."""


class RecordQueue:
    """See the module. `dropped` counts records for which there was no room."""

    def __init__(self) -> None:
        self._batches: list[RecordBatch] = []
        self._waiting = 0
        self.dropped = 0

    def __repr__(self) -> str:
        return f"<RecordQueue waiting={self._waiting} dropped={self.dropped}>"

    def put(self, batch: RecordBatch) -> None:
        """Keep a batch; without room it is dropped, so that what was taken in first is complete."""
        if self._waiting + len(batch) > MOST_WAITING:
            self.dropped += len(batch)
            return
        self._batches.append(batch)
        self._waiting += len(batch)

    def take(self) -> list[RecordBatch]:
        """Everything that waits; it waits no more."""
        batches, self._batches, self._waiting = self._batches, [], 0
        return batches
