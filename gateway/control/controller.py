"""The control process: holds what is in force and keeps its parts running.

The controller builds the parts, connects them, and decides what follows from a new config. A `TaskKeeper`
restarts every background task that fails. The supervisor (`Keeper`) keeps what must outlive the process, so a
restarted controller continues where the last one stopped.

It knows no socket but that of the admin API, and never touches a user's request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from gateway import logs
from gateway.control.assembly import Site, assemble
from gateway.control.config.loading import Loaded, load
from gateway.control.config.reload import Applied, Reloader, ReloadRefused
from gateway.control.emergency import EmergencyKey
from gateway.control.experiments.desk import ExperimentDesk
from gateway.control.front import Front
from gateway.control.handover import KEPT_APPLIED, KEPT_MESSAGES, decode_since, encode_since, restored
from gateway.control.latching import LatchDesk
from gateway.control.observing import Observing
from gateway.control.operations import Operations, directory_bytes
from gateway.control.parts import Parts
from gateway.control.rollout.desk import Refused
from gateway.control.store.api import FaultKind, Store, StoreFault
from gateway.control.store.sqlite import STORE_FILE, SqliteStore
from gateway.control.tasks import Lane, TaskKeeper
from gateway.control.traffic import MOST_RECENT
from gateway.core.compile import Position, compile_snapshot, initial_position
from gateway.core.reload_rules import refusals
from gateway.core.rollout import GATEWAY
from gateway.latch import DurableLatch, LatchKind, LatchPage
from gateway.link.api import ControlEnd
from gateway.model.config import Config
from gateway.model.process import (
    KEPT_SOURCES,
    BootOptions,
    DrainTimes,
    Keeper,
    WorkerStatus,
    pack_sources,
)
from gateway.model.rollout import Emergency

MEASURE_INTERVAL = 10.0
"""Seconds between two measurements of the state directory."""
MEASURE_PATIENCE = 5.0


class Controller:
    """One control process at work. Build it, `run` it until cancelled."""

    _parts: Parts
    _operations: Operations
    _front: Front

    def __init__(
        self,
        *,
        loaded: Loaded,
        link: ControlEnd,
        latch: LatchPage,
        durable: DurableLatch | None,
        admin: socket.socket,
        keeper: Keeper,
        workers: Callable[[], Sequence[WorkerStatus]],
        boot: BootOptions,
        environ: Mapping[str, str] = os.environ,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`loaded` is the config in force, `admin` a listening socket; times are Unix seconds of `now`."""
        self._link = link
        self._keeper = keeper
        self._workers = workers
        self._listening = admin
        self._now = now
        self._state_directory = Path(boot.state_directory or loaded.config.state.directory)
        self._tasks = TaskKeeper()
        self._latch = LatchDesk(latch, durable)
        key = EmergencyKey(loaded, keeper, latch, self._engage)
        self._reloader = Reloader(
            self._resumed(loaded), lambda: load(loaded.path, environ), self._apply, key.heed, now=now
        )
        self._newest = self._reloader.applied
        self._in_force: Applied | None = None

    def __repr__(self) -> str:
        return f"<Controller {self._reloader!r}>"

    def request_reload(self) -> None:
        """Read the config's files again soon (SIGHUP). Never waits and never fails."""
        self._reloader.request()

    async def run(self) -> None:
        """Publish what is in force, serve the admin API and keep everything running until cancelled."""
        self._tasks.start("heartbeat", self._latch.beat)
        try:
            loaded = self._reloader.applied.loaded
            store = await SqliteStore.open(
                self._state_directory / STORE_FILE,
                loaded.config.state.retention,
                on_fault=self._take_store_fault,
                now=self._now,
            )
            try:
                await self._serve(loaded, store)
            finally:
                await store.close()
        finally:
            await self._tasks.stop()

    async def _serve(self, loaded: Loaded, store: Store) -> None:
        told = KEPT_MESSAGES in self._keeper.kept
        self._parts = parts = await assemble(self._site(store), loaded)
        self._operations = Operations(parts, self._now)
        self._front = Front(parts, self._operations, self._listening, loaded.config, self._now)
        observing = Observing(parts, self._operations, self._now)
        await self._resume(loaded, told)
        await self._front.start()
        for name, run in self._background(observing).items():
            parts.tasks.start(name, run)
        try:
            await asyncio.Event().wait()
        finally:
            await self._front.close()  # before the work stops: whoever has asked gets an answer
            await parts.tasks.stop()
            await self._put_away(observing)

    async def _resume(self, loaded: Loaded, told: bool) -> None:
        """Go on with everything where an earlier control process left it, and publish what holds.

        `told`: what that one had to say was kept for this one.
        """
        parts = self._parts
        parts.aftermath.resume(loaded.config.deployment.rollback.hooks, told=told)
        await parts.desk.start()
        await parts.experiments.desk.follow(loaded)
        await parts.experiments.hand_on_ratings(after=parts.windows.rated_at)
        parts.publisher.publish_current()

    def _background(self, observing: Observing) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The work that never ends, by name."""
        parts = self._parts
        return {
            "latch": parts.pace.watch_latch,
            "latch-copy": parts.latch.persist,
            "rollout": parts.pace.run,
            "monitor": parts.monitor.run,
            "reload": parts.reloader.run,
            "health": parts.health.run,
            "alerts": parts.alerts.run,
            "notifier": parts.notifier.run,
            "aftermath": parts.aftermath.run,
            "observe": observing.run,
            "unwritten": parts.unwritten.run,
            "measure": self._measure,
            **self._front.tasks(),
            **parts.experiments.tasks(),
        }

    async def _put_away(self, observing: Observing) -> None:
        """Keep everything as it stands now."""
        parts = self._parts
        parts.desk.checkpoint()
        parts.alerts.checkpoint()
        observing.take_in()
        await parts.experiments.close()
        parts.monitor.close()
        parts.windows.close()
        parts.unwritten.look()
        observing.keep_ledger()

    def _site(self, store: Store) -> Site:
        return Site(
            link=self._link,
            keeper=self._keeper,
            workers=self._workers,
            latch=self._latch,
            reloader=self._reloader,
            tasks=self._tasks,
            store=store,
            state_directory=self._state_directory,
            publish=self._publish,
            treatment_healthy=self._treatment_healthy,
            faults=self._faults,
            now=self._now,
        )

    def _publish(self, loaded: Loaded, position: Position) -> None:
        """Workers, supervisor and parts follow together: no crash in between leaves them with two configs."""
        snapshot = self._parts.publisher.publish(loaded, position)
        self._parts.monitor.expose(snapshot)
        logs.set_level(snapshot.log_level)
        latched = self._parts.desk.state.latch
        self._parts.experiments.note(snapshot, loaded, None if latched is None else latched.since)
        if self._in_force is not self._newest and self._newest.loaded is loaded:
            self._in_force = self._newest
            self._put_in_force(self._in_force)

    def _treatment_healthy(self) -> bool:
        return self._operations.treatment_healthy()

    def _faults(self) -> Mapping[str, str]:
        return self._operations.faults()

    def _take_store_fault(self, fault: StoreFault) -> None:
        """A state that cannot be trusted sends everything to control; one that cannot be written is said."""
        logs.error("store", kind=fault.kind, detail=fault.detail)
        if fault.kind is FaultKind.CORRUPT and not self._latch.page.engaged:
            self._latch.engage(LatchKind.STATE, f"the state file is corrupt: {fault.detail}", GATEWAY)

    async def _engage(self, event: Emergency) -> None:
        await self._parts.desk.apply(event)

    async def _apply(self, applied: Applied) -> None:
        """Replace the config in force, whole; raise ReloadRefused and change nothing where it may not be."""
        desk, loaded = self._parts.desk, applied.loaded
        experiments = self._parts.experiments.desk
        old = self._reloader.applied.loaded.config
        _check_replaceable(old, loaded, desk.state.phase, experiments)
        compile_snapshot(loaded.config, initial_position(loaded.config), digest=loaded.digest, version=0)
        await experiments.prepare(loaded)
        self._newest = applied
        try:
            await desk.reload(loaded)
        except Refused as refused:
            raise ReloadRefused(refused.refusal.reason) from refused
        await experiments.follow(loaded)

    def _put_in_force(self, applied: Applied) -> None:
        """Tell every part that follows the config, but for the rollout and the workers."""
        loaded, config = applied.loaded, applied.loaded.config
        self._parts.health.follow(self._parts.publisher.current.upstreams)
        self._parts.notifier.follow(config)
        self._parts.windows.look_back = min(config.deployment.monitoring.window, MOST_RECENT)
        self._front.follow(config)
        self._keeper.keep(KEPT_APPLIED, encode_since(loaded.digest, applied.at))
        self._keeper.keep(KEPT_SOURCES, pack_sources(loaded.sources))
        self._keeper.set_drain_times(DrainTimes(config.drain_delay, config.drain_timeout))

    async def _measure(self) -> None:
        """For ever: measure the state directory."""
        lane = Lane("measure")
        while True:
            self._operations.state_bytes = await lane.run(
                MEASURE_PATIENCE, lambda: directory_bytes(self._state_directory)
            )
            await asyncio.sleep(MEASURE_INTERVAL)

    def _resumed(self, loaded: Loaded) -> Applied:
        """The config in force; one that an earlier control process put in force keeps its time."""
        digest, at = restored(self._keeper, KEPT_APPLIED, decode_since, lambda: ("", 0.0))
        return Applied(loaded, at if digest == loaded.digest else self._now())


def _check_replaceable(old: Config, loaded: Loaded, phase: str, experiments: ExperimentDesk) -> None:
    """Raise ReloadRefused, with every reason, where `loaded` may not replace `old` in a running gateway."""
    reasons = [*refusals(old, loaded.config, phase, experiments.assigning()), *experiments.conflicts(loaded)]
    if reasons:
        raise ReloadRefused("\n".join(reasons))
