"""The participants of an experiment and the sums of what each of them did, a million in 60 MB.

A pure data structure: columns of plain numbers, a row for each user and group, found by the user's
64-bit hash through open addressing. The groups' totals are kept exactly, in whole numbers, so they are
the same whether they were added up one by one in any order or rebuilt from the rows.

It does not know routes, ids of users, files or clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.core.results.tally import ERROR_RATE, RESPONSE_TIME, Tally

REQUEST_METRICS = (RESPONSE_TIME, ERROR_RATE)
"""The metrics that every table begins with."""


class StoredRow(NamedTuple):
    """A row as a store keeps it; (user, group) is its key, and a newer row replaces an older one.

    `user` is the hash as a signed number, as SQLite wants it. `epoch` is that in which the user was
    first seen, 0 where another group had it before. `data` are 16 bytes for each metric in the table's
    order (how many values, their sum); a row that was written when there were fewer metrics is shorter.
    """

    user: int
    group: str
    epoch: int
    data: bytes


class ParticipantTable:
    """Per-user sums of one experiment. Not for several threads at once.

    `metrics` are those that the stored rows were written with (`table.metrics` of the time), in that
    order; `caps` limit single values: larger ones are counted as the cap.
    """

    def __init__(
        self,
        groups: Sequence[str],
        *,
        metrics: Sequence[str] = REQUEST_METRICS,
        caps: Mapping[str, float] | None = None,
        epoch: int = 1,
    ) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        """The number of participants, a user once for each of its groups."""
        raise NotImplementedError

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics in the order of the rows' data. It only grows, and belongs beside stored rows."""
        raise NotImplementedError

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups' names; it only grows."""
        raise NotImplementedError

    def begin_epoch(self, epoch: int, groups: Sequence[str]) -> None:
        """From now on users that were never seen before arrive in this epoch (from 1)."""
        raise NotImplementedError

    def group_number(self, group: str) -> int:
        """The number of a group for `merge`. Raises KeyError for an unknown one."""
        raise NotImplementedError

    def is_participant(self, user: int, group: str) -> bool:
        """Whether the user with this hash has taken part in the group."""
        raise NotImplementedError

    def merge(
        self,
        records: Iterable[tuple[int, int, int, float]],
        groups: Mapping[int, int],
        metrics: Sequence[str],
    ) -> None:
        """Add records (user, series, metric, value) as `model.records` defines them.

        `groups` maps a series to the number of its group; records of other series are passed over.
        `metrics` are the batch's. Users who are new take part from now on.
        """
        raise NotImplementedError

    def report(self, user: int, group: str, metric: str, value: float) -> bool:
        """Add a late outcome of a participant; False, and nothing added, for somebody who is none."""
        raise NotImplementedError

    def tally(self) -> Tally:
        """What all rows come to; the cost does not depend on how many there are."""
        raise NotImplementedError

    def take_changed(self) -> list[StoredRow]:
        """The rows that changed since the last call, as they are now."""
        raise NotImplementedError

    def load(self, rows: Iterable[StoredRow]) -> None:
        """Take in stored rows; before anything else is added, in as many portions as one likes."""
        raise NotImplementedError
