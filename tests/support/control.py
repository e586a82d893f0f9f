"""A control process inside the test: real files, sockets and latch page, no supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway.control.config.loading import Loaded, load, load_sources
from gateway.control.controller import Controller
from gateway.latch import DurableLatch, LatchPage
from gateway.link.memory import MemoryLink
from gateway.model.codec import encode
from gateway.model.observation import (
    LATENCY_BOUNDS,
    OVERHEAD_BOUNDS,
    BreakerReport,
    EndpointReport,
    Histogram,
    Observation,
    RouteCounts,
)
from gateway.model.process import (
    KEPT_SNAPSHOT,
    KEPT_SOURCES,
    BootOptions,
    DrainTimes,
    Standing,
    WorkerStatus,
    unpack_sources,
)
from gateway.model.snapshot import Snapshot
from tests.support.snapshots import make_snapshot

PATIENCE = 5.0

CONFIG = """\
version: 1
upstreams:
  traditional: {endpoints: ["http://127.0.0.1:9001"]}
  dspy: {endpoints: ["http://127.0.0.1:9002"]}
routes:
  - {name: default, match: {path_prefix: /}, control: traditional, treatment: dspy}
deployment:
  initial_phase: canary
  phases:
    canary: {user_percentage: 1}
"""
"""A whole small config."""


class MemoryKeeper:
    """The supervisor as the control process sees it, here in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.standing = Standing(pid=1, started_at=1.0, state_fault="", worker_restarts=0, control_restarts=0)
        self.drain_times: DrainTimes | None = None

    def keep(self, name: str, data: bytes) -> None:
        self.kept[name] = data

    def set_drain_times(self, times: DrainTimes) -> None:
        self.drain_times = times


class KeepingLink(MemoryLink):
    """The link in memory; like the real one it has the supervisor keep every snapshot."""

    def __init__(self, keeper: MemoryKeeper) -> None:
        super().__init__(make_snapshot(version=0))
        self._keeper = keeper

    def publish(self, snapshot: Snapshot) -> None:
        self._keeper.keep(KEPT_SNAPSHOT, encode(snapshot))
        super().publish(snapshot)


@dataclass
class Gateway:
    """What outlives a control process, and what a test changes."""

    directory: Path
    config: Path
    keeper: MemoryKeeper
    link: MemoryLink
    page: LatchPage = field(default_factory=LatchPage.create)
    workers: list[WorkerStatus] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)

    def report(self, observation: Observation) -> None:
        """A worker's report, of a worker that runs."""
        self.link.record(observation)
        if all(worker.pid != observation.pid for worker in self.workers):
            self.workers.append(WorkerStatus(slot=0, pid=observation.pid, since=1.0))

    @contextlib.asynccontextmanager
    async def control(self, listening: socket.socket | None = None) -> AsyncIterator[Client]:
        """Run a control process; the client talks to its admin API."""
        loaded = self._load()
        listening = listening or socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        controller = Controller(
            loaded=loaded,
            link=self.link,
            latch=self.page,
            durable=DurableLatch(self.directory),
            admin=listening,
            keeper=self.keeper,
            workers=lambda: tuple(self.workers),
            boot=BootOptions(config=str(self.config), workers=None, state_directory=str(self.directory)),
            environ=self.environ,
        )
        running = asyncio.create_task(controller.run())
        try:
            async with aiohttp.ClientSession() as session:
                yield Client(session, address, controller)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            listening.close()

    def _load(self) -> Loaded:
        """What an earlier control process had in force, else what the file holds."""
        kept = self.keeper.kept.get(KEPT_SOURCES)
        if kept is not None:
            return load_sources(self.config, unpack_sources(kept), self.environ)
        return load(self.config, self.environ)


def make_gateway(directory: Path, text: str = CONFIG) -> Gateway:
    """A gateway whose config and state lie in `directory`."""
    config = directory / "gateway.yaml"
    config.write_text(text)
    state = directory / "state"
    state.mkdir(exist_ok=True)
    keeper = MemoryKeeper()
    return Gateway(state, config, keeper, KeepingLink(keeper))


@dataclass
class Client:
    """Asks a control process."""

    session: aiohttp.ClientSession
    address: tuple[str, int]
    controller: Controller

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **body: Any
    ) -> tuple[int, Any]:
        """Status and JSON (or text) of an answer."""
        request = self.session.request(method, self.url + path, headers=headers, json=body or None)
        async with request as response:
            is_json = response.content_type.endswith("json")
            return response.status, await (response.json(content_type=None) if is_json else response.text())

    async def status(self) -> dict[str, Any]:
        """The status document."""
        status, document = await self.ask("GET", "/api/v1/status")
        assert status == 200, document
        return dict(document)

    async def history(self, *, with_start: bool = False) -> list[dict[str, Any]]:
        """What happened, newest last; without the line that every history begins with, unless asked for."""
        status, events = await self.ask("GET", "/api/v1/history?limit=500")
        assert status == 200, events
        return [event for event in events if with_start or event["reason"] != "started"]

    async def metrics(self) -> str:
        """The metrics as text."""
        return str((await self.ask("GET", "/metrics"))[1])


def histogram(bounds: Sequence[float], *values: float) -> Histogram:
    """A histogram that counted these values."""
    buckets = [0] * (len(bounds) + 1)
    for value in values:
        buckets[sum(value > bound for bound in bounds)] += 1
    return Histogram(tuple(buckets), sum(values))


def make_counts(
    arm: str = "control",
    requests: Sequence[tuple[int, str, int]] = ((200, "ok", 1),),
    latencies: Sequence[float] = (0.02,),
    route: str = "default",
) -> RouteCounts:
    """Traffic of one route and arm."""
    times = histogram(LATENCY_BOUNDS, *latencies)
    return RouteCounts(route, arm, tuple(requests), times, times)


def make_observation(
    incarnation: str,
    pid: int,
    *routes: RouteCounts,
    snapshot: int = 1,
    endpoints: Sequence[tuple[str, int, bool]] = (),
    breakers: Sequence[BreakerReport] = (),
) -> Observation:
    """A worker's report; `endpoints` are upstream, port on 127.0.0.1, and whether the worker uses it."""
    return Observation(
        incarnation=incarnation,
        pid=pid,
        snapshot=snapshot,
        started_at=1.0,
        routes=routes,
        overhead=histogram(OVERHEAD_BOUNDS, 0.0003),
        inflight=(2, 1),
        failovers=(("default", "connect_error", 3),),
        endpoints=tuple(
            EndpointReport(upstream, f"http://127.0.0.1:{port}", healthy, 0)
            for upstream, port, healthy in endpoints
        ),
        connections=5,
        records_dropped=1,
        breakers=tuple(breakers),
    )


def replace_file(path: Path, text: str) -> None:
    """Write a file as careful writers do: another file, renamed over it."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.rename(temporary, path)
