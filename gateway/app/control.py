"""The control process: the controller, connected to the supervisor and the workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from gateway import logs
from gateway.app.process import handle_emergency, run
from gateway.control.config.loading import ConfigError, Loaded, load, load_sources
from gateway.control.emergency import reason_of
from gateway.control.leftovers import end_leftovers, mark_children
from gateway.core.compile import compile_snapshot, initial_position
from gateway.core.rollout import GATEWAY
from gateway.exits import Exit
from gateway.garbage import uncollected
from gateway.latch import DurableLatch, LatchKind, LatchPage
from gateway.link.channel import ControlChannel
from gateway.link.supervision import Listener, SupervisorLink
from gateway.model.codec import encode
from gateway.model.process import (
    KEPT_SNAPSHOT,
    KEPT_SOURCES,
    BootOptions,
    BootPlan,
    OnMissing,
    WorkerStatus,
    unpack_sources,
)
from gateway.processes.directory import StateDirectory
from gateway.processes.priority import stand_back
from gateway.processes.processors import usable_processors
from gateway.processes.unattended import engage_without_supervisor


def main(link: int) -> int:
    """The life of a control process; `link` is the descriptor of its link. Returns the exit code."""
    logs.start("control")
    try:
        supervisor = SupervisorLink(socket.socket(fileno=link))
        page = LatchPage(supervisor.latch_descriptor)
        handle_emergency(page, "the control process", _no_more)
        loaded = _load(supervisor)
        position = initial_position(loaded.config)
        fallback = compile_snapshot(loaded.config, position, digest=loaded.digest, version=1)
        admin = supervisor.plan(_plan(loaded, supervisor.options), encode(fallback))
    except ConfigError as error:
        _say(str(error))
        if error.emergency:
            _engage_without_us(supervisor.options, error)
        return Exit.INVALID
    except EOFError:
        return Exit.DONE  # the supervisor has said why it does not start
    return run(_control(supervisor, page, loaded, admin))


async def _control(supervisor: SupervisorLink, page: LatchPage, loaded: Loaded, admin: socket.socket) -> None:
    # Only now, for it takes half a second: a gateway that must not start says so before.
    with uncollected():
        from gateway.control.controller import Controller  # noqa: PLC0415

    channel = ControlChannel(lambda data: supervisor.keep(KEPT_SNAPSHOT, data))
    workers: dict[int, WorkerStatus] = {}
    plan = _plan(loaded, supervisor.options)
    state_directory = Path(plan.state_directory)
    end_leftovers(state_directory)
    mark_children(state_directory)
    controller = Controller(
        loaded=loaded,
        link=channel,
        latch=page,
        durable=DurableLatch(state_directory),
        admin=admin,
        keeper=supervisor,
        workers=lambda: tuple(workers.values()),
        boot=supervisor.options,
    )

    def worker_started(status: WorkerStatus, end: socket.socket) -> None:
        workers[status.pid] = status
        channel.attach(status.pid, end)

    def worker_ended(status: WorkerStatus) -> None:
        workers.pop(status.pid, None)
        channel.detach(status.pid)

    # Not before: who replaces a control process that died should be there soon, however busy the workers are.
    stand_back()
    running = asyncio.ensure_future(controller.run())
    supervisor.listen(Listener(worker_started, worker_ended, controller.request_reload, running.cancel))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    channel.close()
    supervisor.close()


def _load(supervisor: SupervisorLink) -> Loaded:
    """The config: what an earlier control process had in force, else what the file holds.

    So a restart over a file that has been broken meanwhile serves on, and one that was changed is
    applied by the reload's own rules.
    """
    path = Path(supervisor.options.config)
    if KEPT_SOURCES in supervisor.kept:
        try:
            return load_sources(path, unpack_sources(supervisor.kept[KEPT_SOURCES]), os.environ)
        except (ConfigError, ValueError) as error:
            logs.error("kept config not usable", error=str(error))
    loaded = load(path, os.environ)
    for warning in loaded.warnings:
        logs.warn("config", problem=str(warning))
    return loaded


def _engage_without_us(options: BootOptions, error: ConfigError) -> None:
    """An emergency in a config that nobody can start with: for orphans of a gateway before, and the next."""
    place = options.state_directory or error.state
    if place is None or not os.path.isdir(place):
        return
    directory = StateDirectory(Path(os.path.abspath(place)))
    found = DurableLatch(directory.path).load()
    stands = found is not None and found.engaged and found.kind is LatchKind.EMERGENCY
    if directory.holder() is None and not stands:
        engage_without_supervisor(
            directory, reason_of(error), GATEWAY, lambda line: _say(f"emergency: {line}")
        )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _plan(loaded: Loaded, options: BootOptions) -> BootPlan:
    config = loaded.config
    directory = options.state_directory or config.state.directory
    return BootPlan(
        listen=str(config.listen.address),
        admin=str(config.admin.address),
        health=str(config.health.address),
        workers=options.workers or config.listen.workers or usable_processors(),
        state_directory=os.path.abspath(directory),
        on_missing=OnMissing(config.state.on_missing.value),
        emergency=reason_of(loaded) if config.emergency else "",
        drain_delay=config.drain_delay,
        drain_timeout=config.drain_timeout,
    )


def _no_more() -> None:
    """The control process's own watch over the latch, and the supervisor, see to the disk."""
