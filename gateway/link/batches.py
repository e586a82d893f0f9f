"""Batches of records as packets carry them: a head of JSON, a line feed, and the records as they are."""

from __future__ import annotations

import json

from gateway.model.records import RECORD, RecordBatch
from gateway.model.ticks import Series


def encode_batch(batch: RecordBatch) -> bytes:
    """The batch as bytes."""
    series = [
        (number, one.snapshot, one.route, one.arm, one.experiment, one.group, one.first)
        for number, one in batch.series.items()
    ]
    head = json.dumps([batch.incarnation, series, batch.metrics], separators=(",", ":"))
    return head.encode() + b"\n" + batch.data


def decode_batch(payload: bytes) -> RecordBatch:
    """Undo `encode_batch`. Raises ValueError or TypeError on foreign bytes."""
    head, line_feed, data = payload.partition(b"\n")
    incarnation, series, metrics = json.loads(head)
    if not line_feed or len(data) % RECORD.size:
        raise ValueError("the batch is cut short")
    return RecordBatch(
        str(incarnation),
        {int(number): Series(*names) for number, *names in series},
        tuple(map(str, metrics)),
        data,
    )
