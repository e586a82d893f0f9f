"""The first request of a user in a period of time is marked, once, whoever of the workers serves it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.marks import CELLS, UserMarks
from gateway.model.ticks import FIRST_SECONDS

NOON = 1_800_000_000.0 // FIRST_SECONDS * FIRST_SECONDS
FIRST, MIDDLE, LAST = 0, CELLS // 2, CELLS - 1
"""Users whose periods begin on the ten minutes, five minutes later, and just before the next ones."""


def period_of(position: int, now: float) -> int:
    """The number of the period that a user is in."""
    return int((now - position * FIRST_SECONDS / CELLS) // FIRST_SECONDS)


@pytest.fixture
def marks() -> Iterator[UserMarks]:
    """A page at noon."""
    made = UserMarks.create()
    made.follow(NOON)
    yield made
    os.close(made.fd)


@pytest.mark.parametrize("user", [FIRST, MIDDLE, LAST])
def test_a_user_is_marked_once_in_ten_minutes(marks: UserMarks, user: int) -> None:
    """Whoever comes each second for an hour is first six or seven times, ten minutes apart."""
    firsts = []
    for second in range(3600):
        marks.follow(NOON + second)
        if marks.mark(user):
            firsts.append(second)
    assert firsts[0] == 0
    assert len(firsts) in (6, 7)
    assert {later - earlier for earlier, later in itertools.pairwise(firsts[1:])} == {FIRST_SECONDS}


def test_users_who_keep_coming_are_first_at_all_times(marks: UserMarks) -> None:
    """Not all in the first seconds of the same ten minutes: of each minute it is the same share."""
    users = range(17, CELLS, CELLS // 600)
    for user in users:
        marks.mark(user)
    by_minute = []
    for minute in range(10):
        marks.follow(NOON + (minute + 1) * 60 - 0.001)
        by_minute.append(sum(marks.mark(user) for user in users))
    assert min(by_minute) >= 59
    assert max(by_minute) <= 61


def test_kinds_of_requests_are_marked_apart_and_at_one_moment(marks: UserMarks) -> None:
    """A user's period is the same for all of them."""
    assert [marks.mark(MIDDLE, 5), marks.mark(MIDDLE, 9), marks.mark(MIDDLE, 5)] == [True, True, False]
    marks.follow(NOON + FIRST_SECONDS / 2 - 1)
    assert [marks.mark(MIDDLE, 5), marks.mark(MIDDLE, 9)] == [False, False]
    marks.follow(NOON + FIRST_SECONDS / 2)
    assert [marks.mark(MIDDLE, 5), marks.mark(MIDDLE, 9)] == [True, True]


def test_all_workers_share_the_page(marks: UserMarks) -> None:
    """A user who was served by one is known to the other."""
    other = UserMarks(marks.fd)
    other.follow(NOON)
    assert marks.mark(2**63 + 5)
    assert not other.mark(2**63 + 5)
    assert other.mark(6)
    assert not marks.mark(6)


def test_a_worker_whose_clock_was_told_earlier_marks_nobody_again(marks: UserMarks) -> None:
    """It knows a mark of the period that it has not come to yet, and leaves it as it is."""
    late = UserMarks(marks.fd)
    late.follow(NOON + FIRST_SECONDS / 2 - 0.1)
    assert late.mark(MIDDLE)
    marks.follow(NOON + FIRST_SECONDS / 2)
    assert marks.mark(MIDDLE)
    assert [late.mark(MIDDLE), marks.mark(MIDDLE), late.mark(MIDDLE)] == [False, False, False]


@pytest.mark.parametrize("step", [-86_400, -3600, -600, -60, 60, 600, 3600, 86_400])
@pytest.mark.parametrize("user", [FIRST, MIDDLE, LAST])
def test_a_step_of_the_clock_does_little(marks: UserMarks, user: int, step: int) -> None:
    """In the half hour after it a user is first a few times: neither always nor never."""
    marks.mark(user)
    firsts = 0
    for second in range(0, 1800, 10):
        marks.follow(NOON + step + second)
        firsts += marks.mark(user)
    assert 1 <= firsts <= 4


def test_a_page_that_nobody_marked_knows_nobody(marks: UserMarks) -> None:
    """Whatever the time is: memory begins as zeros, and no period has that number."""
    for period in range(600):
        marks.follow(NOON + period * FIRST_SECONDS)
        assert marks.mark(period)


@given(st.lists(st.tuples(st.integers(0, 24_000), st.integers(0, 2**64 - 1)), max_size=200))
def test_the_marks_are_those_of_a_plain_set(requests: list[tuple[int, int]]) -> None:
    """Of (period, cell) pairs, for as long as periods do not come again and time goes forward."""
    marks, seen = UserMarks(-1), set()
    for second, user in sorted(requests):
        marks.follow(NOON + second)
        mine = period_of(user % CELLS, NOON + second), user % CELLS
        assert marks.mark(user) is (mine not in seen)
        seen.add(mine)
