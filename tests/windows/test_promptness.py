"""How soon a tick is known: as soon as its last head is, and not a report or a grace period later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.folding import GRACE, Fold
from gateway.model.snapshot import Arm
from gateway.proxy.ticks import OPEN_FOR, PATIENCE, TURN
from tests.support.counting import SNAPSHOT, Clock, CountingWorker, response

HEAD_LIMIT = SETTLE_LIMIT = 60_000


def closed(fold: Fold, clock: Clock, *live: CountingWorker) -> int:
    """How many requests are in the ticks that closed by now."""
    fold.take([worker.report() for worker in live], [worker.pid for worker in live])
    progress = fold.advance(round(clock.at * 1000), HEAD_LIMIT, SETTLE_LIMIT)
    return sum(counts.started for tick in progress.closed for counts in tick.counts.values())


def test_a_worker_has_news_once_the_last_head_of_a_tick_is_known() -> None:
    """Once for each time, however often it is asked."""
    clock = Clock()
    worker = CountingWorker(clock, 1)
    worker.ticks.news()
    tally = worker.start(Arm.TREATMENT)
    clock.at += 1.0
    assert not worker.ticks.news()
    tally.answer(response(), False)
    assert worker.ticks.news()
    assert not worker.ticks.news()


def test_a_tick_without_requests_is_news() -> None:
    """Another worker's share of it may be all that is waited for."""
    clock = Clock()
    worker = CountingWorker(clock, 1)
    worker.ticks.news()
    clock.at += 1.0
    assert worker.ticks.news()


def test_what_stays_open_is_told_once_in_a_tick() -> None:
    """A little after the turn, when most heads have come: hangs are judged by how old they are."""
    clock = Clock()
    worker = CountingWorker(clock, 1)
    worker.ticks.news()
    worker.start(Arm.TREATMENT)
    clock.at += 1.0
    assert not worker.ticks.news()
    clock.at += OPEN_FOR / 1000
    assert worker.ticks.news()
    assert not worker.ticks.news()


def test_a_quarter_is_news_without_the_rest_of_its_tick() -> None:
    """Control need not wait for the end of the tick to judge heads."""
    clock = Clock()
    worker = CountingWorker(clock, 1)
    worker.ticks.news()
    worker.serve(Arm.TREATMENT, 3)
    clock.at += 0.25
    worker.ticks.news()
    assert not worker.ticks.news()
    clock.at += 0.25
    assert worker.ticks.news()


def test_a_worker_knows_when_to_look_for_news() -> None:
    """At the turn of a quarter, and again and again while a head of an earlier one is waited for."""
    clock = Clock()
    worker = CountingWorker(clock, 1)
    worker.ticks.news()
    assert worker.ticks.next_news() == pytest.approx(0.25 + TURN)
    clock.at += 0.25 + TURN
    assert worker.ticks.news()
    tally = worker.start(Arm.TREATMENT)
    assert worker.ticks.next_news() == pytest.approx(0.25)
    clock.at += 0.25
    assert not worker.ticks.news()
    assert worker.ticks.next_news() == PATIENCE
    tally.answer(response(), False)
    assert worker.ticks.news()
    assert worker.ticks.next_news() == pytest.approx(0.25)


def test_whole_ticks_are_told_once_in_a_tick() -> None:
    """Some time after its turn; what is told in between is of quarters."""
    clock = Clock()
    worker = CountingWorker(clock, 1)
    told = []
    for _ in range(12):
        clock.at += 0.25
        worker.serve(Arm.TREATMENT)
        assert worker.ticks.news()
        told.append(worker.ticks.ticks_due)
        worker.report(of_quarters=not worker.ticks.ticks_due)
        worker.ticks.sent()
    assert told == [True, False, False, False] * 3


def test_open_requests_are_known_as_of_the_report_and_not_as_of_its_tick() -> None:
    """Of all workers the oldest report counts."""
    clock = Clock()
    fold, one, other = Fold(), CountingWorker(clock, 1), CountingWorker(clock, 2)
    fold.take([other.report()], [1, 2])
    clock.at += 0.4
    fold.take([one.report()], [1, 2])
    assert fold.reported_to == round((clock.at - 0.4) * 1000)
    fold.take([other.report()], [1, 2])
    assert fold.reported_to == round(clock.at * 1000)


def test_a_tick_closes_with_the_report_that_completes_it() -> None:
    """No time passes between: its last head, the report, the closing."""
    clock = Clock()
    fold, worker = Fold(), CountingWorker(clock, 1)
    worker.serve(Arm.TREATMENT, 3, status=500)
    clock.at += 1.0
    assert closed(fold, clock, worker) == 3


def test_a_tick_waits_for_a_worker_that_has_not_spoken() -> None:
    """What it says may be what matters."""
    clock = Clock()
    fold, quick, slow = Fold(), CountingWorker(clock, 1), CountingWorker(clock, 2)
    quick.serve(Arm.TREATMENT, 3)
    slow.serve(Arm.TREATMENT, 2)
    fold.take([slow.report()], [1, 2])
    clock.at += 1.0
    fold.take([quick.report()], [1, 2])
    assert fold.advance(round(clock.at * 1000), HEAD_LIMIT, SETTLE_LIMIT).closed == ()
    assert closed(fold, clock, quick, slow) == 5


def test_after_a_death_a_tick_waits_a_little_for_last_words() -> None:
    """They may still be on their way, and nobody else says them."""
    clock = Clock()
    fold, worker, dead = Fold(), CountingWorker(clock, 1), CountingWorker(clock, 2)
    closed(fold, clock, worker, dead)
    worker.serve(Arm.TREATMENT, 3)
    clock.at += 1.0
    assert closed(fold, clock, worker) == 0
    clock.at += GRACE / 1000
    assert closed(fold, clock, worker) == 3


def test_a_death_delays_what_closes_for_a_little_and_not_for_good() -> None:
    """The last report of a dead worker is repeated for as long as it is remembered."""
    clock = Clock()
    fold, worker, dead = Fold(), CountingWorker(clock, 1), CountingWorker(clock, 2)
    dead.serve(Arm.TREATMENT)
    last_words = dead.report()
    waited = []
    for _ in range(40):
        worker.serve(Arm.TREATMENT)
        clock.at += 0.25
        fold.take([worker.report(), last_words], [worker.pid])
        now = round(clock.at * 1000)
        fold.advance(now, HEAD_LIMIT, SETTLE_LIMIT)
        waited.append(now - fold.closed_to)
    assert max(waited) > 0
    assert waited[-20:] == [0] * 20


def test_short_ticks_are_told_as_they_end() -> None:
    """Where the next one is over before most heads could come."""
    clock = Clock()
    worker = CountingWorker(clock, 1, replace(SNAPSHOT, tick=0.2))
    told = []
    for _ in range(6):
        clock.at += 0.2
        worker.serve(Arm.TREATMENT)
        worker.ticks.news()
        told.append(worker.ticks.ticks_due)
        worker.report(of_quarters=not worker.ticks.ticks_due)
        worker.ticks.sent()
    assert all(told)
