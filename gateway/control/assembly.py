"""Builds the parts of a control process from what earlier ones left, and connects them.

Some parts depend on each other: the rollout publishes snapshots, and a snapshot depends on the rollout. Such
connections are functions of the `Site`; they are called only after all parts are built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway import logs
from gateway.control import unwritten
from gateway.control.alerting import waiting
from gateway.control.alerting.lookout import Lookout
from gateway.control.alerting.notifier import Notifier, instance_of
from gateway.control.alerting.served import Served
from gateway.control.alerting.watch import AlertWatch, levels_of
from gateway.control.config.loading import Loaded
from gateway.control.config.reload import Reloader
from gateway.control.experiments.database import Rating
from gateway.control.experiments.service import ExperimentService, Ground
from gateway.control.handover import (
    KEPT_HEALTH,
    KEPT_LEDGER,
    KEPT_LINES,
    KEPT_MESSAGES,
    KEPT_ROLLOUT,
    KEPT_WINDOWS,
    restored,
)
from gateway.control.health import HealthChecks
from gateway.control.history import MEMORY_EVENTS, Event, History, read_back
from gateway.control.latching import LatchDesk
from gateway.control.ledger import Ledger
from gateway.control.monitoring.dossier import DOCUMENT as EVIDENCE
from gateway.control.monitoring.dossier import Dossier
from gateway.control.monitoring.grounds import grounds
from gateway.control.monitoring.monitor import Monitor, Scene
from gateway.control.monitoring.restarts import Restarts
from gateway.control.parts import Parts
from gateway.control.publishing import Publisher
from gateway.control.rollout.aftermath import Aftermath
from gateway.control.rollout.desk import RolloutDesk, Surroundings
from gateway.control.rollout.pace import Pace
from gateway.control.store.api import Store, StoreError
from gateway.control.tasks import TaskKeeper
from gateway.control.unwritten import UnwrittenLines, hand_back
from gateway.control.upstreams import Upstreams
from gateway.control.windows import Standing, Windows
from gateway.core.compile import Position
from gateway.link.api import ControlEnd, EndpointHealth
from gateway.link.channel import decode_health, encode_health
from gateway.model.codec import decode
from gateway.model.process import KEPT_SNAPSHOT, Keeper, WorkerStatus
from gateway.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Site:
    """What the parts are built on: the process's surroundings, and the ways back to the controller."""

    link: ControlEnd
    keeper: Keeper
    workers: Callable[[], Sequence[WorkerStatus]]
    latch: LatchDesk
    reloader: Reloader
    tasks: TaskKeeper
    store: Store
    state_directory: Path
    publish: Callable[[Loaded, Position], None]
    treatment_healthy: Callable[[], bool]
    faults: Callable[[], Mapping[str, str]]
    now: Callable[[], float]


async def assemble(site: Site, loaded: Loaded) -> Parts:
    """Build and connect everything; nothing runs yet."""
    keeper = site.keeper
    windows = await _windows(site, loaded)
    history = History(site.store, await _newest(site))
    notifier = _notifier(site, loaded)
    aftermath = Aftermath(history, notifier, loaded.path.parent, now=site.now)
    restarts = Restarts(windows)
    desk = _desk(site, loaded, history, restarts, aftermath)
    experiments, publisher = await _published(site, history, desk, windows)
    windows.resume(lambda: Standing(desk.state.phase, desk.state.epoch, publisher.current))
    windows.sample_ratio_ok = lambda: experiments.findings.sample_ratio_ok
    health = HealthChecks(_health_keeper(site), restored(keeper, KEPT_HEALTH, decode_health, dict))
    ledger = restored(keeper, KEPT_LEDGER, Ledger.restore, Ledger)
    upstreams = Upstreams(publisher, ledger, health)
    monitor = await _monitor(site, desk, windows, publisher, upstreams)
    restarts.join(monitor.restart_evidence)
    return Parts(
        link=site.link,
        keeper=keeper,
        workers=site.workers,
        publisher=publisher,
        reloader=site.reloader,
        health=health,
        latch=site.latch,
        store=site.store,
        history=history,
        desk=desk,
        pace=_pace(site, desk, windows, loaded),
        windows=windows,
        notifier=notifier,
        aftermath=aftermath,
        alerts=_alert_watch(site, history, notifier, windows, desk, publisher, ledger, monitor),
        ledger=ledger,
        upstreams=upstreams,
        monitor=monitor,
        experiments=experiments,
        unwritten=UnwrittenLines(site.store, lambda kept: keeper.keep(KEPT_LINES, kept)),
        tasks=site.tasks,
    )


async def _windows(site: Site, loaded: Loaded) -> Windows:
    return await Windows.restore(
        site.store,
        site.keeper.kept.get(KEPT_WINDOWS),
        lambda kept: site.keeper.keep(KEPT_WINDOWS, kept),
        retention=loaded.config.state.retention,
        now=site.now,
    )


def _notifier(site: Site, loaded: Loaded) -> Notifier:
    notifier = Notifier(
        instance_of(loaded.config),
        left=restored(site.keeper, KEPT_MESSAGES, waiting.unpack, dict),
        keep=lambda kept: site.keeper.keep(KEPT_MESSAGES, kept),
        now=site.now,
    )
    notifier.follow(loaded.config)  # before anything happens that people are to hear of
    return notifier


def _desk(
    site: Site, loaded: Loaded, history: History, restarts: Restarts, aftermath: Aftermath
) -> RolloutDesk:
    around = Surroundings(
        site.store,
        history,
        site.latch,
        restarts,
        site.publish,
        lambda state: site.keeper.keep(KEPT_ROLLOUT, state),
        aftermath,
    )
    return RolloutDesk.resume(loaded, around, site.keeper.kept.get(KEPT_ROLLOUT), site.now)


async def _published(
    site: Site, history: History, desk: RolloutDesk, windows: Windows
) -> tuple[ExperimentService, Publisher]:
    """The experiments and the snapshot, each of which depends on the other."""
    published: list[Publisher] = []
    ground = Ground(
        link=site.link,
        store=site.store,
        history=history,
        directory=site.state_directory,
        retention=desk.loaded.config.state.retention,
        loaded=lambda: desk.loaded,
        snapshot=lambda: published[0].current,
        publish=lambda: site.publish(desk.loaded, desk.position),
        rollout=lambda: desk,
        on_rating=lambda rating: _rate(windows, rating),
        now=site.now,
    )
    experiments = await ExperimentService.restore(ground)
    last = restored(site.keeper, KEPT_SNAPSHOT, lambda kept: decode(Snapshot, kept), lambda: None)
    published.append(Publisher(site.link, last, desk.loaded, desk.position, experiments.under))
    return experiments, published[0]


def _rate(windows: Windows, rating: Rating) -> None:
    """Add an outcome of the rollout to what gates and evidence are made of, and note that it is there."""
    windows.add_outcome(
        rating.arm, rating.route, rating.metric, rating.value, drawn_by=rating.drawn_by, first=rating.first
    )
    windows.rated_at = rating.at


async def _monitor(
    site: Site, desk: RolloutDesk, windows: Windows, publisher: Publisher, upstreams: Upstreams
) -> Monitor:
    dossier = await Dossier.resume(
        site.store,
        site.keeper.kept.get(EVIDENCE),
        lambda kept: site.keeper.keep(EVIDENCE, kept),
        epoch=desk.state.epoch,
        snapshot=publisher.current,
        now=site.now,
    )
    return Monitor(Scene(desk, windows, lambda: publisher.current, upstreams), dossier)


def _pace(site: Site, desk: RolloutDesk, windows: Windows, loaded: Loaded) -> Pace:
    return Pace(
        desk,
        site.store,
        windows,
        treatment_healthy=site.treatment_healthy,
        folder=loaded.path.parent,
        now=site.now,
    )


def _alert_watch(
    site: Site,
    history: History,
    notifier: Notifier,
    windows: Windows,
    desk: RolloutDesk,
    publisher: Publisher,
    ledger: Ledger,
    monitor: Monitor,
) -> AlertWatch:
    lookout = Lookout(
        windows,
        desk,
        lambda: publisher.current,
        site.faults,
        Served(ledger.totals),
        site.now,
        lambda kind: grounds(kind, desk.state, monitor, site.now()),
    )
    return AlertWatch(
        site.store,
        history,
        notifier,
        lookout.look,
        levels=lambda: levels_of(desk.loaded.config.deployment.monitoring.alerts),
        digest=lambda: desk.loaded.digest,
        now=site.now,
    )


def _health_keeper(site: Site) -> Callable[[EndpointHealth], None]:
    def publish(health: EndpointHealth) -> None:
        site.keeper.keep(KEPT_HEALTH, encode_health(health))
        site.link.publish_health(health)

    return publish


async def _newest(site: Site) -> list[Event]:
    """The newest events of the store, with those that it was not given yet; none where it does not answer."""
    try:
        await hand_back(site.store, restored(site.keeper, KEPT_LINES, unwritten.unpack, list))
        return read_back(await site.store.newest(MEMORY_EVENTS))
    except StoreError as error:
        logs.error("the history cannot be read", reason=str(error))
        return []
