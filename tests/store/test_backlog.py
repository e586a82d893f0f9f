"""What waits for the disk: bounded, in order, and forgotten only once it is written."""

from __future__ import annotations

from gateway.control.store.api import Document, Entry, Tick
from gateway.control.store.backlog import Backlog


def entry(number: int) -> Entry:
    """An entry that says its number."""
    return Entry(0.0, "test", str(number))


def test_too_many_entries_push_the_oldest_out_and_are_counted() -> None:
    """A full disk must not become a full memory; what was lost is said."""
    backlog = Backlog(0, entry_limit=3)
    for number in range(1, 6):
        backlog.add_entry(entry(number))
    assert [number for number, _ in backlog.waiting_entries()] == [3, 4, 5]
    assert backlog.dropped == 2
    assert backlog.last_entry == 5


def test_too_many_ticks_push_the_oldest_out() -> None:
    """The same for sums."""
    backlog = Backlog(0, tick_limit=2)
    backlog.add_ticks(Tick(at, 10, "k", {}) for at in range(3))
    assert [tick.at for tick in backlog.waiting_ticks()] == [1, 2]


def test_what_came_while_a_batch_was_written_goes_on_waiting() -> None:
    """A batch takes nothing away that it did not hold."""
    backlog = Backlog(7)
    backlog.add_document("rollout", Document(1, "1"), urgent=True)
    backlog.add_entry(entry(8))
    backlog.add_ticks([Tick(0, 10, "k", {})])
    batch = backlog.batch()
    backlog.add_document("rollout", Document(2, "2"), urgent=True)
    backlog.add_entry(entry(9))
    backlog.add_ticks([Tick(10, 10, "k", {})])
    backlog.written(batch)
    rest = backlog.batch()
    assert rest.documents == {"rollout": Document(2, "2")}
    assert [number for number, _ in rest.entries] == [9]
    assert [tick.at for tick in rest.ticks] == [10]
    backlog.written(rest)
    assert not backlog.batch()


def test_only_sums_need_not_wait_for_the_disk() -> None:
    """Documents with an event and entries are urgent; clocks and ticks are not."""
    backlog = Backlog(0)
    backlog.add_ticks([Tick(0, 10, "k", {})])
    backlog.add_document("rollout", Document(1, "1"), urgent=False)
    assert not backlog.batch().urgent
    backlog.add_entry(entry(1))
    assert backlog.batch().urgent
