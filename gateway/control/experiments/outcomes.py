"""Late outcomes from the admin API: assigned, counted once, on disk before they are acknowledged.

Requests that arrive at the same time share a transaction, so thousands a second need only a few waits for
the disk. One worker handles group after group. The queue for it is bounded; a request that does not fit
is refused as a whole. An outcome that belongs nowhere is refused by itself and does not affect the
others.

A rating is marked that is its user's first of the metric in the arm in ten minutes: evidence against a
treatment must not be the work of one user who rates again and again. A restart forgets who rated, and the
marks are this gateway's alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest

from gateway.control.experiments.binding import Binder, InArm, InGroup, Outcome, Unbound
from gateway.control.experiments.database import ExperimentsDatabase, Rating
from gateway.control.experiments.file import ExperimentsFile
from gateway.control.experiments.participants import Participants
from gateway.control.store.api import StoreError
from gateway.marks import CELLS, UserMarks

MOST_WAITING = 20_000
"""Outcomes that wait at most: several seconds' worth of a disk that keeps up."""
MOST_TOGETHER = 4_000
"""Outcomes in one transaction: some ten milliseconds of the loop's time."""
RECORDS_PATIENCE = 1.5
"""Seconds that an outcome waits for its user's first record: workers send theirs several times a second."""
RECORDS_LOOK = 0.25


class Overloaded(Exception):
    """More outcomes wait than can be taken soon; the sender should come back later."""


@dataclass(slots=True)
class Receipt:
    """What became of some outcomes, by their places: `refused` has those that were not taken.

    `repeated` were there already by their ids and changed nothing.
    """

    accepted: int = 0
    repeated: int = 0
    refused: dict[int, Unbound] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Handed:
    """Outcomes that somebody waits for, by their places in the request."""

    outcomes: Sequence[tuple[int, Outcome]]
    receipt: asyncio.Future[Receipt]


class Outcomes:
    """See the module."""

    def __init__(
        self,
        binder: Binder,
        participants: Participants,
        file: ExperimentsFile,
        now: Callable[[], float],
    ) -> None:
        self._binder = binder
        self._participants = participants
        self._file = file
        self._now = now
        self._raters = UserMarks(-1)
        self._handed: deque[_Handed] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Outcomes waiting={self._waiting}>"

    async def take(self, outcomes: Sequence[Outcome]) -> Receipt:
        """Take outcomes; what was accepted is on disk when this returns.

        Raises Overloaded, with nothing taken, and StoreError where the disk refuses: what was taken then
        may be counted, and repeating it counts it no second time.
        """
        whole = await self._hand(list(enumerate(outcomes)))
        give_up = asyncio.get_running_loop().time() + RECORDS_PATIENCE
        while early := [(index, outcomes[index]) for index, unbound in whole.refused.items() if unbound.soon]:
            if asyncio.get_running_loop().time() >= give_up:
                break
            await asyncio.sleep(RECORDS_LOOK)
            again = await self._hand(early)
            whole.accepted += again.accepted
            whole.repeated += again.repeated
            for index, _ in early:
                del whole.refused[index]
            whole.refused |= again.refused
        return whole

    async def _hand(self, outcomes: list[tuple[int, Outcome]]) -> Receipt:
        if self._waiting + len(outcomes) > MOST_WAITING:
            raise Overloaded
        handed = _Handed(outcomes, asyncio.get_running_loop().create_future())
        self._handed.append(handed)
        self._waiting += len(outcomes)
        self._wake.set()
        return await handed.receipt

    async def run(self) -> None:
        """For ever: take group after group."""
        await self._participants.ready.wait()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._handed:
                await self._take_group()

    async def _take_group(self) -> None:
        group = self._next_group()
        try:
            receipts = await self._count(group)
        except Exception as error:
            for handed in group:
                if not handed.receipt.done():
                    handed.receipt.set_exception(error)
            if not isinstance(error, StoreError):
                raise
        else:
            for handed, receipt in zip(group, receipts, strict=True):
                if not handed.receipt.done():  # done already: its sender left
                    handed.receipt.set_result(receipt)

    def _next_group(self) -> list[_Handed]:
        group: list[_Handed] = []
        size = 0
        while self._handed and (not group or size + len(self._handed[0].outcomes) <= MOST_TOGETHER):
            handed = self._handed.popleft()
            group.append(handed)
            size += len(handed.outcomes)
        self._waiting -= size
        return group

    async def _count(self, group: Sequence[_Handed]) -> list[Receipt]:
        await self._participants.settle()
        self._participants.take_in()
        names = {
            outcome.id: hashlib.blake2b(outcome.id.encode(), digest_size=16).digest()
            for handed in group
            for _, outcome in handed.outcomes
        }
        asked = list(names.values())
        known: set[bytes] = await self._file.read(lambda database: _known(database, asked), set())
        now = self._now()
        self._raters.follow(now)
        count = _Count(self._binder, self._participants, self._raters, names, known, now)
        receipts = [count.receipt(handed.outcomes) for handed in group]
        if count.ids:
            await self._participants.flush(count.ids, count.ratings, durable=True)
        return receipts


def _known(database: ExperimentsDatabase, ids: Sequence[bytes]) -> set[bytes]:
    return database.known(ids)


class _Count:
    """The counting of one group, in one turn of the loop."""

    def __init__(
        self,
        binder: Binder,
        participants: Participants,
        raters: UserMarks,
        names: dict[str, bytes],
        known: set[bytes],
        now: float,
    ) -> None:
        self.ids: list[tuple[bytes, float]] = []
        self.ratings: list[Rating] = []
        self._binder = binder
        self._participants = participants
        self._raters = raters
        self._names = names
        self._known = known
        self._now = now

    def receipt(self, outcomes: Sequence[tuple[int, Outcome]]) -> Receipt:
        """Count one request's outcomes."""
        receipt = Receipt()
        for index, outcome in outcomes:
            name = self._names[outcome.id]
            if name in self._known or self._participants.is_waiting(name):
                receipt.repeated += 1
                continue
            unbound = self._add(name, outcome)
            if unbound is not None:
                receipt.refused[index] = unbound
                continue
            receipt.accepted += 1
            self._known.add(name)
            self.ids.append((name, self._now))
        return receipt

    def _add(self, name: bytes, outcome: Outcome) -> Unbound | None:
        match self._binder.bind(outcome):
            case InGroup(experiment, group, user):
                self._participants.report(experiment, user, group, outcome.metric, outcome.value)
            case InArm(route, arm, user, drawn_by):
                first = self._raters.mark(user, _kind(arm, outcome.metric))
                rating = Rating(name, self._now, route, arm, outcome.metric, outcome.value, drawn_by, first)
                self.ratings.append(rating)
            case Unbound() as unbound:
                return unbound
        return None


def _kind(arm: str, metric: str) -> int:
    """What a rating is marked as: whichever route it is of, for one user is one user on all of them."""
    return xxh3_64_intdigest(f"{arm} {metric}".encode()) % CELLS
