"""The evidence over the ends of control processes, gateways and machines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.control.monitoring.dossier import DOCUMENT
from gateway.control.store.api import Document
from tests.support.monitoring import Served, Stage, Watch

WELL = Served(good=20)
CONTROL = Served(good=180)
FAILING = Served(good=16, bad=4)


def numbers(watch: Watch) -> tuple[float, int, float]:
    """What the evidence is made of: its capital, requests, failures."""
    errors = watch.monitor.dossier.state.errors
    return errors.treatment.value, errors.count, errors.bad


@pytest.mark.parametrize("with_kept", [True, False], ids=["control process", "gateway"])
async def test_a_restart_goes_on_with_the_same_numbers(stage: Stage, with_kept: bool) -> None:
    """From the supervisor's memory or from the store's: what was folded stays folded."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        await watch.seconds(3, FAILING, CONTROL)
        before = numbers(watch)
        watch.monitor.close()
    stage.turn(30.0)
    async with stage.control(with_kept=with_kept) as watch:
        assert numbers(watch) == before
        await watch.seconds(1, FAILING, CONTROL)
        _, count, bad = numbers(watch)
        assert (count, bad) == (before[1] + 20, before[2] + 4)


async def test_another_boot_moves_the_evidence_to_its_clock(stage: Stage) -> None:
    """The monotonic clock begins anew, and so do the snapshots' numbers; what was gathered does not."""
    async with stage.control() as watch:
        stage.snapshots[-1] = replace(watch.snapshot, version=99)
        watch.monitor.restart_evidence()
        assert watch.monitor.dossier.state.version == 99
        await watch.seconds(30, WELL, CONTROL)
        await watch.seconds(3, FAILING, CONTROL)
        before = numbers(watch)
        watch.monitor.close()
    stage.monotonic, stage.snapshots = 7.0, []
    async with stage.control(with_kept=False) as watch:
        assert numbers(watch) == before
        assert await watch.seconds(60, Served(bad=20), CONTROL) <= 2


@pytest.mark.parametrize("step", [-86_400.0, -3600.0, 3600.0, 86_400.0])
async def test_a_wall_clock_that_was_set_does_not_blind_the_next_gateway(stage: Stage, step: float) -> None:
    """Set back, what was judged before would lie ahead, and a day of failures be old news."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        await watch.seconds(3, FAILING, CONTROL)
        before = numbers(watch)
        watch.monitor.close()
    stage.turn(10.0)
    stage.scene.now += step
    async with stage.control(with_kept=False) as watch:
        assert numbers(watch) == before
        assert await watch.seconds(60, Served(bad=20), CONTROL) <= 2


async def test_what_is_seen_again_counts_once(stage: Stage) -> None:
    """After a restart the workers say again what was folded already."""
    async with stage.control() as watch:
        ticks = [await watch.second(FAILING, CONTROL) for _ in range(3)]
        before = numbers(watch)
        watch.monitor.close()
    async with stage.control() as watch:
        for progress in ticks:
            watch.monitor.take(progress)
        watch.monitor.look()
        assert numbers(watch) == before


async def test_the_evidence_is_stored_every_ten_seconds(stage: Stage) -> None:
    """Whatever the process dies of, no more than that has to be folded again; and the sums are with it."""
    async with stage.control() as watch:
        stored = []
        for _ in range(35):
            await watch.second(WELL, CONTROL)
            stored.append(watch.room.store.document(DOCUMENT))
        assert 3 <= len({None if document is None else document.body for document in stored}) <= 4
        assert watch.windows.stored == 3


async def test_the_evidence_is_stored_with_the_sums_of_what_it_is_made_of(stage: Stage) -> None:
    """Ticks whose sums are in the store are not told a second time: a kill right after would lose them."""
    async with stage.control() as watch:
        await watch.seconds(2, FAILING, CONTROL)
        watch.windows.stored_to = watch.milliseconds
        await watch.second(FAILING, CONTROL)
        gathered = numbers(watch)
        written = len(stage.kept)
        await watch.second(WELL, CONTROL)
        assert len(stage.kept) == written  # and dies
    async with stage.control() as watch:
        assert numbers(watch) == gathered


async def test_what_came_last_is_kept_when_the_process_ends(stage: Stage) -> None:
    """Nobody looked at it yet, but its sums are stored as well: it is not told a second time."""
    async with stage.control() as watch:
        before = numbers(watch)
        progress = watch.progress(FAILING, CONTROL)
        stage.turn(1.0)
        watch.monitor.take(progress)
        watch.monitor.close()
    async with stage.control() as watch:
        assert numbers(watch)[1:] == (before[1] + 20, before[2] + 4)


async def test_a_killed_process_decides_after_its_restart(stage: Stage) -> None:
    """It had stored half of what convicts; the rest comes from the workers again."""
    async with stage.control() as watch:
        await watch.seconds(30, WELL, CONTROL)
        await watch.seconds(2, FAILING, CONTROL)
        watch.monitor.dossier.save()
        gathered = numbers(watch)[2]
        lost = [await watch.second(FAILING, CONTROL)]  # and dies
    async with stage.control() as watch:
        for progress in lost:
            watch.monitor.take(progress)
        watch.monitor.look()
        assert numbers(watch)[2] == gathered + 4
        assert await watch.seconds(60, FAILING, CONTROL) < 60


async def test_evidence_of_another_epoch_is_not_gone_on_with(stage: Stage) -> None:
    """The process died between the release and the next write."""
    async with stage.control() as watch:
        await watch.second(FAILING, CONTROL)
        watch.monitor.dossier.save()
        old = stage.kept[-1]
        assert numbers(watch)[1:] == (20, 4)
        await watch.seconds(10, Served(bad=20), CONTROL)
        assert watch.latched
        await watch.room.release()
    stage.kept.append(old)
    async with stage.control() as watch:
        assert numbers(watch)[1:] == (0, 0)


@pytest.mark.parametrize("junk", ["{}", "[1, 2]", "nonsense", "[]"])
async def test_evidence_that_cannot_be_read_begins_afresh(stage: Stage, junk: str) -> None:
    """It is logged, and a rollback needs a second or two more: nothing else is lost."""
    async with stage.control() as watch:
        await watch.seconds(5, FAILING, CONTROL)
        watch.room.store.checkpoint(DOCUMENT, Document(1, junk))
    async with stage.control(with_kept=False) as watch:
        assert numbers(watch)[1:] == (0, 0)
        assert await watch.seconds(60, Served(bad=20), CONTROL) <= 2


async def test_a_rollback_is_stored_with_evidence_that_begins_afresh(stage: Stage) -> None:
    """Nothing that convicted once is there to convict again."""
    async with stage.control() as watch:
        await watch.seconds(10, Served(bad=20), CONTROL)
        epoch = watch.room.desk.state.epoch
    async with stage.control(with_kept=False) as watch:
        assert (watch.monitor.dossier.epoch, numbers(watch)[1:]) == (epoch, (0, 0))
        assert watch.room.desk.state.automatic_off == ("canary",)
