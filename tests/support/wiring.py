"""The rollout's desk and pace inside the test: a real store and latch page, a clock that the test turns."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.control.alerting.notices import Notice
from gateway.control.config.loading import Loaded
from gateway.control.history import History, read_back
from gateway.control.latching import LatchDesk
from gateway.control.rollout.aftermath import Aftermath
from gateway.control.rollout.desk import RolloutDesk, Surroundings
from gateway.control.rollout.pace import Pace
from gateway.control.store.api import FaultKind
from gateway.control.store.database import Database
from gateway.control.store.file import DatabaseFault
from gateway.control.store.sqlite import STORE_FILE, SqliteStore, Timing
from gateway.core.compile import Position
from gateway.core.gates import evaluate
from gateway.latch import DurableLatch, LatchPage
from gateway.model.gates import Evidence, MetricsThreshold, Verdict
from gateway.model.rollout import Advance, Authority, Emergency, Event, Release, Rollback
from tests.support.configs import complete, load_text

NOW = 1_800_000_000.0
ANN, BEN = "ann", "ben"
LADDER = ("development", "staging", "canary", "limited_production", "full_production")


class Measured:
    """What gates are judged by, as the test says."""

    def __init__(self) -> None:
        self.found = Evidence(0, {})
        self.restarts: list[str] = []
        self.monitors: list[Callable[[], None]] = []
        """Who is told, too, when evidence begins afresh."""

    def evidence(self, gate: MetricsThreshold) -> Evidence:
        return self.found

    def restart_evidence(self) -> None:
        self.restarts.append("evidence")
        for restart in self.monitors:
            restart()

    def restart_windows(self) -> None:
        self.restarts.append("windows")


class Heard:
    """People, who hear everything at once."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        self.notices.append(notice)

    def reaches_anybody(self) -> bool:
        return True

    async def drained(self, patience: float) -> bool:
        return True


@dataclass
class Room:
    """A control process's rollout at work."""

    scene: Scene
    desk: RolloutDesk
    pace: Pace
    store: SqliteStore
    history: History
    latch: LatchDesk
    aftermath: Aftermath

    async def serve(self, seconds: float, tick: float = 60.0) -> None:
        """Time goes by, tick after tick."""
        while seconds > 0:
            self.scene.now += min(tick, seconds)
            await self.pace.tick(min(tick, seconds))
            seconds -= tick

    async def go_to(self, phase: str) -> None:
        """Advance by force until the phase is reached."""
        while self.desk.state.phase != phase:
            await self.desk.apply(Advance(operator=ANN, authority=Authority.FORCE))

    async def release(self) -> None:
        """Release what holds."""
        await self.desk.apply(Release(operator=ANN, engagement=self.latch.page.number))

    @property
    def types(self) -> list[str]:
        """The history after its first line."""
        return [event.type.value for event in self.history.recent(500)][1:]

    @property
    def verdicts(self) -> list[Verdict]:
        """What the gates ahead say."""
        return [gate.verdict for gate in evaluate(self.desk.state, self.desk.rules, self.scene.now)]


@dataclass
class Scene:
    """What outlives a control process, and what a test changes."""

    directory: Path
    text: str = ""
    now: float = NOW
    page: LatchPage = field(default_factory=LatchPage.create)
    kept: list[bytes] = field(default_factory=list)
    published: list[Position] = field(default_factory=list)
    measured: Measured = field(default_factory=Measured)
    treatment_healthy: bool = True
    people: Heard = field(default_factory=Heard)

    def load(self, text: str | None = None) -> Loaded:
        """The config, or another one."""
        return load_text(self.directory, complete(self.text if text is None else text))

    @contextlib.asynccontextmanager
    async def control(self, *, with_kept: bool = True) -> AsyncIterator[Room]:
        """One life of a control process; `with_kept`: the supervisor lived on."""
        store = await SqliteStore.open(
            self.directory / STORE_FILE, 1e9, now=lambda: self.now, timing=Timing(patience=10.0, retry=0.01)
        )
        history = History(store, read_back(await store.newest(500)))
        latch = LatchDesk(self.page, DurableLatch(self.directory))
        aftermath = Aftermath(history, self.people, self.directory, now=lambda: self.now)
        around = Surroundings(
            store,
            history,
            latch,
            self.measured,
            lambda _, position: self.published.append(position),
            self.kept.append,
            aftermath,
        )
        kept = self.kept[-1] if with_kept and self.kept else None
        desk = RolloutDesk.resume(self.load(), around, kept, lambda: self.now)
        pace = Pace(
            desk,
            store,
            self.measured,
            treatment_healthy=lambda: self.treatment_healthy,
            folder=self.directory,
            now=lambda: self.now,
        )
        await desk.start()
        try:
            yield Room(self, desk, pace, store, history, latch, aftermath)
        finally:
            await pace.end()
            desk.checkpoint()
            await store.close()

    @property
    def share(self) -> float:
        """The percentage that the workers were given last."""
        percentage = self.published[-1].user_percentage
        assert percentage is not None
        return float(percentage)


def falls() -> list[Event]:
    """A rollback and an emergency."""
    return [Rollback(operator=BEN, reason="bad answers"), Emergency(operator=BEN, reason="now")]


@contextlib.contextmanager
def refusing_disk() -> Iterator[None]:
    """Every write of the store fails as on a full disk."""
    real = Database.write

    def refuse(self: Database, batch: object) -> None:
        raise DatabaseFault(FaultKind.FULL, "no space left")

    Database.write = refuse  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Database.write = real  # type: ignore[method-assign]
