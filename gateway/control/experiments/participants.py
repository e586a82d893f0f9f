"""Who takes part and what they did: a table per experiment in memory, with the file following it.

Records of the workers come in; every two seconds the sums go to the file, in one transaction with
everything else that waits. Nothing is added twice. A killed control process loses what it had not written
yet: at most two seconds of requests. What was added with `durable` is on disk when the call returns.

When an experiment is concluded, its tally is kept and its table is deleted. It does not know what the
sums mean, nor which outcomes may be added.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway import logs
from gateway.control.experiments.database import (
    JOURNAL,
    PAGES,
    Batch,
    ExperimentsDatabase,
    Rating,
    Remembered,
)
from gateway.control.experiments.file import ExperimentsFile
from gateway.control.experiments.timeline import Timeline
from gateway.control.store.api import StoreError
from gateway.control.store.encoding import from_json, to_json
from gateway.core.results.participants import ParticipantTable
from gateway.core.results.tally import Tally
from gateway.link.api import ControlEnd
from gateway.model.lifecycle import Experiment, Experiments, Status
from gateway.model.records import RECORD, RecordBatch

TAKE_INTERVAL = 0.25
"""Seconds between two looks at what the workers recorded."""
FLUSH_INTERVAL = 2.0
"""Seconds between two writes: what a dying process may lose."""
PIECES_AT_ONCE = 2
"""Pages read from the file at a time, between which the loop goes on: half a megabyte."""
ATTEMPTS, ATTEMPT_INTERVAL = 5, 1.0
"""How often a table is tried to be read before it counts as unreadable, and the seconds in between."""
PRUNE_INTERVAL = 300.0
_EMPTY = Tally((), ())


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One transaction that the file has not taken yet, and the ids of the outcomes in it."""

    batch: Batch
    ids: frozenset[bytes]


class Participants:
    """See the module. `await restore` comes first; tables are there once `run` has made it `ready`."""

    def __init__(
        self,
        link: ControlEnd,
        experiments: Callable[[], Experiments],
        timeline: Timeline,
        file: ExperimentsFile,
        *,
        retention: float,
        on_rating: Callable[[Rating], None],
    ) -> None:
        """`retention` is in seconds. `on_rating` gets every outcome of the rollout, once it is on disk."""
        self.ready = asyncio.Event()
        """Set once the tables are as the file had them: a million participants take some seconds."""
        self._link = link
        self._experiments = experiments
        self._timeline = timeline
        self._file = file
        self._retention = retention
        self._on_rating = on_rating
        self._tables: dict[str, ParticipantTable] = {}
        self._remembered: dict[str, Remembered] = {}
        self._unremembered: set[str] = set()
        """Experiments of which something else than rows is to be written."""
        self._anew: set[str] = set()
        """Experiments that were concluded and are to begin anew, once that stands."""
        self._forgotten: set[str] = set()
        """Those that did, and whose participants of before are to leave the file."""
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._waiting: deque[_Waiting] = deque()
        self._turn = asyncio.Lock()
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        sizes = {name: len(table) for name, table in self._tables.items()}
        return f"<Participants {sizes} waiting={len(self._waiting)}>"

    # --- tables -----------------------------------------------------------------------------

    async def restore(self) -> None:
        """Go on with what the file has. A file that cannot be read is logged, and sums begin anew."""
        try:
            self._remembered = await self._file.read(lambda database: database.remembered(), {})
        except StoreError as error:
            logs.error("experiments", reason=f"results cannot be read: {error}")

    async def follow(self, experiments: Experiments) -> None:
        """Have a table for every experiment that counts, in its newest epoch; comes before publishing."""
        async with self._opening:
            self._begin_anew()
            for experiment in experiments.all:
                epoch = experiment.epoch
                if epoch is None or not experiment.status.assigns:
                    if experiment.id in self._anew:  # what was to come has been refused
                        self._anew.discard(experiment.id)
                        self._tables.pop(experiment.id, None)
                    continue
                if experiment.id not in self._tables:
                    self._tables[experiment.id] = await self._opened(experiment)
                table = self._tables[experiment.id]
                table.set_caps(_caps(experiment))
                table.begin_epoch(epoch.number, epoch.design.groups)

    async def _opened(self, experiment: Experiment) -> ParticipantTable:
        """The table of an experiment with what the file has of it; an empty one where it begins anew."""
        name, epoch = experiment.id, experiment.epochs[0]
        if self._is_final(name):
            self._anew.add(name)
            return ParticipantTable(epoch.design.groups, epoch=epoch.number)
        for _ in range(ATTEMPTS):
            try:
                table = await self._loaded(name)
            except StoreError as error:
                logs.error("experiments", experiment=name, reason=f"participants cannot be read: {error}")
                await asyncio.sleep(ATTEMPT_INTERVAL)
            else:
                return table or ParticipantTable(epoch.design.groups, epoch=epoch.number)
        self._file.refuse(f"the participants of {name} cannot be read, and are not written over")
        return ParticipantTable(epoch.design.groups, epoch=epoch.number)

    async def _loaded(self, name: str) -> ParticipantTable | None:
        """The table of an experiment as the file has it; None where it has none. Raises StoreError."""
        head = await self._file.read(lambda database: database.head(name), None)
        if head is None:
            return None
        table = ParticipantTable.stored(head)
        for kind, load in ((PAGES, table.load_page), (JOURNAL, table.load_entry)):
            last = -1
            while pieces := await self._pieces(kind, name, last):
                for last, data in pieces:
                    load(last, data)
        for _ in table.finish():
            await asyncio.sleep(0)
        return table

    async def _pieces(self, kind: str, name: str, after: int) -> list[tuple[int, bytes]]:
        part = partial(
            ExperimentsDatabase.pieces, table=kind, experiment=name, after=after, limit=PIECES_AT_ONCE
        )
        nothing: list[tuple[int, bytes]] = []
        return await self._file.read(part, nothing)

    async def conclude(self, experiment: Experiment) -> None:
        """Keep what it has come to, and let its table go. Raises StoreError where that is not written."""
        if self._is_final(experiment.id):
            return  # concluded before: the winner is corrected, and nothing has been counted since
        async with self._opening:
            if experiment.id not in self._tables and experiment.epochs:
                self._tables[experiment.id] = await self._opened(experiment)
        if self.ready.is_set():
            self.take_in()
        table = self._tables.get(experiment.id)
        if table is None:
            return
        tally = table.tally()
        await self.flush()
        self._remember(experiment.id, final=to_json(tally))
        self._tables.pop(experiment.id, None)
        await self.flush(durable=True)

    def _is_final(self, name: str) -> bool:
        """Whether it was concluded, and has not begun anew."""
        return self._remembered.get(name, Remembered()).final is not None

    def _begin_anew(self) -> None:
        """Forget what experiments came to that were concluded and are dealing again."""
        for name in sorted(self._anew):
            experiment = self._experiments().find(name)
            if experiment is not None and experiment.status.assigns:
                self._anew.discard(name)
                self._forgotten.add(name)
                self._remember(name, final=None, planned_day=None)

    def _remember(self, name: str, **changes: str | None) -> None:
        self._remembered[name] = replace(self._remembered.get(name, Remembered()), **changes)
        self._unremembered.add(name)
        for what in changes:
            self._tallies.pop((name, what), None)

    # --- what comes in ----------------------------------------------------------------------

    def take_in(self) -> None:
        """Take in what the workers recorded since the last time."""
        for batch in self._link.drain_records():
            self._merge(batch)

    def _merge(self, batch: RecordBatch) -> None:
        series_of: dict[str, dict[int, int]] = {}
        for number, series in batch.series.items():
            table = self._tables.get(series.experiment)
            scene = self._timeline.of_version(series.snapshot)
            dealing = None if scene is None else scene.dealing(series.route)
            if table is None or dealing is None or not dealing.counted:
                continue
            if dealing.experiment == series.experiment and series.group in table.groups:
                series_of.setdefault(series.experiment, {})[number] = table.group_number(series.group)
        for experiment, groups in series_of.items():
            self._tables[experiment].merge(RECORD.iter_unpack(batch.data), groups, batch.metrics)

    def is_participant(self, experiment: str, user: int, group: str) -> bool:
        """True if a request of the user with this hash was counted in the group."""
        table = self._tables.get(experiment)
        return table is not None and table.is_participant(user, group)

    def report(self, experiment: str, user: int, group: str, metric: str, value: float) -> bool:
        """Add a late outcome; False for somebody who takes no part. Raises ValueError for no measurement."""
        table = self._tables.get(experiment)
        return table is not None and table.report(user, group, metric, value)

    # --- what goes out ----------------------------------------------------------------------

    def tally(self, experiment: Experiment) -> Tally:
        """What its participants come to."""
        kept = self._kept(experiment.id, "final") if experiment.status is Status.CONCLUDED else None
        if kept is not None:
            return kept
        table = self._tables.get(experiment.id)
        return _EMPTY if table is None else table.tally()

    def planned_day(self, name: str) -> Tally | None:
        """The tally at the planned end, once that was reached."""
        self._begin_anew()
        return self._kept(name, "planned_day")

    def keep_planned_day(self, name: str, tally: Tally) -> None:
        """The planned end is reached: this is the tally that the planned test is made on."""
        self._remember(name, planned_day=to_json(tally))

    def _kept(self, name: str, what: str) -> Tally | None:
        text: str | None = getattr(self._remembered.get(name, Remembered()), what)
        if text is None:
            return None
        if (name, what) not in self._tallies:
            try:
                self._tallies[name, what] = from_json(Tally, text)
            except (ValueError, KeyError, TypeError) as error:
                logs.error("experiments", experiment=name, reason=f"{what} is not readable: {error!r}")
                self._tallies[name, what] = _EMPTY
        return self._tallies[name, what]

    def is_waiting(self, outcome: bytes) -> bool:
        """True if an outcome of this id was added, and is not on disk yet."""
        return any(outcome in waiting.ids for waiting in self._waiting)

    async def settle(self) -> None:
        """Write what could not be written before. Raises StoreError: it goes on waiting."""
        async with self._turn:
            while self._waiting:
                batch = self._waiting[0].batch
                await self._file.write(batch)
                self._waiting.popleft()
                self._timeline.written(batch.scenes)
                for rating in batch.ratings:
                    self._on_rating(rating)

    async def flush(
        self,
        ids: Sequence[tuple[bytes, float]] = (),
        ratings: Sequence[Rating] = (),
        *,
        durable: bool = False,
    ) -> None:
        """Write what changed, together with these outcomes. Raises StoreError: all of it goes on waiting.

        The outcomes were added in this same turn of the loop, after a `settle` that succeeded: so their
        sums are in the same transaction, and a disk that refuses makes no more than one batch wait.
        """
        if not ids and not ratings:
            await self.settle()
        batch = self._collect(ids, ratings, durable)
        if batch:
            self._waiting.append(_Waiting(batch, frozenset(name for name, _ in ids)))
        await self.settle()

    def _collect(self, ids: Sequence[tuple[bytes, float]], ratings: Sequence[Rating], durable: bool) -> Batch:
        tables = {}
        self._begin_anew()
        for name, table in self._tables.items():
            if name in self._anew:
                continue
            if changes := table.take_changes():
                tables[name] = changes
        remembered = {name: self._remembered[name] for name in self._unremembered}
        forgotten = tuple(sorted(self._forgotten))
        self._unremembered.clear()
        self._forgotten.clear()
        return Batch(tables, remembered, ids, ratings, self._timeline.unwritten(), durable, forgotten)

    async def run(self) -> None:
        """For ever: take in, write, forget what is too old."""
        await self.follow(self._experiments())
        self.ready.set()
        next_flush = next_prune = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            self.take_in()
            if clock() >= next_flush:
                next_flush = clock() + FLUSH_INTERVAL
                with contextlib.suppress(StoreError):  # the file has said so, and it goes on waiting
                    await self.flush()
            if clock() >= next_prune:
                next_prune = clock() + PRUNE_INTERVAL
                with contextlib.suppress(StoreError):
                    await self._file.prune(self._retention)
            await asyncio.sleep(TAKE_INTERVAL)

    async def close(self) -> None:
        """The process ends: write everything that can be written."""
        if self.ready.is_set():
            self.take_in()
        with contextlib.suppress(StoreError):
            await self.flush(durable=True)


def _caps(experiment: Experiment) -> dict[str, float]:
    return {
        metric.name: metric.cap for metric in experiment.definition.success_metrics if metric.cap is not None
    }
