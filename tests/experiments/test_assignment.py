"""Who was in which group: the split again, over any time that has passed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.experiments.timeline import Timeline
from gateway.core.assignment import Scene, place, scene_of
from gateway.core.compile import Position, compile_snapshot
from gateway.core.split import Reason, Table
from gateway.model.snapshot import HashKind, Overrides, Snapshot
from tests.support.configs import load_text
from tests.support.experiments import experiment_config, halves, users


def compiled(folder: Path, percentage: float = 50, **experiments: dict[str, object]) -> Snapshot:
    """The snapshot of a config with these experiments."""
    loaded = load_text(folder, experiment_config(percentage=percentage, **experiments))
    return compile_snapshot(loaded.config, Position("canary"), digest="", version=1)


@pytest.mark.parametrize("kind", HashKind)
def test_a_scene_places_everybody_as_the_workers_table_does(tmp_path: Path, kind: HashKind) -> None:
    """Arm, group and reason agree for a thousand users: enrolled, not enrolled, and on a list."""
    groups = {"z": {"weight": 1}, "treatment": {"weight": 2}, "a": {"weight": 0}}
    snapshot = compiled(tmp_path, exp=halves(groups=groups, hash=kind.value))
    snapshot = replace(snapshot, overrides=Overrides("secret", ("user-1", "user-2"), ("user-3",)))
    table = Table(snapshot)
    scene = scene_of(snapshot, {"exp": 1}, since=0.0, latched=False)
    route = scene.route_of("exp")
    assert route is not None
    for user in users(1000):
        decided = table.decide(table.routes[0], False, (True, True), user.encode(), None, b"")
        placed = place(scene, route, user)
        assert (placed.arm, placed.group, placed.reason) == (decided.arm, decided.group, decided.reason)


def test_nobody_is_placed_under_the_latch(tmp_path: Path) -> None:
    """Everything was control's then."""
    scene = scene_of(compiled(tmp_path, 100, exp=halves()), {}, since=0.0, latched=True)
    placed = place(scene, scene.routes[0], "user-1")
    assert (placed.group, placed.reason) == (None, Reason.LATCH)


def test_the_missions_test_users_are_consistently_assigned(tmp_path: Path) -> None:
    """The same user is in the same group whenever it is asked, and both groups have users."""
    scene = scene_of(compiled(tmp_path, 100, exp=halves()), {}, since=0.0, latched=False)
    route = scene.route_of("exp")
    assert route is not None
    first = {user: place(scene, route, user).group for user in users(200)}
    assert {user: place(scene, route, user).group for user in users(200)} == first
    assert set(first.values()) == {"control", "treatment"}


def scenes(*marks: tuple[float, int, int]) -> list[Scene]:
    """Scenes by since, version and share."""
    return [Scene(since, version, False, "salt", share, (), (), ()) for since, version, share in marks]


def test_the_scene_at_a_time_and_of_a_version() -> None:
    """The last one that had begun; none before the first."""
    timeline = Timeline()
    for scene in scenes((10, 1, 5), (20, 2, 6), (30, 4, 7)):
        timeline.note(scene)
    shares = [found and found.share for found in map(timeline.at, (9, 10, 19.9, 20, 1000))]
    assert shares == [None, 5, 5, 6, 7]
    assert [found and found.share for found in map(timeline.of_version, (0, 1, 2, 3, 4, 9))] == [
        None,
        5,
        6,
        6,
        7,
        7,
    ]


def test_versions_begin_anew_with_the_gateway_and_times_go_on() -> None:
    """After a restart of everything version 1 is another snapshot, and the past is still known."""
    timeline = Timeline()
    for scene in scenes((10, 1, 5), (20, 2, 6), (30, 1, 7), (40, 2, 8)):
        timeline.note(scene)
    assert [timeline.of_version(version).share for version in (1, 2)] == [7, 8]  # type: ignore[union-attr]
    assert [timeline.at(time).share for time in (15, 25, 35, 45)] == [5, 6, 7, 8]  # type: ignore[union-attr]


def test_the_same_scene_again_is_not_kept_twice() -> None:
    """What changes nothing about assignment adds nothing; a clock that steps back breaks nothing."""
    timeline = Timeline()
    for scene in scenes((10, 1, 5), (20, 2, 5), (3, 3, 6)):
        timeline.note(scene)
    assert len(timeline) == 2
    assert timeline.at(10.0).share == 6  # type: ignore[union-attr]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5), st.integers(0, 3)), max_size=20),
    st.integers(0, 20),
)
def test_a_timeline_comes_back_from_what_was_written(marks: list[tuple[int, int, int]], cut: int) -> None:
    """Written in any portions, it answers the same as before."""
    timeline = Timeline()
    stored: dict[int, str] = {}
    for number, scene in enumerate(scenes(*marks)):  # type: ignore[arg-type]
        timeline.note(scene)
        if number == cut:
            stored |= timeline.unwritten()
            timeline.written(stored)
    stored |= timeline.unwritten()
    again = Timeline(sorted(stored.items()))
    assert [again.at(time) for time in range(60)] == [timeline.at(time) for time in range(60)]
    assert [again.of_version(n) for n in range(7)] == [timeline.of_version(n) for n in range(7)]


def test_the_enrolments_share_is_exact(tmp_path: Path) -> None:
    """0 is nobody and 100 everybody."""
    for percentage, enrolled in ((0, 0), (100, 300)):
        scene = scene_of(compiled(tmp_path, percentage, exp=halves()), {}, since=0.0, latched=False)
        placed = [place(scene, scene.routes[0], user).group for user in users(300)]
        assert sum(group is not None for group in placed) == enrolled
    assert Fraction(scene.share, 2**64) == 1
