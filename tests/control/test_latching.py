"""The latch through the control process: flip first, then the disk, then words; once, whoever flipped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.control.history import EventType, MemoryHistory
from gateway.control.latching import LatchDesk, Operator, Release, ReleaseResult, noted_at_start
from gateway.latch import CONTROL_SLOT, DurableLatch, LatchKind, LatchPage
from tests.support.control import eventually

BY = Operator("ann", "it is on fire", {"ticket": 7})


class Failing(DurableLatch):
    """A disk that refuses while `broken`, and that can be made to do something in the middle of a write."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.broken = False
        self.meanwhile: Callable[[], object] = lambda: None

    def save(self, page: LatchPage, released: int | None = None) -> None:
        self.meanwhile()
        if self.broken:
            raise OSError(28, "No space left on device")
        super().save(page, released)


class Scene:
    """A desk, its page, its disk and its history."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.page = LatchPage.create()
        self.disk = Failing(directory)
        self.history = MemoryHistory(None, lambda _: None)
        self.noted: list[int] = []
        self.durable = durable

    def desk(self, noted: int | None = None) -> LatchDesk:
        return LatchDesk(
            self.page,
            self.disk if self.durable else None,
            self.history,
            noted=noted_at_start(self.page) if noted is None else noted,
            digest=lambda: "digest",
            keep_noted=self.noted.append,
            now=lambda: 1000.0,
        )

    @property
    def types(self) -> list[EventType]:
        return [event.type for event in self.history.recent(100)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_engage_flips_saves_and_writes_down(scene: Scene) -> None:
    """One engagement: page, disk and history agree."""
    engagement = await scene.desk().engage(LatchKind.EMERGENCY, BY)
    assert scene.page.engaged
    assert (engagement.number, engagement.durable) == (1, True)
    saved = scene.disk.load()
    assert saved is not None
    assert saved.engaged
    (event,) = scene.history.recent(10)
    assert (event.type, event.operator, event.reason) == (EventType.EMERGENCY, "ann", "it is on fire")
    assert event.evidence["ticket"] == 7
    assert scene.noted == [1]


async def test_the_flip_comes_before_the_disk(scene: Scene) -> None:
    """When the disk is asked, traffic has been on control already."""
    seen: list[bool] = []
    scene.disk.meanwhile = lambda: seen.append(scene.page.engaged)
    await scene.desk().engage(LatchKind.EMERGENCY, BY)
    assert seen == [True]


async def test_a_full_disk_delays_nothing_and_is_said(scene: Scene) -> None:
    """The emergency holds in memory, says that it is not durable, and is written once that is possible."""
    scene.disk.broken = True
    desk = scene.desk()
    engagement = await desk.engage(LatchKind.EMERGENCY, BY)
    assert scene.page.engaged
    assert not engagement.durable
    assert "No space left" in desk.fault

    scene.disk.broken = False
    saving = asyncio.create_task(desk.persist())
    await eventually(lambda: desk.durable)
    saving.cancel()
    assert desk.fault == ""
    saved = scene.disk.load()
    assert saved is not None
    assert saved.number == 1


async def test_without_a_state_directory_the_latch_works_and_is_not_durable(tmp_path: Path) -> None:
    """No directory is no reason not to cut over."""
    scene = Scene(tmp_path, durable=False)
    desk = scene.desk()
    engagement = await desk.engage(LatchKind.EMERGENCY, BY)
    assert scene.page.engaged
    assert not engagement.durable
    assert (await desk.release(BY)).result is ReleaseResult.RELEASED
    assert not scene.page.engaged


async def test_what_others_engaged_is_noted_once_and_saved(scene: Scene) -> None:
    """A signal's engagement gets into the history within the looks' interval, and onto the disk."""
    desk = scene.desk()
    watching = [asyncio.create_task(desk.watch()), asyncio.create_task(desk.persist())]
    scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    async with asyncio.timeout(0.5):
        await eventually(lambda: bool(scene.types))
    await eventually(lambda: desk.durable)
    desk.note()
    for task in watching:
        task.cancel()
    (event,) = scene.history.recent(10)
    assert (event.operator, event.reason) == ("signal", "SIGUSR1")
    assert scene.disk.load() is not None


async def test_a_thousand_engagements_between_two_looks_are_one_event(scene: Scene) -> None:
    """The number is kept, the history stays readable."""
    desk = scene.desk()
    for _ in range(1000):
        scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    desk.note()
    desk.note()
    (event,) = scene.history.recent(10)
    assert event.evidence == {"number": 1000, "kind": "emergency", "repeats": 999}


async def test_an_engagement_while_control_was_dead_is_worked_off_by_the_next(scene: Scene) -> None:
    """The number that was kept tells the new desk what the old one had written down."""
    first = scene.desk()
    await first.engage(LatchKind.EMERGENCY, BY)
    await first.release(BY)
    scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    second = scene.desk(noted=scene.noted[-1])
    second.note()
    second.note()
    assert scene.types == [EventType.EMERGENCY, EventType.RELEASE, EventType.EMERGENCY]


async def test_a_repetition_is_not_laid_at_the_first_one_s_door(scene: Scene) -> None:
    """The page keeps the first one's words; who repeated it is not known."""
    desk = scene.desk()
    await desk.engage(LatchKind.EMERGENCY, BY)
    scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    desk.note()
    scene.desk(noted=1).note()
    assert [event.operator for event in scene.history.recent(10)] == ["ann", "unknown", "unknown"]


async def test_a_restored_latch_is_news_once_and_a_released_one_is_none(scene: Scene) -> None:
    """After a restart of the whole gateway, with whatever number came from the disk."""
    for _ in range(3):
        scene.page.engage(LatchKind.STATE, "the state directory is gone", "gateway")
    scene.desk().note()
    assert [event.evidence["repeats"] for event in scene.history.recent(10)] == [0]
    scene.page.release(3)
    scene.desk().note()
    assert len(scene.types) == 1


async def test_a_rollback_is_written_down_as_one(scene: Scene) -> None:
    """The kind of the engagement names the event."""
    await scene.desk().engage(LatchKind.ROLLBACK, BY)
    assert scene.types == [EventType.ROLLBACK]


async def test_release_is_on_disk_before_it_takes_effect(scene: Scene) -> None:
    """A crash in between leaves the latch engaged."""
    desk = scene.desk()
    await desk.engage(LatchKind.EMERGENCY, BY)
    seen: list[bool] = []
    scene.disk.meanwhile = lambda: seen.append(scene.page.engaged)
    assert await desk.release(BY) == Release(1, ReleaseResult.RELEASED)
    assert seen == [True]
    assert not scene.page.engaged
    saved = scene.disk.load()
    assert saved is not None
    assert not saved.engaged
    assert scene.types == [EventType.EMERGENCY, EventType.RELEASE]


async def test_a_release_never_swallows_an_emergency_that_comes_meanwhile(scene: Scene) -> None:
    """While the disk works, a signal engages: the release fails, page and disk end engaged."""
    desk = scene.desk()
    await desk.engage(LatchKind.EMERGENCY, BY)
    scene.disk.meanwhile = lambda: scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    release = await desk.release(BY)
    scene.disk.meanwhile = lambda: None
    assert release.result is ReleaseResult.OVERTAKEN
    assert scene.page.engaged
    saving = asyncio.create_task(desk.persist())
    await eventually(lambda: desk.durable)
    saving.cancel()
    saved = scene.disk.load()
    assert saved is not None
    assert saved.engaged


async def test_a_release_names_its_engagement(scene: Scene) -> None:
    """Who read number 1 cannot release number 2."""
    desk = scene.desk()
    await desk.engage(LatchKind.EMERGENCY, BY)
    await desk.engage(LatchKind.EMERGENCY, BY)
    for other in (1, 3):
        assert (await desk.release(BY, other)).result is ReleaseResult.OVERTAKEN
        assert scene.page.engaged
    saved = scene.disk.load()
    assert saved is not None
    assert (saved.number, saved.released) == (2, 0)
    assert (await desk.release(BY, 2)).result is ReleaseResult.RELEASED


async def test_a_release_that_the_disk_refuses_releases_nothing(scene: Scene) -> None:
    """Otherwise the next start would latch again without a trace of why."""
    desk = scene.desk()
    await desk.engage(LatchKind.EMERGENCY, BY)
    scene.disk.broken = True
    assert (await desk.release(BY)).result is ReleaseResult.NOT_DURABLE
    assert scene.page.engaged
    assert not desk.durable


async def test_releasing_what_is_not_engaged_does_nothing(scene: Scene) -> None:
    """Idempotent, and no event."""
    assert (await scene.desk().release(BY)).result is ReleaseResult.WAS_NOT_ENGAGED
    assert scene.types == []


async def test_the_watch_beats_the_heart(scene: Scene) -> None:
    """The supervisor replaces a control process whose heart stands still."""
    watching = asyncio.create_task(scene.desk().watch())
    await eventually(lambda: scene.page.last_beat(CONTROL_SLOT) > 0)
    first = scene.page.last_beat(CONTROL_SLOT)
    await eventually(lambda: scene.page.last_beat(CONTROL_SLOT) > first)
    watching.cancel()
