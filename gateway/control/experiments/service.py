"""Combines the parts of experiments, and is their interface to the rest of the control process.

The controller restores it after the store, asks it for the experiments of the next snapshot, tells it
of every published snapshot, and runs its background work. The admin API uses it for everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import logs
from gateway.control.config.loading import Loaded
from gateway.control.experiments import views
from gateway.control.experiments.binding import Binder, Outcome
from gateway.control.experiments.database import ExperimentsDatabase, Rating
from gateway.control.experiments.desk import ExperimentDesk, read_state
from gateway.control.experiments.file import FILE, ExperimentsFile
from gateway.control.experiments.findings import Findings
from gateway.control.experiments.metrics import ExperimentGauge
from gateway.control.experiments.outcomes import Outcomes, Receipt
from gateway.control.experiments.participants import Participants
from gateway.control.experiments.timeline import Timeline
from gateway.control.history import History
from gateway.control.latching import Operator
from gateway.control.rollout.desk import Refused, RolloutDesk
from gateway.control.store.api import Store, StoreError
from gateway.core.assignment import place, scene_of
from gateway.core.experiments import control_wins, find
from gateway.core.rollout import GATEWAY
from gateway.link.api import ControlEnd
from gateway.model.lifecycle import Action, Definition, Experiment, Experiments
from gateway.model.rollout import BeginHold, EndHold, HoldKind, Mode, Pause
from gateway.model.snapshot import Snapshot

ACKNOWLEDGE_PATIENCE = 2.0
"""Seconds that a step waits for the workers to serve by what it changed."""
HOLD_INTERVAL = 1.0
"""Seconds between two looks at whether the rollout is to be held."""

RATINGS_HELD = 600.0
"""Seconds after which an outcome is surely in the store's sums: they are written every ten."""
NO_RATINGS: list[Rating] = []

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ground:
    """What the experiments stand on."""

    link: ControlEnd
    store: Store
    history: History
    directory: Path
    retention: float
    loaded: Callable[[], Loaded]
    """The config in force."""
    snapshot: Callable[[], Snapshot]
    """The newest."""
    publish: Callable[[], object]
    """Has the workers serve by what stands now."""
    rollout: Callable[[], RolloutDesk]
    on_rating: Callable[[Rating], None]
    """Gets every outcome of the rollout, once it is on disk."""
    now: Callable[[], float]


class ExperimentService:
    """See the module. Make one with `restore`."""

    def __init__(self, ground: Ground, file: ExperimentsFile, timeline: Timeline) -> None:
        self._ground = ground
        self._file = file
        self._timeline = timeline
        self._participants = Participants(
            ground.link,
            lambda: self.desk.state,
            timeline,
            file,
            retention=ground.retention,
            on_rating=ground.on_rating,
        )
        self.desk = ExperimentDesk(
            read_state(ground.store),
            store=ground.store,
            history=ground.history,
            counting=self._participants,
            loaded=ground.loaded,
            publish=ground.publish,
            now=ground.now,
        )
        self.findings = Findings(lambda: self.desk.state, self._participants, timeline, ground.now)
        binder = Binder(
            timeline,
            self._participants,
            lambda: self.desk.state,
            lambda: ground.snapshot().metrics,
            ground.now,
        )
        self.outcomes = Outcomes(binder, self._participants, file, now=ground.now)

    def __repr__(self) -> str:
        return f"<ExperimentService {self.desk!r} {self._participants!r}>"

    # --- for the controller -----------------------------------------------------------------

    @classmethod
    async def restore(cls, ground: Ground) -> ExperimentService:
        """Go on with what store and file have; without them, begin anew."""
        file = await ExperimentsFile.open(ground.directory / FILE, ground.now)
        stored: list[tuple[int, str]] = []
        try:
            stored = await file.read(ExperimentsDatabase.scenes, stored)
        except StoreError as error:
            logs.error("experiments", reason=f"what was in force when cannot be read: {error}")
        service = cls(ground, file, Timeline(stored))
        await service._participants.restore()
        return service

    def under(self, loaded: Loaded) -> Experiments:
        """The experiments that a snapshot of this config serves by."""
        return self.desk.under(loaded)

    def note(self, snapshot: Snapshot, loaded: Loaded, latched_since: float | None) -> None:
        """A snapshot was published; `latched_since` is when the latch engaged, None while it is not."""
        now = self._ground.now()
        epochs = {
            experiment.id: experiment.epochs[-1].number
            for experiment in self.under(loaded).all
            if experiment.epochs
        }
        latched = latched_since is not None
        newest = self._timeline.newest
        since = now
        if latched_since is not None and (newest is None or not newest.latched):
            # The latch may have engaged while no control process was there to see it.
            since = min(now, latched_since)
        self._timeline.note(scene_of(snapshot, epochs, since=since, latched=latched))

    async def hand_on_ratings(self, after: float) -> None:
        """Hand on the outcomes of the rollout that an earlier process took last and did not get to count.

        Those that came after the Unix time `after`, and not so long ago that they surely were counted.
        """
        since = max(after, self._ground.now() - RATINGS_HELD)
        try:
            ratings = await self._file.read(lambda database: database.ratings(since), NO_RATINGS)
        except StoreError as error:
            logs.error("experiments", reason=f"late outcomes cannot be read: {error}")
            return
        for rating in ratings:
            self._ground.on_rating(rating)

    def tasks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The background work, by name."""
        return {
            "participants": self._participants.run,
            "outcomes": self.outcomes.run,
            "findings": self.findings.run,
            "sample-ratio": self._hold,
        }

    async def close(self) -> None:
        """The process ends: write what can be written."""
        await self._participants.close()
        self._file.close()

    @property
    def fault(self) -> str:
        """What keeps results from the disk; "" while all is well."""
        return "" if self._file.fault is None else self._file.fault.detail

    async def _hold(self) -> None:
        """For ever: hold the rollout while a sample ratio is off."""
        while True:
            await asyncio.sleep(HOLD_INTERVAL)
            await self.mind_hold()

    async def mind_hold(self) -> None:
        """Begin or end the hold, as the newest findings say."""
        desk = self._ground.rollout()
        held = any(hold.kind is HoldKind.SAMPLE_RATIO for hold in desk.state.holds)
        alarms = sorted(self.findings.alarms)
        if held == bool(alarms) or desk.state.mode is Mode.LATCHED:
            return
        kind = HoldKind.SAMPLE_RATIO
        if alarms:
            reason = f"the groups of {', '.join(alarms)} are not as large as their weights say"
            await desk.apply(BeginHold(operator=GATEWAY, reason=reason, kind=kind))
        else:
            reason = "no running experiment's sample ratio is off any more"
            await desk.apply(EndHold(operator=GATEWAY, reason=reason, kind=kind))

    # --- for the admin API ------------------------------------------------------------------

    async def ready(self) -> None:
        """Wait until the participants that were there before a restart are there again."""
        await self._participants.ready.wait()

    @property
    def version(self) -> int:
        """The version of the experiments' state, which moves with every change of one of them."""
        return self.desk.state.version

    def experiments(self) -> list[Document]:
        """All experiments, a summary each."""
        return [
            views.summary(
                one, self.findings.tally(one), self.findings.results(one), self.findings.silence(one)
            )
            for one in self.desk.state.all
        ]

    def details(self, name: str) -> Document:
        """One experiment with its results. Raises ExperimentRefused for an unknown one."""
        experiment = self._find(name)
        return views.details(
            experiment,
            self.findings.tally(experiment),
            self.findings.results(experiment),
            self.findings.silence(experiment),
            version=self.version,
            counted_seconds=self.findings.counted_seconds(experiment),
            now=self._ground.now(),
        )

    def documents(self) -> list[Document]:
        """Every experiment as `details` shows it."""
        return [self.details(one.id) for one in self.desk.state.all]

    def gauges(self) -> list[ExperimentGauge]:
        """The numbers of those that were started and have not ended without a route."""
        found = []
        for one in self.desk.state.all:
            results = self.findings.results(one) if one.definition.routes else None
            if results is not None:
                sizes = {group.group: group.participants for group in self.findings.tally(one).groups}
                found.append(ExperimentGauge(one.id, sizes, results.sample_ratio.p_value))
        return found

    def assignment(self, name: str, user: str, at: float | None) -> Document:
        """Which group a user is in, or was in at a Unix time. Raises ExperimentRefused."""
        experiment = self._find(name)
        now = self._ground.now()
        scene = self._timeline.newest if at is None else self._timeline.at(at)
        route = None if scene is None else scene.route_of(name)
        placement = None if scene is None or route is None else place(scene, route, user)
        return views.assignment(experiment, user, placement, now if at is None else at)

    async def step(
        self,
        name: str,
        action: Action,
        by: Operator,
        expected: Collection[int] | None,
        winner: str | None = None,
    ) -> Document:
        """Start, pause or conclude. Raises ExperimentRefused, Outdated, StoreError."""
        experiment = await self.desk.take(name, action, by, expected, winner)
        paused = False
        if action is Action.CONCLUDE and control_wins(experiment, self._ground.loaded().config):
            paused = await self._pause_rollout(experiment, by)
        acknowledged = await self._ground.link.acknowledged(
            self._ground.snapshot().version, ACKNOWLEDGE_PATIENCE
        )
        return self.details(name) | {"acknowledged": acknowledged, "rollout_paused": paused}

    async def _pause_rollout(self, experiment: Experiment, by: Operator) -> bool:
        """Where control has won, nothing is to be rolled out further until somebody says so; False if not."""
        reason = f"{experiment.winner} won the experiment {experiment.id}, and control serves it"
        try:
            await self._ground.rollout().apply(Pause(operator=by.name, reason=reason))
        except Refused as refused:
            logs.info("the rollout is not paused", reason=str(refused))
            return False
        return True

    async def create(
        self, definition: Definition, by: Operator, expected: Collection[int] | None
    ) -> Document:
        """Make a draft. Raises ExperimentRefused, Outdated, StoreError."""
        experiment = await self.desk.create(definition, by, expected)
        return self.details(experiment.id)

    async def delete(self, name: str, by: Operator, expected: Collection[int] | None) -> Document:
        """Delete a draft; what it was. Raises ExperimentRefused, Outdated, StoreError."""
        draft = self.details(name)
        await self.desk.delete(name, by, expected)
        return draft

    def routes_for(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """The routes that a definition means: those that it names, else the only one that there is."""
        if wanted is not None:
            return tuple(wanted)
        names = tuple(route.name for route in self._ground.loaded().config.routes)
        return names if len(names) == 1 else ()

    async def take_outcomes(self, outcomes: Sequence[Outcome]) -> Receipt:
        """Take late outcomes. Raises Overloaded and StoreError."""
        return await self.outcomes.take(outcomes)

    def _find(self, name: str) -> Experiment:
        return find(self.desk.state, name)
