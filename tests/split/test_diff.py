"""How many users a change moves: exact on cases done by hand, and true of real users."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.diff import Place, RouteDifference, compare
from gateway.core.shares import format_share
from gateway.core.split import Table
from gateway.model.snapshot import Anonymous, Arm, Experiment, HashKind, Overrides, Snapshot
from tests.support.deciding import decide
from tests.support.examples import examples
from tests.support.snapshots import make_experiment, make_route, make_snapshot

EVEN = make_experiment({"control": 50, "treatment": 50})
USERS = [f"user-{number}" for number in range(100_000)]
TOLERANCE = Fraction(1, 2**60)
"""Shares are rounded up to one of 2**64 positions, so that 1 % is a hair more than 1/100."""


def only_route(old: Snapshot, new: Snapshot) -> RouteDifference:
    """The difference of two snapshots with one route."""
    [route] = compare(old, new).routes
    return route


def by_group(difference: RouteDifference) -> dict[tuple[str | None, str | None], Fraction]:
    """Shares by (old group, new group)."""
    return {(move.old.group, move.new.group): move.share for move in difference.moves}


def close(share: Fraction, expected: Fraction | str) -> bool:
    """Equal but for the rounding to positions."""
    return abs(share - Fraction(expected)) < TOLERANCE


def test_the_same_snapshot_moves_nobody() -> None:
    """Nothing changed, so nothing moves and nothing is given as a cause."""
    difference = only_route(make_snapshot(10, experiment=EVEN), make_snapshot(10, experiment=EVEN))
    assert (difference.moves, difference.causes, difference.arm_share) == ((), (), 0)


def test_a_raised_percentage_only_enrols() -> None:
    """1 % to 10 % with even groups: 4.5 % go from control to treatment, nobody between groups."""
    difference = only_route(make_snapshot(1, experiment=EVEN), make_snapshot(10, experiment=EVEN))
    assert close(difference.arm_share, "0.045")
    assert difference.group_share == 0
    moves = by_group(difference)
    assert set(moves) == {(None, "control"), (None, "treatment")}
    assert all(close(share, "0.045") for share in moves.values())
    assert difference.causes == ("enrolled: 1 % → 10 %",)


def test_a_moved_border_moves_what_lies_between() -> None:
    """50/50 to 40/60 at 20 %: a tenth of the fifth goes from control to treatment."""
    new = make_experiment({"control": 40, "treatment": 60})
    difference = only_route(make_snapshot(20, experiment=EVEN), make_snapshot(20, experiment=new))
    assert set(by_group(difference)) == {("control", "treatment")}
    assert close(difference.arm_share, "0.02")
    assert close(difference.group_share, "0.02")
    assert difference.causes == ("group control: 50 % → 40 %", "group treatment: 50 % → 60 %")


def test_percentage_and_weights_together_are_rectangles() -> None:
    """Both at once: old slices over new slices on both axes, nothing counted twice."""
    new = make_experiment({"control": 40, "treatment": 60})
    moves = by_group(only_route(make_snapshot(20, experiment=EVEN), make_snapshot(50, experiment=new)))
    assert {groups: float(share) for groups, share in moves.items()} == pytest.approx(
        {("control", "treatment"): 0.02, (None, "control"): 0.12, (None, "treatment"): 0.18}, abs=1e-15
    )


@pytest.mark.parametrize("change", [{"seed": "new"}, {"experiment_id": "new"}, {"kind": HashKind.SHA256}])
def test_another_hash_deals_the_groups_anew(change: dict[str, Any]) -> None:
    """With another seed, id or formula old and new groups are independent: half of them change."""
    new = make_experiment({"control": 50, "treatment": 50}, **change)
    difference = only_route(make_snapshot(20, experiment=EVEN), make_snapshot(20, experiment=new))
    assert close(difference.arm_share, "0.1")
    assert difference.causes[-1].startswith("old and new groups are independent")


def test_the_missions_formula_does_not_know_the_experiment() -> None:
    """Under sha256 an experiment of another name with the same seed deals everybody the same way."""
    old, new = (
        make_experiment({"control": 50, "treatment": 50}, experiment_id=name, kind=HashKind.SHA256)
        for name in ("old", "new")
    )
    difference = only_route(make_snapshot(100, experiment=old), make_snapshot(100, experiment=new))
    assert difference.arm_share == 0
    assert difference.causes == ("experiment new instead of old",)


def test_another_salt_draws_the_enrolled_anew() -> None:
    """With another rollout_salt p(1-p) leave and as many come."""
    difference = only_route(make_snapshot(20), make_snapshot(20, salt="new"))
    assert close(difference.arm_share, "0.32")
    assert difference.causes == ("rollout_salt changed: old and new enrolment are independent of each other",)


def test_the_missions_formula_with_another_total_is_exact() -> None:
    """50 of 100 and 25 of 50 come from the same number: counted by remainders, not taken as independent."""
    half, still_half = (
        make_experiment({"control": weight, "treatment": weight}, kind=HashKind.SHA256) for weight in (50, 25)
    )
    difference = only_route(make_snapshot(100, experiment=half), make_snapshot(100, experiment=still_half))
    moved = sum((number % 100 < 50) != (number % 50 < 25) for number in range(100))
    assert difference.arm_share == Fraction(moved, 100)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
)
def test_remainders_are_counted_as_by_enumeration(old: list[int], new: list[int]) -> None:
    """For sha256 the shares are those of running through every number up to the common multiple."""
    experiments = [
        make_experiment({f"g{number}": weight for number, weight in enumerate(weights)}, kind=HashKind.SHA256)
        for weights in (old, new)
    ]
    before, after = (make_snapshot(100, experiment=experiment) for experiment in experiments)
    every = sum(old) * sum(new)
    counted = Counter(
        (name_at(experiments[0], number), name_at(experiments[1], number)) for number in range(every)
    )
    expected = {names: Fraction(count, every) for names, count in counted.items() if names[0] != names[1]}
    assert by_group(only_route(before, after)) == expected


def name_at(experiment: Experiment, number: int) -> str:
    """The group that holds the number, by the definition of the formula."""
    position = number % experiment.total
    return next(group.name for group in experiment.groups if group.start <= position < group.end)


CASES = {
    "percentage": (make_snapshot(5, experiment=EVEN), make_snapshot("33.3", experiment=EVEN)),
    "lowered": (make_snapshot(70, experiment=EVEN), make_snapshot(30, experiment=EVEN)),
    "salt": (make_snapshot(30, experiment=EVEN), make_snapshot(60, experiment=EVEN, salt="other")),
    "three-groups": (
        make_snapshot(80, experiment=EVEN),
        make_snapshot(90, experiment=make_experiment({"control": 30, "candidate": 25, "treatment": 45})),
    ),
    "seed": (
        make_snapshot(80, experiment=EVEN),
        make_snapshot(80, experiment=make_experiment({"control": 10, "treatment": 90}, seed="other")),
    ),
    "ends": (make_snapshot(40, experiment=EVEN), make_snapshot(60)),
    "sha256-total": (
        make_snapshot(
            100, experiment=make_experiment({"control": 50, "treatment": 50}, kind=HashKind.SHA256)
        ),
        make_snapshot(90, experiment=make_experiment({"control": 7, "treatment": 5}, kind=HashKind.SHA256)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_real_users_move_as_computed(case: str) -> None:
    """Of 100,000 users as many change from each place to each other one as the ranges say."""
    old, new = CASES[case]
    difference = only_route(old, new)
    before, after = Table(old), Table(new)
    counted = Counter((place(before, user), place(after, user)) for user in USERS)
    expected = {(move.old, move.new): float(move.share) for move in difference.moves}
    changed = {places: count for places, count in counted.items() if places[0] != places[1]}
    assert set(changed) == set(expected)
    for places, count in changed.items():
        share = expected[places]
        assert abs(count - share * len(USERS)) <= 4.5 * sqrt(share * (1 - share) * len(USERS))


def place(table: Table, user: str) -> Place:
    """Where the table puts a user."""
    decision = decide(table, user)
    return Place(
        decision.arm,
        enrolled=decision.reason != "not_enrolled",
        experiment=decision.experiment,
        group=decision.group,
    )


@examples(50)
@given(
    st.fractions(0, 100, max_denominator=100),
    st.fractions(0, 100, max_denominator=100),
    st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any),
    st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any),
    st.sampled_from(HashKind),
)
def test_shares_add_up(low: Fraction, high: Fraction, old: list[int], new: list[int], kind: HashKind) -> None:
    """What leaves a group and what joins it is exactly the difference of its sizes."""
    before, after = (
        make_snapshot(
            percentage, experiment=make_experiment({f"g{n}": w for n, w in enumerate(weights)}, kind=kind)
        )
        for percentage, weights in ((low, old), (high, new))
    )
    moves = only_route(before, after).moves
    assert all(move.share > 0 for move in moves)
    for name in (None, *(f"g{number}" for number in range(5))):
        gained = sum(move.share for move in moves if move.new.group == name)
        lost = sum(move.share for move in moves if move.old.group == name)
        assert gained - lost == size(after, name) - size(before, name)


def size(snapshot: Snapshot, name: str | None) -> Fraction:
    """The exact share of all users that a group (None: nobody's) has."""
    enrolled = Fraction(snapshot.enrolment.share, 2**64)
    experiment = snapshot.routes[0].experiment
    assert experiment is not None
    if name is None:
        return 1 - enrolled
    return enrolled * sum(
        Fraction(group.end - group.start, experiment.total)
        for group in experiment.groups
        if group.name == name
    )


def test_requests_are_followed_to_the_route_that_serves_them() -> None:
    """A new route takes requests from the one that served them before, with its experiment."""
    general = make_route("default")
    special = make_route("generate", "/generate", methods=("POST",), experiment=EVEN)
    difference = compare(make_snapshot(50, routes=[general]), make_snapshot(50, routes=[special, general]))
    generate, default = difference.routes
    assert (str(generate.request), generate.old, generate.new) == ("POST /generate", "default", "generate")
    assert close(generate.arm_share, "0.25")
    assert "served by the route generate instead of default" in generate.causes
    assert "experiment exp begins" in generate.causes
    assert (default.old, default.new, default.moves) == ("default", "default", ())


def test_a_route_without_a_counterpart_is_not_compared() -> None:
    """Where nothing served such requests before, nobody moved: it is said instead."""
    old, new = make_snapshot(routes=[make_route("a", "/a")]), make_snapshot(routes=[make_route("b", "/b")])
    added, removed = compare(old, new).routes
    assert (added.old, added.new, added.comparable) == (None, "b", False)
    assert (removed.old, removed.new, removed.comparable) == ("a", None, False)


def test_listed_users_are_named() -> None:
    """Who is put on a list, or taken off one, is told by name and left out of the shares."""
    before = Overrides(token=None, treatment=("qa-1",), control=("ceo",))
    after = Overrides(token=None, treatment=("qa-1", "qa-2"), control=())
    difference = only_route(make_snapshot(0, overrides=before), make_snapshot(0, overrides=after))
    assert [(move.user, move.old, move.new) for move in difference.listed] == [
        ("qa-2", Arm.CONTROL, Arm.TREATMENT)
    ]
    assert difference.moves == ()


def test_another_upstream_is_a_cause_without_a_move() -> None:
    """The arm stays, but its users are answered by another pipeline: that is said."""
    old = make_snapshot(50)
    renamed = (old.upstreams[0], replace(old.upstreams[1], name="dspy-2"))
    difference = only_route(old, replace(old, upstreams=renamed))
    assert difference.moves == ()
    assert difference.causes == ("treatment is served by dspy-2 instead of dspy",)


def test_a_swapped_order_is_a_cause() -> None:
    """The same weights in another order move users, so the order is named."""
    swapped = make_experiment({"treatment": 50, "control": 50})
    difference = only_route(make_snapshot(100, experiment=EVEN), make_snapshot(100, experiment=swapped))
    assert difference.arm_share == 1
    assert difference.causes == ("groups of exp are in another order",)


def test_what_no_range_can_tell_is_remarked() -> None:
    """Changes of identity and of anonymous requests stand beside the shares, and both phases do."""
    old = make_snapshot()
    new = replace(
        old,
        phase="full_production",
        identity=replace(old.identity, sources=(), anonymous=Anonymous.RANDOM),
    )
    difference = compare(old, new)
    assert (difference.old_phase, difference.new_phase) == ("canary", "full_production")
    assert ["identity.sources" in difference.remarks[0], "random" in difference.remarks[1]] == [True, True]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), ("0.045", "4.5 %"), ("1/3", "33.3333 %"), ("1e-9", "<0.0001 %")],
)
def test_shares_are_written_for_people(share: str | int, text: str) -> None:
    """Percent with at most four decimals, and never none for somebody."""
    assert format_share(Fraction(share)) == text
