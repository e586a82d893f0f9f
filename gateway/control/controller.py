"""The control process: holds what is in force and keeps its parts running.

The controller builds the parts, connects them, and decides what follows from a new config. Every part
that runs in the background is kept running by a `TaskKeeper`. What must outlive the process goes to
the supervisor (`Keeper`): a restarted controller goes on where the last one was.

It knows nothing of sockets beyond the one for the admin API, and never touches a user's request.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gateway import logs
from gateway.control.admin.alerts import AlertResources
from gateway.control.admin.dashboard import DashboardResources
from gateway.control.admin.experiments import ExperimentResources
from gateway.control.admin.outcomes import OutcomeResources
from gateway.control.admin.server import Access, AdminServer
from gateway.control.alerting.inbound import Inbound
from gateway.control.alerting.lookout import Lookout
from gateway.control.alerting.notifier import Notifier
from gateway.control.alerting.room import AlertRoom
from gateway.control.alerting.watch import AlertWatch, levels_of
from gateway.control.dashboard.view import DashboardView
from gateway.control.experiments.database import Rating
from gateway.control.experiments.desk import ExperimentDesk
from gateway.control.experiments.room import ExperimentsRoom, Ground
from gateway.control.health import HealthChecks
from gateway.control.history import MEMORY_EVENTS, Event, EventType, History, read_back
from gateway.control.latching import LatchDesk
from gateway.control.ledger import Ledger
from gateway.control.loading import Loaded, load
from gateway.control.monitoring.beginnings import Beginnings
from gateway.control.monitoring.dossier import DOCUMENT as EVIDENCE
from gateway.control.monitoring.dossier import Dossier
from gateway.control.monitoring.monitor import Monitor, Scene
from gateway.control.operations import Operations, Parts, directory_bytes
from gateway.control.publishing import Publisher
from gateway.control.reload import Applied, Reloader, ReloadRefused
from gateway.control.rollout.aftermath import Aftermath
from gateway.control.rollout.desk import Refused, RolloutDesk, Surroundings
from gateway.control.rollout.pace import Pace
from gateway.control.store.api import FaultKind, Store, StoreError, StoreFault
from gateway.control.store.sqlite import STORE_FILE, SqliteStore
from gateway.control.tasks import Lane, TaskKeeper
from gateway.control.upstreams import Upstreams
from gateway.control.windows import Standing, Windows
from gateway.core.compile import Position, compile_snapshot, initial_position
from gateway.core.reload_rules import reload_conflicts, restart_required
from gateway.core.rollout import GATEWAY
from gateway.latch import DurableLatch, LatchKind, LatchPage
from gateway.link.api import ControlEnd, EndpointHealth
from gateway.link.channel import decode_health, encode_health
from gateway.model.codec import decode
from gateway.model.config import Config
from gateway.model.observation import Observation
from gateway.model.process import (
    KEPT_SNAPSHOT,
    KEPT_SOURCES,
    BootOptions,
    DrainTimes,
    Keeper,
    WorkerStatus,
    pack_sources,
)
from gateway.model.rollout import Emergency
from gateway.model.snapshot import Snapshot

T = TypeVar("T")

OBSERVE_INTERVAL = 0.05
"""Seconds between two looks for a newer report: what it may have to wait for its reader."""
IDLE_INTERVAL = 1.0
"""Seconds after which ticks are looked at although nobody reported: their time may have run out."""
LEDGER_KEEP_INTERVAL = 5.0
"""Seconds between two handovers of the ledger: what a dying control process may lose of dead workers."""
MEASURE_INTERVAL = 10.0
"""Seconds between two measurements of the state directory."""
MEASURE_PATIENCE = 5.0

_KEPT_LEDGER = "ledger"
_KEPT_HEALTH = "health"
_KEPT_ROLLOUT = "rollout"
_KEPT_WINDOWS = "windows"
_KEPT_APPLIED = "applied"


class Controller:
    """One control process at work. Build it, `run` it until cancelled."""

    _parts: Parts
    _operations: Operations
    _admin: AdminServer
    _publisher: Publisher

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
        self._reloader = Reloader(
            self._resumed(loaded), lambda: load(loaded.path, environ), self._apply, now=now
        )
        self._newest = self._reloader.applied
        self._in_force: Applied | None = None
        self._worker_restarts = keeper.standing.worker_restarts

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
        self._parts = parts = await self._assemble(loaded, store)
        self._operations = Operations(parts, self._now)
        view = DashboardView(parts, self._operations, self._now)
        dashboard = DashboardResources(view)
        experiments = ExperimentResources(parts.experiments), OutcomeResources(parts.experiments)
        inbound = Inbound(store, parts.desk, parts.latch)
        alerts = AlertResources(AlertRoom(parts.alerts, inbound, parts.history))
        self._admin = AdminServer(
            self._operations, _access(loaded.config), self._listening, areas=(dashboard, alerts, *experiments)
        )
        parts.aftermath.resume(loaded.config.deployment.rollback.hooks)
        await parts.desk.start()
        await parts.experiments.desk.follow(loaded)
        await parts.experiments.hand_on_ratings(after=parts.windows.rated_at)
        parts.publisher.publish_current()
        await self._admin.start()
        background = {
            "latch": parts.pace.watch_latch,
            "latch-copy": parts.latch.persist,
            "rollout": parts.pace.run,
            "monitor": parts.monitor.run,
            "reload": parts.reloader.run,
            "health": parts.health.run,
            "alerts": parts.alerts.run,
            "notifier": parts.notifier.run,
            "aftermath": parts.aftermath.run,
            "admin": self._admin.run,
            "dashboard": view.run,
            "observe": self._observe,
            "measure": self._measure,
            **parts.experiments.tasks(),
        }
        for name, run in background.items():
            parts.tasks.start(name, run)
        try:
            await asyncio.Event().wait()
        finally:
            await parts.tasks.stop()
            dashboard.end_streams()
            await self._admin.close()
            parts.desk.checkpoint()
            parts.alerts.checkpoint()
            self._take_in()
            await parts.experiments.close()
            parts.monitor.close()
            parts.windows.close()
            self._keep_ledger()

    async def _assemble(self, loaded: Loaded, store: Store) -> Parts:
        """Build the parts around what earlier control processes left, and connect them."""
        keeper = self._keeper
        windows = await Windows.restore(
            store,
            keeper.kept.get(_KEPT_WINDOWS),
            lambda kept: keeper.keep(_KEPT_WINDOWS, kept),
            retention=loaded.config.state.retention,
            now=self._now,
        )
        history = History(store, await _newest(store))
        notifier = Notifier(now=self._now)
        aftermath = Aftermath(history, notifier, loaded.path.parent, now=self._now)
        beginnings = Beginnings(windows)
        around = Surroundings(
            store, history, self._latch, beginnings, self._publish, self._keep_rollout, aftermath
        )
        desk = RolloutDesk.resume(loaded, around, keeper.kept.get(_KEPT_ROLLOUT), self._now)
        last = _restored(keeper, KEPT_SNAPSHOT, lambda kept: decode(Snapshot, kept), lambda: None)
        experiments = await self._experiments(store, history, desk, windows)
        self._publisher = Publisher(self._link, last, loaded, desk.position, experiments.under)
        windows.resume(lambda: Standing(desk.state.phase, desk.state.epoch, self._publisher.current))
        windows.sample_ratio_ok = lambda: experiments.findings.sample_ratio_ok
        pace = Pace(
            desk,
            store,
            windows,
            treatment_healthy=self._treatment_healthy,
            folder=loaded.path.parent,
            now=self._now,
        )
        health = HealthChecks(self._publish_health, _restored(keeper, _KEPT_HEALTH, decode_health, dict))
        ledger = _restored(keeper, _KEPT_LEDGER, Ledger.restore, Ledger)
        upstreams = Upstreams(self._publisher, ledger, health)
        dossier = await Dossier.resume(
            store,
            keeper.kept.get(EVIDENCE),
            lambda kept: keeper.keep(EVIDENCE, kept),
            epoch=desk.state.epoch,
            snapshot=self._publisher.current,
            now=self._now,
        )
        monitor = Monitor(Scene(desk, windows, lambda: self._publisher.current, upstreams), dossier)
        beginnings.join(monitor.restart_evidence)
        return Parts(
            link=self._link,
            keeper=keeper,
            workers=self._workers,
            publisher=self._publisher,
            reloader=self._reloader,
            health=health,
            latch=self._latch,
            store=store,
            history=history,
            desk=desk,
            pace=pace,
            windows=windows,
            notifier=notifier,
            aftermath=aftermath,
            alerts=self._alert_watch(store, history, notifier, windows, desk),
            ledger=ledger,
            upstreams=upstreams,
            monitor=monitor,
            experiments=experiments,
            tasks=self._tasks,
        )

    async def _experiments(
        self, store: Store, history: History, desk: RolloutDesk, windows: Windows
    ) -> ExperimentsRoom:
        ground = Ground(
            link=self._link,
            store=store,
            history=history,
            directory=self._state_directory,
            retention=desk.loaded.config.state.retention,
            loaded=lambda: desk.loaded,
            snapshot=lambda: self._publisher.current,
            publish=lambda: self._publish(desk.loaded, desk.position),
            rollout=lambda: desk,
            on_rating=lambda rating: _rate(windows, rating),
            now=self._now,
        )
        return await ExperimentsRoom.restore(ground)

    def _alert_watch(
        self, store: Store, history: History, notifier: Notifier, windows: Windows, desk: RolloutDesk
    ) -> AlertWatch:
        def faults() -> Mapping[str, str]:
            return self._operations.faults()

        return AlertWatch(
            store,
            history,
            notifier,
            Lookout(windows, desk, lambda: self._publisher.current, faults, self._now).look,
            levels=lambda: levels_of(desk.loaded.config.deployment.monitoring.alerts),
            digest=lambda: desk.loaded.digest,
            now=self._now,
        )

    def _publish(self, loaded: Loaded, position: Position) -> None:
        """Workers, supervisor and parts follow together: no crash in between leaves them with two configs."""
        snapshot = self._publisher.publish(loaded, position)
        logs.set_level(snapshot.log_level)
        latched = self._parts.desk.state.latch
        self._parts.experiments.note(snapshot, loaded, None if latched is None else latched.since)
        if self._in_force is not self._newest and self._newest.loaded is loaded:
            self._in_force = self._newest
            self._put_in_force(self._in_force)

    def _treatment_healthy(self) -> bool:
        return self._operations.treatment_healthy()

    def _take_store_fault(self, fault: StoreFault) -> None:
        """A state that cannot be trusted sends everything to control; one that cannot be written is said."""
        logs.error("store", kind=fault.kind, detail=fault.detail)
        if fault.kind is FaultKind.CORRUPT and not self._latch.page.engaged:
            self._latch.engage(LatchKind.STATE, f"the state file is corrupt: {fault.detail}", GATEWAY)

    async def _apply(self, applied: Applied) -> None:
        """Replace the config in force, whole; raise ReloadRefused and change nothing where it may not be."""
        desk, loaded = self._parts.desk, applied.loaded
        experiments = self._parts.experiments.desk
        old = self._reloader.applied.loaded.config
        _check_replaceable(old, loaded, desk.state.phase, experiments)
        compile_snapshot(loaded.config, initial_position(loaded.config), digest=loaded.digest, version=0)
        # Once, when it is switched on: a release must outlast every later edit of the file.
        switched_on = loaded.config.emergency and not self._reloader.applied.loaded.config.emergency
        if switched_on and not self._latch.page.engaged:
            await desk.apply(Emergency(operator=GATEWAY, reason="emergency: true in the config"))
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
        self._parts.windows.look_back = config.deployment.monitoring.window
        self._admin.access = _access(config)
        self._keeper.keep(_KEPT_APPLIED, _since(loaded.digest, applied.at))
        self._keeper.keep(KEPT_SOURCES, pack_sources(loaded.sources))
        self._keeper.set_drain_times(DrainTimes(config.drain_delay, config.drain_timeout))

    async def _observe(self) -> None:
        """For ever: take in the workers' reports, note replaced workers, hand the ledger over."""
        known: list[Observation] = []
        taken_at = kept_at = time.monotonic()
        while True:
            self._operations.observe()
            now, reports = time.monotonic(), list(self._parts.ledger.reports)
            if list(map(id, reports)) != list(map(id, known)) or now - taken_at >= IDLE_INTERVAL:
                known, taken_at = reports, now
                self._take_in()
                self._note_worker_restarts()
            if now - kept_at >= LEDGER_KEEP_INTERVAL:
                kept_at = now
                self._keep_ledger()
            await asyncio.sleep(OBSERVE_INTERVAL)

    def _take_in(self) -> None:
        self._operations.observe()
        parts = self._parts
        parts.monitor.take(parts.windows.take(parts.ledger.reports, parts.live_pids()))

    def _note_worker_restarts(self) -> None:
        restarts = self._keeper.standing.worker_restarts
        if restarts > self._worker_restarts:
            self._keep_ledger()  # what a dead worker counted is nowhere else
            evidence = {"restarts": restarts - self._worker_restarts, "in_all": restarts}
            digest = self._parts.reloader.applied.loaded.digest
            reason = "a worker ended unplanned and was replaced"
            self._parts.history.append(
                Event(self._now(), EventType.WORKER, GATEWAY, reason, digest, evidence=evidence)
            )
            self._worker_restarts = restarts

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
        digest, at = _restored(self._keeper, _KEPT_APPLIED, _parse_since, lambda: ("", 0.0))
        return Applied(loaded, at if digest == loaded.digest else self._now())

    def _publish_health(self, health: EndpointHealth) -> None:
        self._keeper.keep(_KEPT_HEALTH, encode_health(health))
        self._parts.link.publish_health(health)

    def _keep_ledger(self) -> None:
        self._keeper.keep(_KEPT_LEDGER, self._parts.ledger.encoded())

    def _keep_rollout(self, state: bytes) -> None:
        self._keeper.keep(_KEPT_ROLLOUT, state)


async def _newest(store: Store) -> list[Event]:
    """The newest events of the store; none where it does not answer."""
    try:
        return read_back(await store.newest(MEMORY_EVENTS))
    except StoreError as error:
        logs.error("the history cannot be read", reason=str(error))
        return []


def _check_replaceable(old: Config, loaded: Loaded, phase: str, experiments: ExperimentDesk) -> None:
    """Raise ReloadRefused, with every reason, where `loaded` may not replace `old` in a running gateway."""
    new = loaded.config
    reasons = list(reload_conflicts(old, new, phase, experiments.assigning()))
    reasons += experiments.conflicts(loaded)
    if keys := restart_required(old, new):
        reasons.append(
            f"{', '.join(keys)}: changed, which needs a restart of the gateway; nothing was applied"
        )
    if reasons:
        raise ReloadRefused("\n".join(reasons))


def _rate(windows: Windows, rating: Rating) -> None:
    """Add an outcome of the rollout to what gates and evidence are made of."""
    windows.add_outcome(rating.arm, rating.route, rating.metric, rating.value)
    windows.rated_at = rating.at


def _access(config: Config) -> Access:
    tokens = {name: token.secret for name, token in config.admin.tokens.items()}
    return Access(config.admin.address, tokens)


def _parse_since(kept: bytes) -> tuple[str, float]:
    """Undo `_since`."""
    name, since = json.loads(kept)
    return str(name), float(since)


def _since(name: str, at: float) -> bytes:
    """What holds, and since when in Unix seconds, to be kept."""
    return json.dumps([name, at]).encode()


def _restored(keeper: Keeper, name: str, restore: Callable[[bytes], T], default: Callable[[], T]) -> T:
    """What an earlier control process left under `name`; the default where it left nothing usable."""
    kept = keeper.kept.get(name)
    if kept is None:
        return default()
    try:
        return restore(kept)
    except (ValueError, KeyError, TypeError) as error:
        logs.error("kept state is not usable", name=name, error=repr(error), consequence="started afresh")
        return default()
