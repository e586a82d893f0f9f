"""The participants of an experiment and the sums of what each of them did: a million in 55 MB.

A pure data structure: a `roster` of users, and a column of plain numbers for each metric. The groups'
totals are updated with every value, and they are exact: the same whether they were added up
one by one or rebuilt from the rows.

It does not know routes, ids of users, files or clocks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from gateway.core.results.columns import BLOCK, NO_CAP, Column, FailureColumn, ValueColumn
from gateway.core.results.head import Head, from_text, to_text
from gateway.core.results.journal import PAGE, Changes, Journal
from gateway.core.results.numbers import Numbers, pack, unpack
from gateway.core.results.roster import ABSENT, RETURNED, Roster
from gateway.core.results.tally import ERROR_RATE, RESPONSE_TIME, Arrivals, GroupTally, Tally
from gateway.model.records import NO_OUTCOME, REQUEST
from gateway.model.scores import MOST_SCORE

REQUEST_METRICS = (RESPONSE_TIME, ERROR_RATE)
"""The metrics that every table begins with, made from the requests and from nothing else."""


class ParticipantTable:
    """Per-user sums of one experiment. Not for several threads at once.

    `metrics` are the columns to begin with; `caps` limit single values: larger ones are counted as the
    cap. A user that is dealt to another group, in a later epoch, has a row in each of them. What changes
    goes to a store by `take_changes`, and comes back by `stored`.
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
        self._journal = Journal()
        self._is_counted = False
        """Whether the totals of what is loaded came with it."""
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
        """The metrics in the order of the columns. It only grows."""
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
        enrol, epoch, requests = self._roster.enrol, self._epoch, self._requests
        marks, reported = self._journal.marks, self._reported
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
                    if row >= self._room:
                        self._reserve()
                    marks[row] = 1
            if group is None:
                continue
            if metric != REQUEST:
                name = metrics[metric - 1]
                if -MOST_SCORE <= value <= MOST_SCORE and name not in REQUEST_METRICS:
                    (reported.get(name) or self._column(name)).add(row, group, value)
            elif value >= 0.0:
                requests[group] += 1
                add_success(row, group, add_time(row, group, value))
            elif value != NO_OUTCOME:
                requests[group] += 1
                self._error_rate.add_failure(row, group)

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
        self._journal.marks[row] = 1
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

    # --- to a store and back -------------------------------------------------------------------

    def take_changes(self) -> Changes | None:
        """What changed since the last call, for a store; None for nothing."""
        journal, rows = self._journal, self._journal.take()
        if not rows:
            return None
        planes = self._planes()
        entry = pack([array("I", rows), *(plane.take(rows) for plane in planes)])
        due, void = journal.enter(len(rows), len(self))
        pages = {}
        for page in due:
            end = min((page + 1) * PAGE, len(self))
            pages[page] = pack([plane.values[page * PAGE : end] for plane in planes])
        return Changes(to_text(self._head()), journal.newest, entry, pages, void)

    def _head(self) -> Head:
        return Head(
            rows=len(self),
            groups=self.groups,
            cells=tuple(zip(self._roster.cell_groups, self._roster.cell_epochs, strict=True)),
            metrics=self.metrics,
            requests=tuple(self._requests),
            totals=tuple(column.totals for column in self._columns),
        )

    @classmethod
    def stored(cls, head: str) -> ParticipantTable:
        """A table that a store has; its pages, its journal and `finish` are to follow, in this order."""
        known = from_text(head)
        table = cls(known.groups, metrics=known.metrics)
        table._roster.reserve(known.rows, known.cells)
        table._reserve()
        if known.totals is not None:
            table._is_counted = True
            table._requests[:] = known.requests
            for column, totals in zip(table._columns, known.totals, strict=True):
                column.restore_totals(totals)
        return table

    def load_page(self, number: int, data: bytes) -> None:
        """Take in a stored page."""
        arrays = unpack(data)
        first = number * PAGE
        self._restore(range(first, first + len(arrays[0])), arrays)

    def load_entry(self, number: int, data: bytes) -> None:
        """Take in an entry of the stored journal; they come in the order of their numbers."""
        rows, *arrays = unpack(data)
        run = range(rows[0], rows[-1] + 1)
        self._restore(run if len(run) == len(rows) else rows, arrays)  # a run is restored far quicker
        self._journal.resume(number, len(rows))

    def _restore(self, rows: Sequence[int], arrays: Sequence[array[Any]]) -> None:
        for plane, numbers in zip(self._planes(), arrays, strict=False):  # fewer, from before a metric came
            plane.restore(rows, numbers)

    def finish(self) -> Iterator[None]:
        """Make the table ready after everything was loaded; stops now and then for others to go on."""
        for first in range(0, len(self), PAGE):
            end = min(first + PAGE, len(self))
            self._roster.place(first, end)
            if not self._is_counted:
                self._recount(range(first, end))
            yield

    def _recount(self, rows: Iterable[int]) -> None:
        for row in rows:
            group = self._roster.group_of(row)
            self._requests[group] += self._error_rate.count(row)
            for column in self._columns:
                column.recount(row, group)

    def _planes(self) -> list[Numbers[int] | Numbers[float]]:
        """All numbers of all rows, in the order in which a store has them: it only grows at the end."""
        planes: list[Numbers[int] | Numbers[float]] = [self._roster.users, self._roster.cells]
        for column in self._columns:
            planes += column.planes
        return planes

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
        self._journal.reserve(self._room)
        for column in self._columns:
            column.reserve(self._room)

    def _group_tally(self, group: int, participants: int) -> GroupTally:
        summaries = [column.summary(group) for column in self._columns]
        reported = sorted((summary for summary in summaries if summary.n), key=attrgetter("metric"))
        return GroupTally(self._groups[group], participants, self._requests[group], tuple(reported))
