"""Who was in which group at a past time: the split, applied again to what was in force then.

Assignments are not stored, because they can be computed. A `Scene` is the part of a snapshot that decides
assignment, small enough to keep all scenes ever. `place` decides by it exactly as the data plane did. The
health of upstreams is left out, because it never moves a user to another group.

It does not know which users came, nor the order of the scenes.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.split import Reason, enrolment_position, experiment_position
from gateway.model.snapshot import Arm, Enrolment, Experiment, Group, HashKind, Route, Snapshot


@dataclass(frozen=True, slots=True)
class Slice:
    """A group: the end of its slice of the experiment's hash space, and its arm."""

    group: str
    end: int
    arm: Arm


@dataclass(frozen=True, slots=True)
class Dealing:
    """An experiment as a route dealt its users: `counted` while requests counted for its results."""

    experiment: str
    epoch: int
    seed: str
    hash: HashKind
    total: int
    slices: tuple[Slice, ...]
    counted: bool


@dataclass(frozen=True, slots=True)
class RouteScene:
    """A route: whether its treatment is another upstream than its control, and its experiment."""

    route: str
    treats: bool
    dealing: Dealing | None


class Silence(enum.Enum):
    """Why nothing is counted for an experiment."""

    LATCHED = enum.auto()
    NOBODY_ENROLLED = enum.auto()
    NOT_RUNNING = enum.auto()


@dataclass(frozen=True, slots=True)
class Scene:
    """What decided about assignment from `since` (Unix seconds) and snapshot `version` on.

    `share` is that of the enrolled, out of 2**64; the two lists are the overrides by user.
    """

    since: float
    version: int
    latched: bool
    salt: str
    share: int
    treatment: tuple[str, ...]
    control: tuple[str, ...]
    routes: tuple[RouteScene, ...]

    def dealing(self, route: str) -> Dealing | None:
        """The experiment of a route."""
        return next((scene.dealing for scene in self.routes if scene.route == route), None)

    def route_of(self, experiment: str) -> RouteScene | None:
        """A route that deals users to this experiment's groups; all that do deal them alike."""
        return next(
            (scene for scene in self.routes if scene.dealing and scene.dealing.experiment == experiment), None
        )

    def silence(self, experiment: str) -> Silence | None:
        """Why nothing is counted for an experiment; None while it is."""
        route = self.route_of(experiment)
        if route is None or route.dealing is None or not route.dealing.counted:
            return Silence.NOT_RUNNING
        if self.latched:
            return Silence.LATCHED
        return None if self.share else Silence.NOBODY_ENROLLED


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a user was put and why; `group` None out of any experiment."""

    arm: Arm
    group: str | None
    reason: Reason


def scene_of(snapshot: Snapshot, epochs: Mapping[str, int], *, since: float, latched: bool) -> Scene:
    """The scene that a snapshot makes; `epochs` has the number of each experiment's newest epoch."""
    return Scene(
        since,
        snapshot.version,
        latched,
        snapshot.enrolment.salt,
        snapshot.enrolment.share,
        snapshot.overrides.treatment,
        snapshot.overrides.control,
        tuple(_route_scene(route, epochs) for route in snapshot.routes),
    )


def _route_scene(route: Route, epochs: Mapping[str, int]) -> RouteScene:
    experiment = route.experiment
    if experiment is None:
        return RouteScene(route.name, route.treatment != route.control, None)
    dealing = Dealing(
        experiment.id,
        epochs.get(experiment.id, 1),
        experiment.seed,
        experiment.hash,
        experiment.total,
        tuple(Slice(group.name, group.end, group.arm) for group in experiment.groups),
        experiment.counted,
    )
    return RouteScene(route.name, route.treatment != route.control, dealing)


def place(scene: Scene, route: RouteScene, user: str) -> Placement:
    """Where a user with this id was put on a route."""
    if scene.latched:
        return Placement(Arm.CONTROL, None, Reason.LATCH)
    treated = Arm.TREATMENT if route.treats else Arm.CONTROL
    if user in scene.control:
        return Placement(Arm.CONTROL, None, Reason.OVERRIDE)
    if user in scene.treatment:
        return Placement(treated, None, Reason.OVERRIDE)
    name = user.encode()
    if enrolment_position(Enrolment(scene.salt, scene.share), name) >= scene.share:
        return Placement(Arm.CONTROL, None, Reason.NOT_ENROLLED)
    dealing = route.dealing
    if dealing is None:
        return Placement(treated, None, Reason.NO_EXPERIMENT)
    position = experiment_position(_hashed(dealing), name)
    found = dealing.slices[bisect_right([part.end for part in dealing.slices], position)]
    return Placement(found.arm, found.group, Reason.GROUP)


def _hashed(dealing: Dealing) -> Experiment:
    """The experiment as far as its hash needs it."""
    no_groups: tuple[Group, ...] = ()
    return Experiment(dealing.experiment, dealing.seed, dealing.hash, dealing.total, no_groups)
