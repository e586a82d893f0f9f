"""What was in force when, and by which snapshots users were drawn as they were then."""

from __future__ import annotations

from dataclasses import replace

from gateway.control.experiments.timeline import Timeline
from gateway.core.assignment import RouteScene, Scene

SCENE = Scene(
    since=100.0,
    version=1,
    latched=False,
    salt="salt",
    share=2**60,
    treatment=(),
    control=(),
    routes=(RouteScene("default", True, None),),
)


def timeline(*scenes: Scene) -> Timeline:
    """A timeline that noted these one after the other."""
    made = Timeline()
    for scene in scenes:
        made.note(scene)
    return made


def test_users_of_the_scene_in_force_are_drawn_by_the_newest_snapshot() -> None:
    """Whichever that is: many are published that draw nobody in another way."""
    made = timeline(SCENE, replace(SCENE, since=200.0, version=5))
    assert len(made) == 1
    assert made.drawn_by(300.0) is None
    assert made.drawn_by(100.0) is None


def test_users_of_a_scene_that_ended_were_drawn_by_the_snapshots_before_the_next() -> None:
    """Up to the last before the share changed."""
    made = timeline(SCENE, replace(SCENE, since=200.0, version=7, share=2**63))
    assert (made.drawn_by(150.0), made.drawn_by(200.0)) == (6, None)


def test_a_restart_that_changes_nothing_draws_nobody_anew() -> None:
    """Versions start again with the gateway; who drew alike before goes on under the newest."""
    before = timeline(SCENE, replace(SCENE, since=200.0, version=7, share=2**63))
    made = Timeline(before.unwritten().items())
    made.note(replace(SCENE, since=300.0, version=1, share=2**63))
    assert len(made) == 3
    assert (made.drawn_by(150.0), made.drawn_by(250.0), made.drawn_by(300.0)) == (0, None, None)
