"""The audit trail: the newest in memory, all of it in the store, and back again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.commands.history import describe
from gateway.control.history import MEMORY_EVENTS, Event, EventType, History, read_back
from gateway.control.store.api import Entry
from gateway.control.store.sqlite import SqliteStore

EVENT = Event(1.5, EventType.RELOAD, "gateway", "", "digest", origin="old", target="new", evidence={"a": 1})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "state", 1e9)
    yield opened
    await opened.close()


async def test_the_newest_is_last_and_the_next_control_process_reads_it_back(store: SqliteStore) -> None:
    """What was appended comes back from the store as it was."""
    history = History(store)
    history.append(EVENT)
    history.append(replace(EVENT, at=2.5))
    assert [event.at for event in history.recent(10)] == [1.5, 2.5]
    assert [event.at for event in history.recent(1)] == [2.5]
    assert history.recent(0) == []
    again = History(store, read_back(await store.newest(10)))
    assert again.recent(10) == history.recent(10)


async def test_the_memory_is_bounded_and_the_store_has_it_all(store: SqliteStore) -> None:
    """Reading never waits for the disk, and costs a bounded memory."""
    history = History(store)
    for number in range(MEMORY_EVENTS + 20):
        history.append(replace(EVENT, at=float(number)))
    assert len(history.recent(10_000)) == MEMORY_EVENTS
    assert len(await store.newest(10_000)) == MEMORY_EVENTS + 20


async def test_transitions_and_rollbacks_are_counted_also_over_a_restart(store: SqliteStore) -> None:
    """By cause; a repetition while latched is none, and a reload's digests are no phases."""
    history = History(store)
    moved = Event(1.0, EventType.PHASE_TRANSITION, "ann", "", "d", "a", "b", {"cause": "gates"})
    fell = Event(2.0, EventType.ROLLBACK, "ann", "", "d", "b", "a", {"cause": "operator"})
    for event in (EVENT, moved, fell, replace(fell, origin="a", evidence={"repeated": True})):
        history.append(event)
    again = History(store, read_back(await store.newest(10)))
    for counted in (history, again):
        assert counted.transitions == {("a", "b", "gates"): 1, ("b", "a", "operator"): 1}
        assert +counted.rollbacks == {"operator": 1}
        assert {"evidence": 0, "system_failure": 0, "emergency": 0}.items() <= counted.rollbacks.items()


def test_an_alert_is_told_once_on_its_lines() -> None:
    """Its words are the reason; what it is now follows only where that says more."""
    view = {"resolved": False, "type": "error_rate", "message": "5 % over 5m", "value": 0.05}
    alert = {"at": "now", "type": "alert", "from": None, "to": None, "operator": "gateway"}
    raised = describe({**alert, "reason": "5 % over 5m", "evidence": {"change": "raised", **view}})
    assert raised.splitlines()[1].strip() == "change raised, type error_rate, value 0.05"
    eased = describe({**alert, "reason": "it is high only", "evidence": {"change": "eased", **view}})
    assert "message 5 % over 5m" in eased


@pytest.mark.parametrize("junk", ["", "{", "[]", "1", "{}", '{"type": "none"}'])
def test_junk_is_left_out(junk: str) -> None:
    """One line that an other version wrote does not hide the rest."""
    assert read_back([(1, Entry(1.0, "reload", junk))]) == []


def test_the_command_shows_each_hook_on_a_line_of_its_own() -> None:
    """In words, with what it printed; what is empty is left out."""
    hooks = [
        {"name": "sh", "succeeded": False, "detail": "exit code 3", "output": "one\ntwo\n"},
        {"name": "GET http://cache", "succeeded": True, "detail": "", "output": ""},
    ]
    event = {
        "at": "now",
        "type": "rollback_steps",
        "operator": "gateway",
        "reason": "",
        "from": "a",
        "to": "a",
    }
    _, *below = describe(event | {"evidence": {"hooks": hooks}}).splitlines()
    assert [line.strip() for line in below] == [
        "hooks: name sh, succeeded False, detail exit code 3, output one / two",
        "hooks: name GET http://cache, succeeded True",
    ]
