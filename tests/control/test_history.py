"""The audit trail in memory: numbered, bounded, handed over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.control.history import MEMORY_BYTES, Event, EventType, MemoryHistory

EVENT = Event(1.5, EventType.RELOAD, "gateway", "", "digest", origin="old", target="new", evidence={"a": 1})


def test_versions_grow_by_one_and_the_newest_is_last() -> None:
    """The version is what If-Match compares."""
    history = MemoryHistory(None, lambda _: None)
    assert history.version == 0
    assert history.append(EVENT) == 1
    assert history.append(replace(EVENT, at=2.5)) == 2
    assert [event.at for event in history.recent(10)] == [1.5, 2.5]
    assert [event.at for event in history.recent(1)] == [2.5]
    assert history.recent(0) == []


def test_the_next_control_process_goes_on_where_this_one_was() -> None:
    """Events and version survive as bytes."""
    kept: list[bytes] = []
    MemoryHistory(None, kept.append).append(EVENT)
    history = MemoryHistory(kept[-1], kept.append)
    assert history.recent(10) == [EVENT]
    assert history.append(EVENT) == 2


def test_the_memory_is_bounded_and_the_version_is_not() -> None:
    """Old events go; the number never goes back."""
    kept: list[bytes] = []
    history = MemoryHistory(None, kept.append)
    large = replace(EVENT, evidence={"text": "x" * 50_000})
    for _ in range(20):
        history.append(large)
    assert 1 < len(history.recent(100)) < 20
    assert len(kept[-1]) < MEMORY_BYTES + 1000
    assert history.version == 20


@pytest.mark.parametrize("junk", [b"", b"{", b"1\n{", b"1\n{}", b'1\n{"type": "none"}'])
def test_junk_is_refused(junk: bytes) -> None:
    """Foreign bytes raise what the controller catches."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        MemoryHistory(junk, lambda _: None)
