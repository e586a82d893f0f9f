"""A user stays where they are: the properties that a rollout is built on."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.split import Table, enrolment_position, experiment_position
from gateway.model.codec import decode, encode
from gateway.model.snapshot import FULL_SHARE, Arm, HashKind, Snapshot
from tests.support.deciding import decide, groups_of
from tests.support.snapshots import DSPY, TRADITIONAL, make_experiment, make_snapshot

USERS = [f"user-{number}" for number in range(100_000)]
CROWD = USERS[:200]

percentages = st.fractions(min_value=0, max_value=100, max_denominator=1000)
weight_lists = st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(any)
kinds = st.sampled_from(HashKind)


def named(weights: list[int]) -> dict[str, int]:
    """Weights with group names."""
    return {f"group-{number:02}": weight for number, weight in enumerate(weights)}


@given(percentages, percentages, weight_lists, kinds)
def test_raising_the_percentage_removes_nobody_and_moves_nobody(
    one: Fraction, other: Fraction, weights: list[int], kind: HashKind
) -> None:
    """Who is enrolled at the lower percentage is in the same group at the higher one."""
    low, high = sorted((one, other))
    experiment = make_experiment(named(weights), kind=kind)
    before = groups_of(make_snapshot(low, experiment=experiment), CROWD)
    after = groups_of(make_snapshot(high, experiment=experiment), CROWD)
    assert all(old in (None, new) for old, new in zip(before, after, strict=True))


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_of_two_weights_the_raised_one_only_gains(first: int, second: int, more: int) -> None:
    """Users move only towards the group whose weight was raised."""
    if not first + second:
        return
    before = groups_of(make_snapshot(100, experiment=make_experiment({"a": first, "b": second})), CROWD)
    after = groups_of(make_snapshot(100, experiment=make_experiment({"a": first + more, "b": second})), CROWD)
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved <= {("b", "a")}


@given(st.text(min_size=1))
def test_a_user_is_enrolled_exactly_below_the_share(user: str) -> None:
    """The share that equals the user's position leaves them out; one more takes them in."""
    snapshot = make_snapshot()
    position = enrolment_position(snapshot.enrolment, user.encode())

    def arm_at(share: int) -> Arm:
        return decide(Table(replace(snapshot, enrolment=replace(snapshot.enrolment, share=share))), user).arm

    assert arm_at(position) is Arm.CONTROL
    assert arm_at(position + 1) is Arm.TREATMENT


@given(st.text(min_size=1))
def test_zero_and_a_hundred_percent_are_exact(user: str) -> None:
    """0 % is nobody and 100 % is everybody, whoever asks."""
    assert decide(Table(make_snapshot(0)), user).arm is Arm.CONTROL
    assert decide(Table(make_snapshot(100)), user).arm is Arm.TREATMENT


@given(st.text(min_size=1), weight_lists, kinds)
def test_a_group_serves_exactly_its_slice(user: str, weights: list[int], kind: HashKind) -> None:
    """The user's position lies in the slice of the group that the table picks, also in a tiny one."""
    experiment = make_experiment(named(weights), kind=kind)
    picked = decide(Table(make_snapshot(100, experiment=experiment)), user).group
    position = experiment_position(experiment, user.encode())
    assert [group.name for group in experiment.groups if group.start <= position < group.end] == [picked]


@pytest.mark.parametrize("percentage", ["0.5", "2", "50", "100"])
@pytest.mark.parametrize("weights", [{"control": 50, "treatment": 50}, {"a": 1, "b": 2, "c": 7}])
def test_enrolment_says_nothing_about_the_group(percentage: str, weights: dict[str, int]) -> None:
    """Among the enrolled the groups have their weights, at a small percentage too (one hash would not)."""
    experiment = make_experiment(weights)
    groups = groups_of(make_snapshot(percentage, experiment=experiment), USERS)
    enrolled = [group for group in groups if group is not None]
    assert_share(len(enrolled), len(USERS), float(percentage) / 100)
    for name, count in Counter(enrolled).items():
        assert_share(count, len(enrolled), weights[name] / sum(weights.values()))


def test_experiments_are_independent_of_each_other() -> None:
    """Who is in treatment of one experiment is spread evenly over the groups of another."""
    weights = {"control": 50, "treatment": 50}
    first, second = (
        groups_of(make_snapshot(100, experiment=make_experiment(weights, experiment_id=name)), USERS)
        for name in ("first", "second")
    )
    for count in Counter(zip(first, second, strict=True)).values():
        assert_share(count, len(USERS), 0.25)


def assert_share(count: int, total: int, expected: float) -> None:
    """The share is within 4.5 standard errors of what is expected: the users are fixed, so is this."""
    assert abs(count - total * expected) <= 4.5 * sqrt(total * expected * (1 - expected)), (
        f"{count} of {total}, expected {expected:.2%}"
    )


def test_a_rebuilt_table_gives_the_same_answers() -> None:
    """A reload and a trip over the link (bytes and back) change no answer and no reason."""
    snapshot = make_snapshot("33.3", experiment=make_experiment({"control": 1, "a": 2, "b": "0.5"}))
    travelled = decode(Snapshot, encode(snapshot))
    assert travelled == snapshot
    one, other = Table(snapshot), Table(travelled)
    assert all(decide(one, user) == decide(other, user) for user in CROWD)


PROGRAM = """
import sys
from tests.split.test_stickiness import fingerprint
from gateway.model.codec import decode
from gateway.model.snapshot import Snapshot
print(fingerprint(decode(Snapshot, sys.stdin.buffer.read())))
"""


def fingerprint(snapshot: Snapshot) -> str:
    """A digest over upstream's name, arm and group of every user."""
    table = Table(snapshot)
    digest = hashlib.sha256()
    for user in USERS:
        decision = decide(table, user)
        upstream = snapshot.upstreams[decision.upstream].name
        digest.update(f"{upstream} {decision.arm.label} {decision.group}\n".encode())
    return digest.hexdigest()


def with_upstreams_reversed(snapshot: Snapshot) -> Snapshot:
    """The same meaning with the two upstreams the other way round in memory."""
    swapped = {TRADITIONAL: DSPY, DSPY: TRADITIONAL}
    [route] = snapshot.routes
    assert route.experiment is not None
    groups = tuple(replace(group, upstream=swapped[group.upstream]) for group in route.experiment.groups)
    route = replace(
        route,
        control=swapped[route.control],
        treatment=swapped[route.treatment],
        experiment=replace(route.experiment, groups=groups),
    )
    return replace(snapshot, upstreams=snapshot.upstreams[::-1], routes=(route,))


@pytest.mark.slow
def test_every_process_gives_100000_users_the_same_answer() -> None:
    """Fresh processes, other hash seeds, another order of the arms in memory: one answer per user."""
    weights = {"control": 50, "treatment": 30, "candidate": 20}
    snapshot = make_snapshot(40, experiment=make_experiment(weights))
    root = Path(__file__).parents[2]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    variants = (snapshot, with_upstreams_reversed(snapshot))
    answers = [
        worker.communicate(encode(variant), timeout=60)[0].decode().strip()
        for worker, variant in zip(workers, variants, strict=True)
    ]
    assert answers == [fingerprint(snapshot)] * len(workers)


def test_positions_use_the_whole_hash_space() -> None:
    """Positions reach both ends of 0 to 2**64, so that no percentage is stretched."""
    enrolment = make_snapshot().enrolment
    positions = [enrolment_position(enrolment, user.encode()) for user in USERS]
    assert min(positions) < FULL_SHARE / 10_000
    assert max(positions) > FULL_SHARE * 0.9999
