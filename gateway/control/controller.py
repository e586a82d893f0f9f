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
from gateway.control.admin.server import Access, AdminServer
from gateway.control.health import HealthChecks
from gateway.control.history import Event, EventType, MemoryHistory
from gateway.control.latching import LatchDesk, Operator, noted_at_start
from gateway.control.ledger import Ledger
from gateway.control.loading import Loaded, load
from gateway.control.operations import Operations, Parts, directory_bytes
from gateway.control.publishing import Publisher
from gateway.control.reload import Applied, Reloader, ReloadRefused
from gateway.control.tasks import Lane, TaskKeeper
from gateway.core.compile import initial_position
from gateway.core.reload_rules import reload_conflicts, restart_required
from gateway.latch import DurableLatch, LatchKind, LatchPage
from gateway.link.api import ControlEnd, EndpointHealth
from gateway.link.channel import decode_health, encode_health
from gateway.model.codec import decode
from gateway.model.config import Config
from gateway.model.process import (
    KEPT_SNAPSHOT,
    KEPT_SOURCES,
    BootOptions,
    DrainTimes,
    Keeper,
    WorkerStatus,
    pack_sources,
)
from gateway.model.snapshot import Snapshot

T = TypeVar("T")

OBSERVE_INTERVAL = 1.0
"""Seconds between two looks at what the workers reported."""
LEDGER_KEEP_INTERVAL = 5.0
"""Seconds between two handovers of the ledger: what a dying control process may lose of dead workers."""
MEASURE_INTERVAL = 10.0
"""Seconds between two measurements of the state directory."""
MEASURE_PATIENCE = 5.0

_KEPT_HISTORY = "history"
_KEPT_LEDGER = "ledger"
_KEPT_HEALTH = "health"
_KEPT_NOTED = "noted"
_KEPT_PHASE = "phase"
_KEPT_APPLIED = "applied"
GATEWAY = "gateway"
"""The operator of what the gateway does by itself."""


class Controller:
    """One control process at work. Build it, `run` it until cancelled."""

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
        self._keeper = keeper
        self._now = now
        self._state_directory = Path(boot.state_directory or loaded.config.state.directory)
        history = _restored(
            keeper, _KEPT_HISTORY, lambda kept: MemoryHistory(kept, self._keep_history), self._new_history
        )
        last = _restored(keeper, KEPT_SNAPSHOT, lambda kept: decode(Snapshot, kept), lambda: None)
        self._parts = Parts(
            link=link,
            keeper=keeper,
            workers=workers,
            publisher=Publisher(link, last, loaded, initial_position(loaded.config)),
            reloader=Reloader(
                self._resumed(loaded), lambda: load(loaded.path, environ), self._apply, now=now
            ),
            health=HealthChecks(self._publish_health, _restored(keeper, _KEPT_HEALTH, decode_health, dict)),
            latch=LatchDesk(
                latch,
                durable,
                history,
                noted=_restored(keeper, _KEPT_NOTED, int, lambda: noted_at_start(latch)),
                digest=lambda: self._parts.reloader.applied.loaded.digest,
                keep_noted=lambda number: keeper.keep(_KEPT_NOTED, str(number).encode()),
                now=now,
            ),
            history=history,
            ledger=_restored(keeper, _KEPT_LEDGER, Ledger.restore, Ledger),
            tasks=TaskKeeper(),
        )
        self._phase, self._phase_since = _restored(keeper, _KEPT_PHASE, _parse_since, lambda: ("", 0.0))
        self._operations = Operations(self._parts, lambda: self._phase_since)
        self._admin = AdminServer(self._operations, _access(loaded.config), admin)
        self._worker_restarts = keeper.standing.worker_restarts

    def __repr__(self) -> str:
        return f"<Controller {self._parts.publisher!r} {self._parts.reloader!r}>"

    def request_reload(self) -> None:
        """Read the config's files again soon (SIGHUP). Never waits and never fails."""
        self._parts.reloader.request()

    async def run(self) -> None:
        """Publish what is in force, serve the admin API and keep everything running until cancelled."""
        parts = self._parts
        parts.publisher.publish_current()
        self._put_in_force(parts.reloader.applied)
        await self._admin.start()
        background = {
            "latch": parts.latch.watch,
            "latch-copy": parts.latch.persist,
            "reload": parts.reloader.run,
            "health": parts.health.run,
            "admin": self._admin.run,
            "observe": self._observe,
            "measure": self._measure,
        }
        for name, run in background.items():
            parts.tasks.start(name, run)
        try:
            await asyncio.Event().wait()
        finally:
            await parts.tasks.stop()
            await self._admin.close()
            self._keep_ledger()

    async def _apply(self, applied: Applied) -> None:
        """Replace the config in force, whole; raise ReloadRefused and change nothing where it may not be."""
        before, loaded = self._parts.reloader.applied.loaded, applied.loaded
        _check_replaceable(before.config, loaded.config, self._parts.publisher.current.phase)
        if loaded.config.emergency and not self._parts.latch.page.engaged:
            await self._parts.latch.engage(
                LatchKind.EMERGENCY, Operator(GATEWAY, "emergency: true in the config")
            )
        self._parts.publisher.publish(loaded, initial_position(loaded.config))
        self._put_in_force(applied)
        event = Event(
            self._now(),
            EventType.RELOAD,
            GATEWAY,
            "",
            loaded.digest,
            origin=before.digest,
            target=loaded.digest,
        )
        self._parts.history.append(event)

    def _put_in_force(self, applied: Applied) -> None:
        """Tell every part that follows the config, but for the workers."""
        loaded, config = applied.loaded, applied.loaded.config
        snapshot = self._parts.publisher.current
        logs.set_level(snapshot.log_level)
        self._parts.health.follow(snapshot.upstreams)
        self._admin.access = _access(config)
        self._keeper.keep(_KEPT_APPLIED, _since(loaded.digest, applied.at))
        self._keeper.keep(KEPT_SOURCES, pack_sources(loaded.sources))
        self._keeper.set_drain_times(DrainTimes(config.drain_delay, config.drain_timeout))
        if snapshot.phase != self._phase:
            self._phase, self._phase_since = snapshot.phase, self._now()
            self._keeper.keep(_KEPT_PHASE, _since(self._phase, self._phase_since))

    async def _observe(self) -> None:
        """For ever: take in the workers' reports, note replaced workers, hand the ledger over."""
        looks = 0
        while True:
            self._operations.observe()
            self._note_worker_restarts()
            looks += 1
            if looks % round(LEDGER_KEEP_INTERVAL / OBSERVE_INTERVAL) == 0:
                self._keep_ledger()
            await asyncio.sleep(OBSERVE_INTERVAL)

    def _note_worker_restarts(self) -> None:
        restarts = self._keeper.standing.worker_restarts
        if restarts > self._worker_restarts:
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

    def _keep_history(self, data: bytes) -> None:
        self._keeper.keep(_KEPT_HISTORY, data)

    def _new_history(self) -> MemoryHistory:
        return MemoryHistory(None, self._keep_history)


def _check_replaceable(old: Config, new: Config, phase: str) -> None:
    """Raise ReloadRefused, with every reason, where `new` may not replace `old` in a running gateway."""
    reasons = list(reload_conflicts(old, new, phase))
    if keys := restart_required(old, new):
        reasons.append(
            f"{', '.join(keys)}: changed, which needs a restart of the gateway; nothing was applied"
        )
    if reasons:
        raise ReloadRefused("\n".join(reasons))


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
