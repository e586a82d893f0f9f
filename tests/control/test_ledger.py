"""Sums over workers that neither lose nor double a request, whoever dies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.control.ledger import DEAD_HELD, Ledger
from gateway.model.observation import Observation, TickReport, TickReports
from tests.support.control import make_counts, make_observation


def requests(ledger: Ledger) -> int:
    """All requests that the ledger knows of."""
    return sum(count for route in ledger.totals().routes for _, _, count in route.requests)


def ok(count: int) -> tuple[tuple[int, str, int], ...]:
    return ((200, "ok", count),)


def ticking(incarnation: str, *texts: str) -> Observation:
    """A report with a tick and a quarter of each text."""
    ticks = tuple(TickReport(1000 * number, text) for number, text in enumerate(texts))
    report = make_observation(incarnation, 11)
    return replace(report, ticks=TickReports(5000, (), ticks, heads=ticks[:1]))


def test_workers_add_up() -> None:
    """The totals are the sum over workers, by route, arm, code and outcome."""
    ledger = Ledger()
    ledger.take(
        [
            make_observation("a", 11, make_counts(requests=((200, "ok", 5), (502, "reset", 1)))),
            make_observation("b", 12, make_counts(requests=ok(7)), make_counts("treatment", ok(2))),
        ]
    )
    totals = ledger.totals()
    assert [(route.arm, route.requests) for route in totals.routes] == [
        ("control", ((200, "ok", 12), (502, "reset", 1))),
        ("treatment", ((200, "ok", 2),)),
    ]
    assert totals.failovers == (("default", "connect_error", 6),)
    assert totals.records_dropped == 2
    assert sum(totals.overhead.buckets) == 2


def test_an_arm_served_what_a_route_sent_it() -> None:
    """What no route took was refused by the gateway itself."""
    ledger = Ledger()
    unrouted = replace(make_counts(requests=((404, "rejected", 3),)), route="")
    ledger.take([make_observation("a", 11, make_counts(requests=ok(5)), unrouted)])
    ledger.take([make_observation("b", 12, make_counts("treatment", ok(2)))])
    totals = ledger.totals()
    assert (totals.served("control"), totals.served("treatment")) == (5, 2)


def test_records_lost_on_this_side_of_the_link_count_for_ever() -> None:
    """They come on top of what workers lost, and a restart of the control process keeps them."""
    ledger = Ledger()
    ledger.take([make_observation("a", 11, make_counts(requests=ok(5)))])
    ledger.note_dropped(3)
    ledger.note_dropped(4)
    assert ledger.totals().records_dropped == 8
    assert Ledger.restore(ledger.encoded()).totals().records_dropped == 8


def test_a_repeated_report_adds_nothing_and_a_newer_one_replaces() -> None:
    """Reports are cumulative: the newest of a worker is the whole truth about it."""
    ledger = Ledger()
    ledger.take([make_observation("a", 11, make_counts(requests=ok(5)))])
    ledger.take([make_observation("a", 11, make_counts(requests=ok(5)))])
    assert requests(ledger) == 5
    ledger.take([make_observation("a", 11, make_counts(requests=ok(6)))])
    assert requests(ledger) == 6


def test_a_dead_worker_s_requests_stay_in_the_totals() -> None:
    """A worker's death takes nothing away, and its successor's counts come on top."""
    ledger = Ledger()
    ledger.take([make_observation("a", 11, make_counts(requests=ok(5)))])
    ledger.retire({11})
    ledger.take([make_observation("b", 12, make_counts(requests=ok(1)))])
    ledger.retire({12})
    assert requests(ledger) == 6
    assert set(ledger.live) == {12}


def test_last_words_that_arrive_after_the_death_count() -> None:
    """The last report of a worker may be read after the supervisor reaped it."""
    ledger = Ledger()
    ledger.take([make_observation("a", 11, make_counts(requests=ok(5)))])
    ledger.retire(())
    ledger.take([make_observation("a", 11, make_counts(requests=ok(8)))])
    assert requests(ledger) == 8


def test_hundreds_of_restarts_neither_double_nor_lose_nor_grow() -> None:
    """Long-dead workers are folded into one sum; a link that repeats them adds nothing."""
    ledger = Ledger()
    reports = [make_observation(f"w{n}", n, make_counts(requests=ok(1))) for n in range(200)]
    for n, _ in enumerate(reports):
        ledger.take(reports[: n + 1])
        ledger.retire({n})
    assert requests(ledger) == 200
    assert sum(report.incarnation in repr(ledger.encoded()) for report in reports) == 200
    held = ledger.encoded().count(b"connect_error")
    assert held <= DEAD_HELD + 2


def test_a_restarted_control_process_goes_on_with_the_sums() -> None:
    """What was handed over counts, the dead of before included, and live workers are not doubled."""
    first = Ledger()
    first.take([make_observation("a", 11, make_counts(requests=ok(5)))])
    first.take([make_observation("b", 12, make_counts(requests=ok(7)))])
    first.retire({12})

    second = Ledger.restore(first.encoded())
    second.take([make_observation("b", 12, make_counts(requests=ok(9)))])
    second.retire({12})
    assert requests(second) == 14
    assert second.totals().overhead == first.totals().overhead


def test_folded_workers_stay_folded_over_a_restart_of_control() -> None:
    """A report of a worker that was folded in before the restart is not taken again."""
    first = Ledger()
    reports = [make_observation(f"w{n}", n, make_counts(requests=ok(1))) for n in range(20)]
    first.take(reports)
    first.retire(())
    second = Ledger.restore(first.encoded())
    second.take(reports)
    assert requests(second) == 20


def test_what_is_handed_over_is_whole() -> None:
    """Every report, with the texts of its ticks and of their quarters, in their places."""
    first = Ledger()
    first.take([ticking("a", "1,2;; 2,3;;"), make_observation("b", 12), ticking("c", "", "4,5;;")])
    second = Ledger.restore(first.encoded())
    assert list(second.reports) == list(first.reports)


def test_a_lost_line_is_noticed() -> None:
    """Else the ticks behind it would get each other's counts."""
    ledger = Ledger()
    ledger.take([ticking("a", "1,2;;", "3,4;;")])
    cut, _, _ = ledger.encoded().rpartition(b"\n")
    with pytest.raises(ValueError, match="missing"):
        Ledger.restore(cut)


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"[1,2,3]", b'"x"'])
def test_junk_is_refused(junk: bytes) -> None:
    """Foreign bytes raise what the controller catches; they never become numbers."""
    with pytest.raises((ValueError, TypeError)):
        Ledger.restore(junk)
