"""The monitor inside the test: a real desk and store, hand-made ticks, clocks that the test turns."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

from gateway.control.archive import StoredSums
from gateway.control.monitoring.dossier import Dossier
from gateway.control.monitoring.monitor import Monitor
from gateway.control.monitoring.monitor import Scene as Sight
from gateway.core.compile import compile_snapshot
from gateway.core.folding import Progress, Tick
from gateway.model.snapshot import Arm, Snapshot
from gateway.model.ticks import Counts, Series, bucket_of
from tests.support.wiring import Room, Scene

MONOTONIC = 5_000.0
"""Monotonic seconds when the scene begins."""
FAST = bucket_of(0.1)


@dataclass
class Endpoints:
    """How the upstreams stand, as the test says."""

    treatment: bool = True
    answers: bool = False
    control: bool = True

    def treatment_healthy(self) -> bool:
        return self.treatment

    def treatment_answers(self) -> bool:
        return self.answers

    def control_healthy(self) -> bool:
        return self.control


@dataclass
class Open:
    """The windows as the monitor sees them: nothing is open, all is known."""

    watch: Watch
    stored_to: int = 0
    restored: tuple[StoredSums, ...] = ()
    open: tuple[Tick, ...] = ()
    """Ticks whose heads are not all known."""
    stored: int = 0
    """How often the sums were stored."""

    def standing(self, since: int = 0) -> tuple[Tick, ...]:
        return ()

    def open_heads(self) -> tuple[Tick, ...]:
        return self.open

    def flush(self) -> None:
        """Store the sums."""
        self.stored += 1

    @property
    def reported_to(self) -> int:
        return self.watch.milliseconds


@dataclass(frozen=True)
class Served:
    """What one arm did in a second: good answers, failed ones, failures that control answered."""

    good: int = 0
    bad: int = 0
    failed_over: int = 0
    refused: int = 0
    latency: int = FAST

    def counts(self) -> Counts:
        started = self.good + self.bad + self.failed_over + self.refused
        return Counts(
            started,
            started,
            self.bad + self.failed_over,
            self.refused,
            0,
            0,
            started,
            latencies={self.latency: self.good} if self.good else {},
            failed_over=self.failed_over,
        )


NOBODY = Served()


@dataclass
class Watch:
    """A control process's monitor at work over a rollout."""

    room: Room
    stage: Stage
    monitor: Monitor = field(init=False)
    windows: Open = field(init=False)

    @property
    def milliseconds(self) -> int:
        """The monotonic clock."""
        return round(self.stage.monotonic * 1000)

    @property
    def snapshot(self) -> Snapshot:
        """What the workers serve by."""
        desk, stage = self.room.desk, self.stage
        snapshot = compile_snapshot(desk.loaded.config, desk.position, digest="d", version=0)
        if not stage.snapshots or replace(stage.snapshots[-1], version=0) != snapshot:
            stage.snapshots.append(replace(snapshot, version=len(stage.snapshots) + 1))
        return stage.snapshots[-1]

    @property
    def holds(self) -> list[str]:
        """Why nothing advances."""
        return [hold.kind.value for hold in self.room.desk.state.holds]

    @property
    def latched(self) -> bool:
        return self.room.desk.state.latch is not None

    @property
    def share(self) -> float:
        """The percentage of users that are enrolled."""
        return self.snapshot.user_percentage

    async def second(self, treatment: Served = NOBODY, control: Served = NOBODY) -> Progress:
        """A second of traffic goes by, is known at once, looked at and acted on; what became known."""
        progress = self.progress(treatment, control)
        self.stage.turn(1.0)
        self.monitor.take(progress)
        self.monitor.look()
        await self.monitor.act()
        return progress

    def progress(self, treatment: Served = NOBODY, control: Served = NOBODY) -> Progress:
        """A tick that begins now, with this traffic, is over."""
        tick = Tick(self.milliseconds, dict(self._counted(treatment, control)))
        return Progress((tick,), (tick,), (tick,))

    async def seconds(self, number: int, treatment: Served = NOBODY, control: Served = NOBODY) -> int:
        """The same again and again, until the latch engages; after how many seconds it did, or all."""
        for passed in range(number):
            if self.latched:
                return passed
            await self.second(treatment, control)
        return number

    def _counted(self, treatment: Served, control: Served) -> Iterator[tuple[Series, Counts]]:
        version = self.snapshot.version
        for arm, served in ((Arm.TREATMENT, treatment), (Arm.CONTROL, control)):
            if served is not NOBODY:
                yield Series(version, "default", arm.label, "", "", first=True), served.counts()


@dataclass
class Stage:
    """What outlives a control process with its monitor."""

    scene: Scene
    monotonic: float = MONOTONIC
    snapshots: list[Snapshot] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    restored: tuple[StoredSums, ...] = ()
    """What the next control process finds in the store of the last hour."""
    endpoints: Endpoints = field(default_factory=Endpoints)

    def turn(self, seconds: float) -> None:
        """Both clocks go on."""
        self.monotonic += seconds
        self.scene.now += seconds

    @contextlib.asynccontextmanager
    async def control(self, *, with_kept: bool = True) -> AsyncIterator[Watch]:
        """One life of a control process, from canary on; `with_kept`: the supervisor lived on."""
        async with self.scene.control(with_kept=with_kept) as room:
            watch = Watch(room, self)
            dossier = await Dossier.resume(
                room.store,
                self.kept[-1] if with_kept and self.kept else None,
                self.kept.append,
                epoch=room.desk.state.epoch,
                snapshot=watch.snapshot,
                now=lambda: self.scene.now,
                monotonic=lambda: self.monotonic,
            )
            watch.windows = Open(watch, restored=self.restored)
            sight = Sight(room.desk, watch.windows, lambda: watch.snapshot, self.endpoints)  # type: ignore[arg-type]
            watch.monitor = Monitor(sight, dossier, monotonic=lambda: self.monotonic)
            self.scene.measured.monitors = [watch.monitor.restart_evidence]
            yield watch
