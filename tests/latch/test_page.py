"""The shared page: engaging, releasing, and who sees it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.latch import CONTROL_SLOT, HEARTBEAT_SLOTS, LatchKind, LatchPage, LatchState
from gateway.model.process import MAX_WORKERS


@pytest.fixture
def page() -> Iterator[LatchPage]:
    made = LatchPage.create()
    yield made
    os.close(made.fd)


def test_a_fresh_page_is_disengaged(page: LatchPage):
    """Nobody engaged it yet: number 0, nothing said."""
    assert not page.engaged
    assert page.state().number == 0


def test_engaging_counts_and_describes(page: LatchPage):
    """The first engagement is number 1 and says who, why and when."""
    before = time.time()
    assert page.engage(LatchKind.ROLLBACK, "error rate", "ada") == 1
    state = page.state()
    assert (state.engaged, state.kind, state.reason, state.operator) == (
        True,
        LatchKind.ROLLBACK,
        "error rate",
        "ada",
    )
    assert before - 1 <= state.since <= time.time() + 1


def test_a_repetition_counts_but_keeps_the_first_description(page: LatchPage):
    """The reason on the page is that of the engagement which flipped it."""
    page.engage(LatchKind.EMERGENCY, "first", "ada")
    assert page.engage(LatchKind.ROLLBACK, "second", "bob") == 2
    assert page.state().reason == "first"


def test_an_emergency_takes_over_the_description_of_anything_milder(page: LatchPage):
    """A rollback that becomes an emergency is called one."""
    page.engage(LatchKind.ROLLBACK, "error rate", "gateway")
    page.engage(LatchKind.EMERGENCY, "pulled the plug", "ada")
    assert (page.state().kind, page.state().reason) == (LatchKind.EMERGENCY, "pulled the plug")


def test_release_lifts_the_engagement_that_it_names(page: LatchPage):
    """Release what is there: off."""
    number = page.engage(LatchKind.EMERGENCY, "", "")
    assert page.release(number)
    assert not page.engaged
    assert page.number == page.released == 1


def test_release_never_swallows_a_newer_engagement(page: LatchPage):
    """An engagement that came after the decision to release stands."""
    number = page.engage(LatchKind.EMERGENCY, "", "")
    page.engage(LatchKind.EMERGENCY, "again", "")
    assert not page.release(number)
    assert page.engaged


def test_release_cannot_run_ahead(page: LatchPage):
    """Naming a number that was never given lifts what is there and nothing that comes."""
    page.engage(LatchKind.EMERGENCY, "", "")
    page.release(99)
    page.engage(LatchKind.EMERGENCY, "", "")
    assert page.engaged


@given(st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=40))
def test_it_is_engaged_exactly_while_the_newest_number_was_not_released(steps: list[int | None]):
    """None engages, a number releases that engagement and no other: as the plainest model does."""
    page = LatchPage.create()
    number = released = 0
    for step in steps:
        if step is None:
            number += 1
            page.engage(LatchKind.EMERGENCY, "", "")
        else:
            released = step if step == number else released
            page.release(step)
        assert page.engaged == page.state().engaged == (number > released)
    os.close(page.fd)


def test_every_mapping_of_the_descriptor_is_the_same_page(page: LatchPage):
    """What one process engages, each other one sees at once."""
    other = LatchPage(os.dup(page.fd))
    page.engage(LatchKind.EMERGENCY, "x", "y")
    assert other.engaged
    assert other.state() == page.state()
    os.close(other.fd)


def test_a_foreign_descriptor_is_refused():
    """A page without the magic number is not believed."""
    fd = os.memfd_create("something")
    os.ftruncate(fd, 4096)
    with pytest.raises(ValueError, match="not a latch page"):
        LatchPage(fd)
    os.close(fd)


def test_long_and_odd_texts_are_cut_not_refused(page: LatchPage):
    """A reason of any length and any characters leaves the page sound."""
    page.engage(LatchKind.EMERGENCY, "é" * 5000 + "\0x", "o" * 5000)
    state = page.state()
    assert state.engaged
    assert state.reason.startswith("é" * 100)
    assert state.operator.startswith("o" * 100)


def test_restoring_takes_everything_over(page: LatchPage):
    """What the disk said is what the page says."""
    state = LatchState(7, 5, LatchKind.CONFIG, "phase removed", "gateway", 1_700_000_000.0)
    page.restore(state)
    assert page.state() == state


def test_heartbeats_have_a_slot_each_and_can_be_forgotten(page: LatchPage):
    """One process's beat is nobody else's."""
    last = HEARTBEAT_SLOTS - 1
    assert page.last_beat(CONTROL_SLOT) == 0.0
    before = time.monotonic()
    page.beat(CONTROL_SLOT)
    assert before <= page.last_beat(CONTROL_SLOT) <= time.monotonic()
    assert page.last_beat(1) == 0.0
    page.beat(1)
    page.beat(last)
    page.engage(LatchKind.EMERGENCY, "r" * 2000, "o" * 2000)
    assert page.last_beat(last) > 0
    for slot in (1, CONTROL_SLOT, last):
        page.clear_beat(slot)
        assert page.last_beat(slot) == 0.0
    assert page.engaged


def test_every_worker_and_its_successor_have_a_slot():
    """As many workers as a config may ask for, all of them being replaced at once."""
    assert HEARTBEAT_SLOTS >= 1 + 2 * MAX_WORKERS


def test_draining_is_seen_by_everybody_and_engages_nothing(page: LatchPage):
    """Readiness off is another matter than the latch."""
    page.start_draining()
    assert page.draining
    assert not page.engaged
