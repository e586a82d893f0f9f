"""Where an outcome belongs: the group or arm of its user at the time that it is about.

The assignment is computed from what was in force then. An outcome that belongs nowhere is refused with a
reason that helps its sender. Nothing is added or stored here.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from gateway.control.experiments.participants import Participants
from gateway.control.experiments.timeline import Timeline
from gateway.core.assignment import RouteScene, Scene, place
from gateway.core.results.participants import REQUEST_METRICS
from gateway.core.split import Reason
from gateway.model.lifecycle import Experiments, Status
from gateway.model.metrics import Metric
from gateway.model.scores import bounds_of

TOLERANCE = 60.0
"""Seconds that the sender's clock may be ahead of ours."""
_SCORES: frozenset[str] = frozenset((Metric.ACCURACY, Metric.USER_SATISFACTION, Metric.COST_PER_REQUEST))
"""The metrics that people may report of anything."""


class Cause(enum.StrEnum):
    """Why an outcome was refused, as the API names it."""

    UNKNOWN_EXPERIMENT = "unknown_experiment"
    NOT_RUNNING = "not_running"
    NO_PARTICIPANT = "no_participant"
    NOT_ENROLLED = "not_enrolled"
    OVERRIDE = "override"
    LATCHED = "latched"
    TIME = "time"
    UNKNOWN_METRIC = "unknown_metric"
    VALUE = "value"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A value of a metric that somebody reports for a user. `at` is Unix seconds, None for now.

    Without an `experiment` it is an outcome of the rollout; `route` says of which route, where they
    differ.
    """

    id: str
    user: str
    metric: str
    value: float
    experiment: str | None = None
    route: str | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class InGroup:
    """An outcome of an experiment: for the user with this hash, in this group."""

    experiment: str
    group: str
    user: int


@dataclass(frozen=True, slots=True)
class InArm:
    """An outcome of the rollout: for an arm of a route, by the user with this hash.

    `drawn_by` as `Timeline.drawn_by` has it.
    """

    route: str
    arm: str
    user: int
    drawn_by: int | None


@dataclass(frozen=True, slots=True)
class Unbound:
    """An outcome that belongs nowhere, and why. `soon`: it may once more records have come in."""

    cause: Cause
    reason: str
    soon: bool = False


class Binder:
    """See the module."""

    def __init__(
        self,
        timeline: Timeline,
        participants: Participants,
        experiments: Callable[[], Experiments],
        metrics: Callable[[], Collection[str]],
        now: Callable[[], float],
    ) -> None:
        """`metrics` are those that the workers look at now."""
        self._timeline = timeline
        self._participants = participants
        self._experiments = experiments
        self._metrics = metrics
        self._now = now

    def bind(self, outcome: Outcome) -> InGroup | InArm | Unbound:
        """Where an outcome belongs."""
        now = self._now()
        at = now if outcome.at is None else outcome.at
        if at > now + TOLERANCE:
            return Unbound(Cause.TIME, "at lies in the future")
        scene = self._timeline.at(min(at, now))
        if scene is None:
            return Unbound(Cause.TIME, "at lies before anything that this gateway knows")
        if scene.latched:
            return Unbound(Cause.LATCHED, "the latch was engaged then: nobody took part")
        if outcome.experiment is None:
            return self._in_arm(outcome, scene, self._timeline.drawn_by(min(at, now)))
        return self._in_group(outcome, outcome.experiment, scene)

    def _in_group(self, outcome: Outcome, name: str, scene: Scene) -> InGroup | Unbound:
        experiment = self._experiments().find(name)
        if experiment is None:
            return Unbound(Cause.UNKNOWN_EXPERIMENT, f"there is no experiment {name}")
        if experiment.status is Status.CONCLUDED:
            return Unbound(Cause.NOT_RUNNING, f"{name} is concluded: its results stand")
        wrong = _check_value(
            outcome, {metric.name for metric in experiment.definition.success_metrics} | _SCORES
        )
        if wrong is not None:
            return wrong
        route = scene.route_of(name)
        if route is None or route.dealing is None or not route.dealing.counted:
            return Unbound(Cause.NOT_RUNNING, f"{name} was not running then")
        if outcome.route is not None:
            there = scene.dealing(outcome.route)
            if there is None or there.experiment != name:
                return Unbound(Cause.ROUTE, f"{name} was not on a route {outcome.route} then")
        if experiment.epochs and route.dealing.epoch < experiment.epochs[0].number:
            return Unbound(Cause.NOT_RUNNING, f"{name} was concluded since then, and began anew")
        placement = place(scene, route, outcome.user)
        if placement.group is None:
            return _outside(placement.reason)
        user = xxh3_64_intdigest(outcome.user.encode())
        if not self._participants.is_participant(name, user, placement.group):
            reason = f"no request of this user has been counted in {name}; report it after the answer"
            return Unbound(Cause.NO_PARTICIPANT, reason, soon=True)
        return InGroup(name, placement.group, user)

    def _in_arm(self, outcome: Outcome, scene: Scene, drawn_by: int | None) -> InArm | Unbound:
        wrong = _check_value(outcome, {*self._metrics(), *_SCORES})
        if wrong is not None:
            return wrong
        if outcome.route is not None:
            routes = [route for route in scene.routes if route.route == outcome.route]
            if not routes:
                return Unbound(Cause.ROUTE, f"there was no route {outcome.route} then")
        else:
            routes = [*scene.routes]
        return _common(scene, routes, outcome.user, drawn_by)


def _common(scene: Scene, routes: list[RouteScene], user: str, drawn_by: int | None) -> InArm | Unbound:
    """The arm that the user was in on all of these routes."""
    placements = [place(scene, route, user) for route in routes]
    if placements[0].reason is Reason.OVERRIDE:
        return _outside(Reason.OVERRIDE)
    arms = {placement.arm for placement in placements}
    if len(arms) > 1:
        return Unbound(Cause.ROUTE, "the user was in different arms on different routes: say which route")
    return InArm(routes[0].route, placements[0].arm.label, xxh3_64_intdigest(user.encode()), drawn_by)


def _outside(reason: Reason) -> Unbound:
    if reason is Reason.OVERRIDE:
        return Unbound(Cause.OVERRIDE, "the user is on an override list, and so in no comparison")
    return Unbound(Cause.NOT_ENROLLED, "the user was not enrolled then, and so in no group")


def _check_value(outcome: Outcome, known: Collection[str]) -> Unbound | None:
    reported = sorted(set(known).difference(REQUEST_METRICS))
    if outcome.metric not in reported:
        measured = (
            " is measured by the gateway itself" if outcome.metric in REQUEST_METRICS else " is unknown"
        )
        expected = f"{outcome.metric}{measured}; expected one of {', '.join(reported)}"
        return Unbound(Cause.UNKNOWN_METRIC, expected)
    least, greatest = bounds_of(outcome.metric)
    if not math.isfinite(outcome.value) or not least <= outcome.value <= greatest:
        return Unbound(Cause.VALUE, f"{outcome.metric} is a number from {least:g} to {greatest:g}")
    return None
