"""The first request of a user in a stretch of time is marked, once, whoever of the workers serves it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.marks import CELLS, UserMarks
from gateway.model.ticks import FIRST_SECONDS

NOON = 1_800_000_000.0 // FIRST_SECONDS * FIRST_SECONDS


@pytest.fixture
def marks() -> Iterator[UserMarks]:
    """A page at noon."""
    made = UserMarks.create()
    made.follow(NOON)
    yield made
    os.close(made.fd)


def test_a_user_is_marked_once_in_a_stretch(marks: UserMarks) -> None:
    """Until the clock has left the ten minutes, and then again."""
    assert [marks.mark(7), marks.mark(7), marks.mark(8)] == [True, False, True]
    marks.follow(NOON + FIRST_SECONDS - 1)
    assert not marks.mark(7)
    marks.follow(NOON + FIRST_SECONDS)
    assert [marks.mark(7), marks.mark(7)] == [True, False]


def test_all_workers_share_the_page(marks: UserMarks) -> None:
    """A user who was served by one is known to the other."""
    other = UserMarks(marks.fd)
    other.follow(NOON)
    assert marks.mark(2**63 + 5)
    assert not other.mark(2**63 + 5)
    assert other.mark(6)
    assert not marks.mark(6)


def test_a_page_that_nobody_marked_knows_nobody(marks: UserMarks) -> None:
    """Whatever the time is: memory begins as zeros, and no stretch has that number."""
    for stretch in range(600):
        marks.follow(NOON + stretch * FIRST_SECONDS)
        assert marks.mark(stretch)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2**64 - 1)), max_size=200))
def test_the_marks_are_those_of_a_plain_set(requests: list[tuple[int, int]]) -> None:
    """Of (stretch, cell) pairs, for as long as stretches do not come again and time goes forward."""
    marks, seen = UserMarks.create(), set()
    for stretch, user in sorted(requests):
        marks.follow(NOON + stretch * FIRST_SECONDS)
        assert marks.mark(user) is ((stretch, user % CELLS) not in seen)
        seen.add((stretch, user % CELLS))
    os.close(marks.fd)
