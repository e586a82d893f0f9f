"""The evidence as the control process keeps it: started, fed, stored, and continued after a restart.

The state itself is a value of `core.evidence`. This module knows where it begins, to which snapshots it
belongs, and how it outlives the process. Every ten seconds it is written as a whole, together with the
ticks that are in it. What came later is still with the workers, and is folded by the next process.

It judges nothing and acts on nothing; see `monitor`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway import logs
from gateway.control.store.api import Document, Store
from gateway.core.evidence.exposure import treatment_shares
from gateway.core.evidence.gathering import Limits, Look, fold
from gateway.core.evidence.state import EvidenceState, begin, begin_trial, end_trial, expose, rebase
from gateway.core.system_failure import Absence, Sign, look
from gateway.model.codec import decode, encode
from gateway.model.rollout import Durability
from gateway.model.safety import Unit
from gateway.model.snapshot import Snapshot

DOCUMENT = "evidence"
"""Name of the evidence in the store and at the supervisor's."""
_VERSION = 1
"""It moves with ticks alone, and versions move with events."""
_NOTHING = "null"


@dataclass(frozen=True, slots=True)
class Stored:
    """What outlives the control process: the evidence of one epoch of the rollout, and an absence.

    `anchor` is what has to be added to its monotonic milliseconds for wall-clock time.
    """

    epoch: int
    anchor: int
    state: EvidenceState
    absence: Absence


class Dossier:
    """Holds the evidence of the current stay of a treatment. Make one with `resume`."""

    def __init__(
        self,
        store: Store,
        keep: Callable[[bytes], None],
        stored: Stored,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keep` has the supervisor remember a text."""
        self.epoch = stored.epoch
        self.anchor = stored.anchor
        self.state = stored.state
        self.absence = stored.absence
        self._store = store
        self._keep = keep
        self._monotonic = monotonic

    def __repr__(self) -> str:
        return f"<Dossier epoch={self.epoch} {self.state.errors.bad} of {self.state.errors.count} failed>"

    @classmethod
    async def resume(
        cls,
        store: Store,
        kept: bytes | None,
        keep: Callable[[bytes], None],
        *,
        epoch: int,
        snapshot: Snapshot,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Dossier:
        """Go on with what was left of this epoch, or begin afresh.

        `kept` is what `keep` was called with last in this gateway, None at its start: then what the store
        has, if anything, is moved to this gateway's clock and snapshots. What cannot be read is logged.
        """
        at = round(monotonic() * 1000)
        anchor = round(now() * 1000) - at
        stored = _read(store, kept)
        if stored is None or stored.epoch != epoch:
            stored = Stored(epoch, anchor, begin(snapshot.version, 0, at), Absence())
        elif kept is None:
            # The requests that the evidence is of were other workers', under snapshots of other numbers.
            # Nothing in it is of the future, whatever the clocks say: the wall clock was set back then.
            shift = min(stored.anchor - anchor, at - stored.state.reached)
            moved = rebase(stored.state, shift)
            moved = replace(moved, version=snapshot.version, first_tick=0, exposures=())
            stored = replace(stored, anchor=anchor, state=moved)
        if store.document(DOCUMENT) is None:
            await store.commit(DOCUMENT, None, Document(_VERSION, _NOTHING), [], Durability.BEST_EFFORT)
        dossier = cls(store, keep, stored, monotonic)
        dossier.follow(snapshot, on_trial=stored.state.capped)
        return dossier

    def restart(self, epoch: int, snapshot: Snapshot) -> None:
        """Nothing is known of treatment any more: requests that `snapshot` or a later one decides count.

        Where that one is not newer than at the last beginning, those of the next tick.
        """
        at = round(self._monotonic() * 1000)
        first_tick = at + round(snapshot.tick * 1000) if snapshot.version <= self.state.version else 0
        if epoch != self.epoch:
            self.absence = Absence(epoch)
        self.epoch = epoch
        self.state = begin(snapshot.version, first_tick, at, self.state)
        self.save()

    def follow(self, snapshot: Snapshot, *, on_trial: bool) -> None:
        """Requests may be decided by this snapshot from now on, and with the share capped or not."""
        self.expose(snapshot)
        if on_trial and not self.state.capped:
            self.state = begin_trial(self.state, round(self._monotonic() * 1000))
        elif not on_trial:
            self.state = end_trial(self.state)

    def expose(self, snapshot: Snapshot) -> None:
        """Requests may be decided by this snapshot from now on."""
        known = self.state.exposures
        if not known or known[-1].snapshot != snapshot.version:
            self.state = expose(self.state, snapshot.version, treatment_shares(snapshot))

    def add(self, seen: Look, limits: Limits, unit: Unit) -> None:
        """Fold what a look brought."""
        self.state = fold(self.state, seen, limits, unit)

    def note(self, sign: Sign, seconds: float) -> None:
        """Treatment was seen so, `seconds` after the last time."""
        self.absence = look(self.absence, sign, seconds, self.epoch)

    def save(self) -> None:
        """Have it outlive the process; never waits."""
        body = encode(Stored(self.epoch, self.anchor, self.state, self.absence))
        self._keep(body)
        self._store.checkpoint(DOCUMENT, Document(_VERSION, body.decode()))


def _read(store: Store, kept: bytes | None) -> Stored | None:
    """What was left: the supervisor's, as long as it lives, for it is never older than the store's."""
    document = store.document(DOCUMENT)
    stored = _NOTHING if document is None else document.body
    body = kept if kept is not None else stored.encode()
    if body == _NOTHING.encode():
        return None
    try:
        return decode(Stored, body)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        logs.error("evidence is not readable", error=repr(error), consequence="it begins afresh")
        return None
