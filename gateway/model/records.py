"""Records: one request of a running experiment, or one value reported for it, in 24 bytes.

Counts suffice for an arm, but the results of an experiment are about its participants, so they need to know
whose request it was. A user is known by the hash of the id, never by the id. Records travel in batches and at
most once: what is lost is counted, and nothing is repeated.

It does not know how batches travel, nor how they are used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway.model.ticks import Series

RECORD = struct.Struct("<QIId")
"""A record's layout: user (u64), series (u32), metric (u32), value (f64)."""
REQUEST = 0
"""The metric of a record that stands for a request itself; metric m is `metrics[m - 1]` of the batch."""
FAILED = math.nan
"""A request's value where the upstream failed it: a failed head, or an answer cut short."""
NO_OUTCOME = -1.0
"""A request's value where it says nothing of its group: a client error, or a client that left.

Its user takes part all the same, for that was fixed when the request was decided.
"""
MOST_RECORDS = 2000
"""Records in a batch at most, so that one fits into a packet."""


class Record(NamedTuple):
    """One record. `user` is `xxh3_64` of the id's bytes, `series` a key of the batch's `series`.

    `value` of a REQUEST is the latency of a success in seconds, FAILED (not a number) or NO_OUTCOME; of
    any other metric it is what was reported.
    """

    user: int
    series: int
    metric: int
    value: float


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one worker in the order in which they were made.

    `series` has all that occur in `data`. A series' number means the same as long as the worker's
    incarnation lives, and nothing beyond. `metrics` are the snapshot's of the time.
    """

    incarnation: str
    series: Mapping[int, Series]
    metrics: tuple[str, ...]
    data: bytes

    def __len__(self) -> int:
        return len(self.data) // RECORD.size

    def records(self) -> Iterator[Record]:
        """The records one by one; for large numbers go over `RECORD.iter_unpack(data)` instead."""
        return map(Record._make, RECORD.iter_unpack(self.data))
