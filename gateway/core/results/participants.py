"""The participants of an experiment and the sums of what each of them did, a million in 60 MB.

A pure data structure: a `roster` of users, and a column of plain numbers for each metric. The groups'
totals are kept with every value that comes, and exactly: they are the same whether they were added up
one by one or rebuilt from the rows.

It does not know routes, ids of users, files or clocks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from gateway.core.results.columns import BLOCK, NO_CAP, Column, FailureColumn, ValueColumn
from gateway.core.results.roster import ABSENT, RETURNED, Roster
from gateway.core.results.tally import ERROR_RATE, RESPONSE_TIME, Arrivals, GroupTally, Tally
from gateway.model.records import NO_OUTCOME, REQUEST
from gateway.model.scores import MOST_SCORE

REQUEST_METRICS = (RESPONSE_TIME, ERROR_RATE)
"""The metrics that every table begins with, made from the requests and from nothing else."""
PORTION = 2_000
"""Rows loaded at a time: by slices, while the copies are small enough to leave no holes in memory."""

_WRAP = 1 << 64


class StoredRow(NamedTuple):
    """A row as a store keeps it; (user, group) is its key, and a newer row replaces an older one.

    `user` is the hash as a signed number, as SQLite wants it. `epoch` is that in which the user was
    first seen, 0 where another group had it before. `data` are 16 bytes for each metric in the table's
    order (how many values, their sum; in the machine's byte order); a row from a time with fewer
    metrics is shorter.
    """

    user: int
    group: str
    epoch: int
    data: bytes


class ParticipantTable:
    """Per-user sums of one experiment. Not for several threads at once.

    `metrics` are those that the stored rows were written with (`table.metrics` of the time), in that
    order; `caps` limit single values: larger ones are counted as the cap. A user that is dealt to
    another group, in a later epoch, has a row in each of them.
    """

    def __init__(
        self,
        groups: Sequence[str],
        *,
        metrics: Sequence[str] = REQUEST_METRICS,
        caps: Mapping[str, float] | None = None,
        epoch: int = 1,
    ) -> None:
        self._groups: list[str] = []
        self._roster = Roster()
        self._caps = dict(caps or {})
        self._response_time = ValueColumn(RESPONSE_TIME, self._caps.get(RESPONSE_TIME, NO_CAP))
        self._error_rate = FailureColumn(ERROR_RATE, self._response_time)
        self._reported: dict[str, ValueColumn] = {}
        self._columns: list[Column] = [self._response_time, self._error_rate]
        """All of them in the order of the rows' data."""
        self._room = 0
        """Rows that the columns have room for."""
        self._requests: list[int] = []
        """Each group's requests that had an outcome."""
        self._changed: set[int] = set()
        self.begin_epoch(epoch, groups)
        if tuple(metrics[: len(REQUEST_METRICS)]) != REQUEST_METRICS:
            raise ValueError(f"metrics begin with {', '.join(REQUEST_METRICS)}, not {metrics}")
        for metric in metrics[len(REQUEST_METRICS) :]:
            self._column(metric)

    def __len__(self) -> int:
        """The number of participants, a user once for each of its groups."""
        return len(self._roster)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics in the order of the rows' data. It only grows, and belongs beside stored rows."""
        return tuple(column.metric for column in self._columns)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups' names in the order of their numbers; it only grows."""
        return tuple(self._groups)

    def begin_epoch(self, epoch: int, groups: Sequence[str]) -> None:
        """From now on users that were never seen before arrive in this epoch (from 1)."""
        if epoch <= RETURNED:
            raise ValueError(f"epochs count from 1, not {epoch}")
        self._epoch = epoch
        for group in groups:
            self._add_group(group)

    def set_caps(self, caps: Mapping[str, float]) -> None:
        """From now on values above a metric's cap count as the cap."""
        self._caps = dict(caps)
        for column in (self._response_time, *self._reported.values()):
            column.cap = self._caps.get(column.metric, NO_CAP)

    def group_number(self, group: str) -> int:
        """The number of a group for `merge`. Raises KeyError for an unknown one."""
        try:
            return self._groups.index(group)
        except ValueError:
            raise KeyError(group) from None

    def is_participant(self, user: int, group: str) -> bool:
        """Whether the user with this (unsigned) hash has taken part in the group."""
        return self._find(user, group) != ABSENT

    def merge(
        self,
        records: Iterable[tuple[int, int, int, float]],
        groups: Mapping[int, int],
        metrics: Sequence[str],
    ) -> None:
        """Add records (user, series, metric, value) as `model.records` defines them.

        `groups` maps a series to the number of its group; records of other series are passed over, as
        are values that are no measurements. `metrics` are the batch's. Users who are new take part
        from now on.
        """
        enrol, epoch, changed, requests = self._roster.enrol, self._epoch, self._changed, self._requests
        add_time, add_success = self._response_time.add, self._error_rate.add_success
        last_user = last_series = ABSENT
        group: int | None = None
        row = ABSENT
        for user, series, metric, value in records:
            if user != last_user or series != last_series:
                last_user, last_series = user, series
                group = groups.get(series)
                if group is not None:
                    row = enrol(user, group, epoch)
                    changed.add(row)
                    if row >= self._room:
                        self._reserve()
            if group is None:
                continue
            if metric != REQUEST:
                self._add_reported(row, group, metrics[metric - 1], value)
            elif value >= 0.0:
                requests[group] += 1
                add_success(row, group, add_time(row, group, value))
            elif value != NO_OUTCOME:
                requests[group] += 1
                self._error_rate.add_failure(row, group)

    def _add_reported(self, row: int, group: int, metric: str, value: float) -> None:
        if -MOST_SCORE <= value <= MOST_SCORE and metric not in REQUEST_METRICS:
            self._column(metric).add(row, group, value)

    def report(self, user: int, group: str, metric: str, value: float) -> bool:
        """Add a late outcome of a participant; False, and nothing added, for somebody who is none.

        Raises ValueError for a metric that only requests make, or a value that is no measurement.
        """
        if metric in REQUEST_METRICS:
            raise ValueError(f"{metric} is measured, not reported")
        if not -MOST_SCORE <= value <= MOST_SCORE:
            raise ValueError(f"{value} is no measurement: expected a number of {MOST_SCORE:.0e} at most")
        row = self._find(user, group)
        if row == ABSENT:
            return False
        self._column(metric).add(row, self.group_number(group), value)
        self._changed.add(row)
        return True

    def tally(self) -> Tally:
        """What all rows come to; the cost does not depend on how many there are."""
        roster = self._roster
        participants = [0] * len(self._groups)
        arrivals = []
        for group, epoch, rows in zip(roster.cell_groups, roster.cell_epochs, roster.cell_rows, strict=True):
            participants[group] += rows
            if epoch != RETURNED:
                arrivals.append(Arrivals(epoch, self._groups[group], rows))
        groups = (self._group_tally(group, users) for group, users in enumerate(participants))
        return Tally(tuple(groups), tuple(sorted(arrivals, key=lambda cell: (cell.epoch, cell.group))))

    def take_changed(self) -> list[StoredRow]:
        """The rows that changed since the last call, as they are now."""
        pack = struct.Struct("=" + "qd" * len(self._columns)).pack
        rows = []
        for row in self._changed:
            cell = self._roster.cell_of(row)
            user = self._roster.users[row]
            data: list[float] = []
            for column in self._columns:
                data += (column.count(row), column.total(row))
            group, epoch = self._roster.cell_groups[cell], self._roster.cell_epochs[cell]
            signed = user if user < _WRAP // 2 else user - _WRAP
            rows.append(StoredRow(signed, self._groups[group], epoch, pack(*data)))
        self._changed.clear()
        return rows

    def load(self, rows: Iterable[tuple[int, str, int, bytes]]) -> None:
        """Take in stored rows; before anything else is added, in as many portions as one likes."""
        source = iter(rows)
        while portion := list(islice(source, PORTION)):
            self._load(portion)

    def _load(self, rows: Sequence[tuple[int, str, int, bytes]]) -> None:
        by_group: dict[str, list[tuple[int, str, int, bytes]]] = {}
        for row in rows:
            by_group.setdefault(row[1], []).append(row)
        for name, same in by_group.items():
            self._add_group(name)
            self._load_group(self.group_number(name), same)

    def _load_group(self, group: int, rows: Sequence[tuple[int, str, int, bytes]]) -> None:
        first = len(self._roster)
        self._roster.restore([row[0] % _WRAP for row in rows], group, [row[2] for row in rows])
        self._reserve()
        words = 2 * len(self._columns)
        data = memoryview(b"".join([row[3].ljust(8 * words, b"\0") for row in rows]))
        whole, real = data.cast("q"), data.cast("d")
        for number, column in enumerate(self._columns):
            counts = whole[2 * number :: words].tolist()
            column.restore(first, group, counts, real[2 * number + 1 :: words].tolist())
            if column is self._error_rate:
                self._requests[group] += sum(counts)

    def _find(self, user: int, group: str) -> int:
        return self._roster.find(user, self.group_number(group)) if group in self._groups else ABSENT

    def _add_group(self, group: str) -> None:
        if group not in self._groups:
            self._groups.append(group)
            self._requests.append(0)
            for column in self._columns:
                column.reserve_groups(len(self._groups))

    def _column(self, metric: str) -> ValueColumn:
        """The column of a reported metric, a new one where there was none."""
        column = self._reported.get(metric)
        if column is None:
            column = ValueColumn(metric, self._caps.get(metric, NO_CAP))
            column.reserve(self._room)
            column.reserve_groups(len(self._groups))
            self._reported[metric] = column
            self._columns.append(column)
        return column

    def _reserve(self) -> None:
        """Give every column room for the rows that there are."""
        if len(self._roster) > self._room:
            self._room = (len(self._roster) // BLOCK + 1) * BLOCK
        for column in self._columns:
            column.reserve(self._room)

    def _group_tally(self, group: int, participants: int) -> GroupTally:
        summaries = [column.summary(group) for column in self._columns]
        reported = sorted((summary for summary in summaries if summary.n), key=attrgetter("metric"))
        return GroupTally(self._groups[group], participants, self._requests[group], tuple(reported))
