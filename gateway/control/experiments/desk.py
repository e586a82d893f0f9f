"""Holds the lives of the experiments: one change at a time, on disk before it is served.

An operator's step holds once the store has it, or not at all. What a new config means for the experiments
is decided when it is published, and written to the store after that. The workers follow with the next
snapshot. Participants and outcomes are handled elsewhere: they are told before a snapshot starts to count
for an experiment, and after an experiment has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from gateway import logs
from gateway.control.config.loading import Loaded
from gateway.control.history import Event, EventType, History, entry, with_metadata
from gateway.control.latching import Operator
from gateway.control.rollout.desk import Outdated
from gateway.control.store.api import Document, Store, StoreError
from gateway.control.store.encoding import to_json
from gateway.control.store.values import recall
from gateway.core.experiment_reload import adopt, conflicts
from gateway.core.experiments import Change, create, delete, take
from gateway.core.rollout import GATEWAY
from gateway.model.lifecycle import Action, Definition, Experiment, Experiments, Status
from gateway.model.rollout import Durability

DOCUMENT = "experiments"
"""Name of the experiments' state in the store."""
DELETED = "deleted"
"""What the history calls the status of an experiment that is gone."""


class Counting(Protocol):
    """Whoever counts for experiments."""

    async def follow(self, experiments: Experiments) -> None:
        """These are the experiments of the next snapshot: be ready to count for those that run."""

    async def conclude(self, experiment: Experiment) -> None:
        """It has ended: keep what it came to."""


class ExperimentDesk:
    """Holds the state. Make one with `resume`; `follow` the config before anything else."""

    def __init__(
        self,
        state: Experiments,
        *,
        store: Store,
        history: History,
        counting: Counting,
        loaded: Callable[[], Loaded],
        publish: Callable[[], object],
        now: Callable[[], float],
    ) -> None:
        """`loaded` is the config in force; `publish` has the workers serve by what stands now."""
        self.state = state
        self._store = store
        self._history = history
        self._counting = counting
        self._loaded = loaded
        self._publish = publish
        self._now = now
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ExperimentDesk {[(one.id, one.status.value) for one in self.state.all]}>"

    # --- the config -------------------------------------------------------------------------

    def under(self, loaded: Loaded) -> Experiments:
        """The experiments as they are, or would be, under a config."""
        return adopt(self.state, loaded.config, self._now())[0]

    def conflicts(self, loaded: Loaded) -> tuple[str, ...]:
        """Why a config may not be loaded beside the experiments that were made by hand."""
        return conflicts(self.state, loaded.config)

    def assigning(self) -> frozenset[str]:
        """The ids of the experiments whose users must not be dealt anew by a reload."""
        return frozenset(experiment.id for experiment in self.state.all if experiment.status.assigns)

    async def prepare(self, loaded: Loaded) -> None:
        """A config is about to be published."""
        await self._counting.follow(self.under(loaded))

    async def follow(self, loaded: Loaded) -> None:
        """A config is in force: what it changed stands and is written, now or when the disk allows it."""
        async with self._turn:
            before = self.state
            self.state, changes = adopt(before, loaded.config, self._now())
            if self.state is before:
                return
            for change in changes:
                await self._tell(change)
            events = [self._event(change, Operator(GATEWAY, change.reason), loaded) for change in changes]
            await self._write(self.state, events, Durability.BEST_EFFORT)

    # --- operators --------------------------------------------------------------------------

    async def take(
        self,
        name: str,
        action: Action,
        by: Operator,
        expected: Collection[int] | None,
        winner: str | None = None,
    ) -> Experiment:
        """Take a step. Raises ExperimentRefused, Outdated, and StoreError where it cannot be written."""
        async with self._turn:
            self._check(expected)
            after, change = take(self.state, name, action, self._now(), winner=winner)
            await self._stand(after, change, by)
            await self._tell(change)
            return self._named(name)

    async def create(
        self, definition: Definition, by: Operator, expected: Collection[int] | None
    ) -> Experiment:
        """Make a draft. Raises as `take`."""
        async with self._turn:
            self._check(expected)
            after = create(self.state, definition, self._loaded().config, self._now())
            await self._stand(after, Change(definition.id, None, Status.DRAFT, ""), by)
            return self._named(definition.id)

    async def delete(self, name: str, by: Operator, expected: Collection[int] | None) -> None:
        """Delete a draft. Raises as `take`."""
        async with self._turn:
            self._check(expected)
            await self._stand(*delete(self.state, name), by)

    def _named(self, name: str) -> Experiment:
        found = self.state.find(name)
        assert found is not None
        return found

    def _check(self, expected: Collection[int] | None) -> None:
        if expected is not None and self.state.version not in expected:
            raise Outdated(self.state.version)

    async def _stand(self, after: Experiments, change: Change, by: Operator) -> None:
        await self._counting.follow(after)
        await self._write(after, [self._event(change, by, self._loaded())], Durability.REQUIRED)
        self.state = after
        self._publish()

    async def _tell(self, change: Change) -> None:
        if change.after is Status.CONCLUDED:
            try:
                await self._counting.conclude(self._named(change.id))
            except StoreError as error:
                logs.error("experiments", experiment=change.id, reason=f"results are not written: {error}")

    # --- the store --------------------------------------------------------------------------

    async def _write(self, state: Experiments, events: Sequence[Event], durability: Durability) -> None:
        standing = self._store.document(DOCUMENT)
        await self._store.commit(
            DOCUMENT,
            None if standing is None else standing.version,
            Document(state.version, to_json(state)),
            [entry(event) for event in events],
            durability,
        )
        for event in events:
            self._history.note(event)
            logs.audit(
                "experiment", operator=event.operator, reason=event.reason, evidence=dict(event.evidence)
            )

    def _event(self, change: Change, by: Operator, loaded: Loaded) -> Event:
        evidence = {
            "experiment": change.id,
            "status": DELETED if change.after is None else change.after.value,
        }
        if change.before is not None:
            evidence["before"] = change.before.value
        if change.winner is not None:
            evidence["winner"] = change.winner
        return Event(
            self._now(),
            EventType.EXPERIMENT,
            by.name,
            by.reason,
            loaded.digest,
            evidence=with_metadata(evidence, by.metadata),
        )


def read_state(store: Store) -> Experiments:
    """The state that was left; none where nothing was, or nothing that can be read."""
    document = store.document(DOCUMENT)
    state = recall(Experiments, document, "the experiments' state")
    return state or Experiments(0 if document is None else document.version)
