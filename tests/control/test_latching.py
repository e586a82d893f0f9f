"""The latch through the control process: flip first, then the disk; released on disk first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import logs
from gateway.control.latching import LatchDesk, ReleaseResult
from gateway.latch import CONTROL_SLOT, DurableLatch, LatchKind, LatchPage, LatchState
from tests.support.polling import soon


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
    """A desk, its page and its disk."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.page = LatchPage.create()
        self.disk = Failing(directory)
        self.desk = LatchDesk(self.page, self.disk if durable else None)

    def engage(self) -> int:
        return self.desk.engage(LatchKind.EMERGENCY, "it is on fire", "ann")

    async def release(self, number: int) -> ReleaseResult:
        return await self.desk.release(number, "bob", "fixed")

    @property
    def saved(self) -> LatchState:
        saved = self.disk.load()
        assert saved is not None
        return saved


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_engage_flips_and_save_makes_it_durable(scene: Scene) -> None:
    """One engagement: the page at once, then the disk."""
    assert scene.engage() == 1
    assert scene.page.engaged
    assert not scene.desk.durable
    await scene.desk.save()
    assert scene.desk.durable
    assert (scene.saved.engaged, scene.saved.operator, scene.saved.reason) == (True, "ann", "it is on fire")


async def test_a_full_disk_delays_nothing_and_is_said(scene: Scene) -> None:
    """The emergency holds in memory, says that it is not durable, and is written once that is possible."""
    scene.disk.broken = True
    scene.engage()
    await scene.desk.save()
    assert scene.page.engaged
    assert not scene.desk.durable
    assert "No space left" in scene.desk.fault

    scene.disk.broken = False
    saving = asyncio.create_task(scene.desk.persist())
    await soon(lambda: scene.desk.durable)
    saving.cancel()
    assert scene.desk.fault == ""
    assert scene.saved.number == 1


async def test_without_a_state_directory_the_latch_works_and_is_not_durable(tmp_path: Path) -> None:
    """No directory is no reason not to cut over."""
    scene = Scene(tmp_path, durable=False)
    scene.engage()
    await scene.desk.save()
    assert scene.page.engaged
    assert not scene.desk.durable
    assert await scene.release(1) is ReleaseResult.RELEASED
    assert not scene.page.engaged


async def test_what_others_engaged_is_saved(scene: Scene) -> None:
    """A signal's engagement gets onto the disk though nobody asked for it."""
    saving = asyncio.create_task(scene.desk.persist())
    scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    await soon(lambda: scene.desk.durable)
    saving.cancel()
    assert scene.saved.operator == "signal"


async def test_release_is_on_disk_before_it_takes_effect(scene: Scene) -> None:
    """A crash in between leaves the latch engaged."""
    scene.engage()
    seen: list[bool] = []
    scene.disk.meanwhile = lambda: seen.append(scene.page.engaged)
    assert await scene.release(1) is ReleaseResult.RELEASED
    assert seen == [True]
    assert not scene.page.engaged
    assert not scene.saved.engaged


async def test_a_release_never_swallows_an_emergency_that_comes_meanwhile(scene: Scene) -> None:
    """While the disk works, a signal engages: the release fails, page and disk end engaged."""
    scene.engage()
    scene.disk.meanwhile = lambda: scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    assert await scene.release(1) is ReleaseResult.OVERTAKEN
    scene.disk.meanwhile = lambda: None
    assert scene.page.engaged
    saving = asyncio.create_task(scene.desk.persist())
    await soon(lambda: scene.desk.durable)
    saving.cancel()
    assert scene.saved.engaged


async def test_a_release_names_its_engagement(scene: Scene) -> None:
    """Who read number 1 cannot release number 2."""
    scene.engage()
    scene.engage()
    await scene.desk.save()
    for other in (1, 3):
        assert await scene.release(other) is ReleaseResult.OVERTAKEN
        assert scene.page.engaged
    assert (scene.saved.number, scene.saved.released) == (2, 0)
    assert await scene.release(2) is ReleaseResult.RELEASED


async def test_a_release_that_the_disk_refuses_releases_nothing(scene: Scene) -> None:
    """Otherwise the next start would latch again without a trace of why."""
    scene.engage()
    scene.disk.broken = True
    assert await scene.release(1) is ReleaseResult.NOT_DURABLE
    assert scene.page.engaged
    assert not scene.desk.durable


async def test_a_disk_that_refuses_is_said_once_and_so_is_its_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried each second, for days if need be: that must not fill whatever keeps the logs."""
    lines: list[str] = []
    monkeypatch.setattr(logs, "_say", lambda level, event, fields: lines.append(event))
    scene.page.engage(LatchKind.EMERGENCY, "SIGUSR1", "signal")
    scene.disk.broken = True
    for _ in range(3):
        await scene.desk.save()
    scene.disk.broken = False
    for _ in range(2):
        await scene.desk.save()
    assert lines == ["latch not durable", "latch durable again"]


async def test_the_heart_beats(scene: Scene) -> None:
    """The supervisor replaces a control process whose heart stands still."""
    beating = asyncio.create_task(scene.desk.beat())
    await soon(lambda: scene.page.last_beat(CONTROL_SLOT) > 0)
    first = scene.page.last_beat(CONTROL_SLOT)
    await soon(lambda: scene.page.last_beat(CONTROL_SLOT) > first)
    beating.cancel()
