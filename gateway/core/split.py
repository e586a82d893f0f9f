"""Which arm serves a user: the whole decision and nothing else.

`Table.decide` is a function of an immutable snapshot and a request's identity. It reads no clock, no
socket and no environment, and cannot fail, so the hot path has no error branch. Every possible decision is
made once, when the table is built; deciding only picks one.

It does not know why the shares are what they are; see `core.compile` and `core.rollout`.
"""

from __future__ import annotations

import enum
import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from gateway.model.snapshot import Anonymous, Arm, Enrolment, Experiment, HashKind, Route, Snapshot


class Reason(enum.StrEnum):
    """Why a decision came out as it did, as `explain` and the logs name it."""

    LATCH = "latch"
    NO_HEALTHY_ENDPOINT = "no_healthy_endpoint"
    OVERRIDE = "override"
    NO_IDENTITY = "no_identity"
    NOT_ENROLLED = "not_enrolled"
    GROUP = "group"
    NO_EXPERIMENT = "no_experiment"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who serves a request and why.

    `arm` serves; `assigned` is the arm of the group that takes credit and blame (they differ only
    where control stands in for treatment). `index` numbers the decisions of a table, so that others
    can keep tables beside it. `analysed` is False for what stays out of every comparison.
    """

    index: int
    route: Route
    reason: Reason
    arm: Arm
    assigned: Arm
    upstream: int
    group: str | None
    experiment: str | None
    analysed: bool
    fallback: Decision | None
    """What holds instead when `upstream` has no healthy endpoint; None where there is nothing else."""


def hash_prefix(salt: str) -> bytes:
    """What is hashed in front of a user id: the salt and a NUL that ends it."""
    return salt.encode() + b"\0"


def enrolment_salt(enrolment: Enrolment) -> str:
    """The salt of the hash that enrols."""
    return f"rollout:{enrolment.salt}"


def experiment_salt(experiment: Experiment) -> str:
    """The salt of the hash that picks a group, for `HashKind.XXH3`."""
    return f"experiment:{experiment.id}:{experiment.seed}"


def hash_position(salt: str, user: bytes) -> int:
    """The user's position in [0, 2**64): `xxh3_64(salt + "\0" + user)`."""
    return xxh3_64_intdigest(hash_prefix(salt) + user)


def sha256_position(seed: str, user: bytes, total: int) -> int:
    """The user's position in [0, total) by the mission's formula: `sha256(user <> seed) rem total`."""
    return int.from_bytes(hashlib.sha256(user + seed.encode()).digest(), "big") % total


def enrolment_position(enrolment: Enrolment, user: bytes) -> int:
    """The user's position in [0, 2**64); enrolled while it is under `enrolment.share`."""
    return hash_position(enrolment_salt(enrolment), user)


def experiment_position(experiment: Experiment, user: bytes) -> int:
    """The user's position in `[0, experiment.total)`; the group whose slice holds it has the user."""
    if experiment.hash is HashKind.SHA256:
        return sha256_position(experiment.seed, user, experiment.total)
    return hash_position(experiment_salt(experiment), user)


def arm_of(route: Route, upstream: int) -> Arm:
    """The arm that an upstream serves on a route: whatever control's upstream does not serve is treatment."""
    return Arm.CONTROL if upstream == route.control else Arm.TREATMENT


class _Decisions:
    """Collects a table's decisions and numbers them."""

    def __init__(self) -> None:
        self.made: list[Decision] = []

    def make(
        self,
        route: Route,
        reason: Reason,
        upstream: int,
        *,
        group: str | None = None,
        experiment: str | None = None,
        analysed: bool = False,
    ) -> Decision:
        """A new decision, with control as its fallback unless control's upstream serves anyway."""
        arm = arm_of(route, upstream)
        fallback = None
        if upstream != route.control:
            fallback = Decision(
                index=len(self.made),
                route=route,
                reason=Reason.NO_HEALTHY_ENDPOINT,
                arm=Arm.CONTROL,
                assigned=arm,
                upstream=route.control,
                group=group,
                experiment=experiment,
                analysed=analysed,
                fallback=None,
            )
            self.made.append(fallback)
        decision = Decision(
            index=len(self.made),
            route=route,
            reason=reason,
            arm=arm,
            assigned=arm,
            upstream=upstream,
            group=group,
            experiment=experiment,
            analysed=analysed,
            fallback=fallback,
        )
        self.made.append(decision)
        return decision


class _Draw:
    """The hashed part of the decision on one route: enrolment, then the group."""

    __slots__ = (
        "_enrolment_prefix",
        "_experiment",
        "_experiment_prefix",
        "_group_ends",
        "_groups",
        "_not_enrolled",
        "_share",
    )

    def __init__(
        self, enrolment: Enrolment, route: Route, decisions: _Decisions, reason: Reason | None = None
    ) -> None:
        """A draw that counts in the analysis; with a `reason` it states that one and does not."""
        analysed = reason is None
        self._share = enrolment.share
        self._enrolment_prefix = hash_prefix(enrolment_salt(enrolment))
        self._not_enrolled = decisions.make(
            route, reason or Reason.NOT_ENROLLED, route.control, analysed=analysed
        )
        experiment = route.experiment
        self._experiment = experiment
        self._experiment_prefix = b""
        self._group_ends: tuple[int, ...] = ()
        if experiment is None:
            everybody = decisions.make(
                route, reason or Reason.NO_EXPERIMENT, route.treatment, analysed=analysed
            )
            self._groups: tuple[Decision, ...] = (everybody,)
            return
        self._experiment_prefix = hash_prefix(experiment_salt(experiment))
        self._group_ends = tuple(group.end for group in experiment.groups)
        self._groups = tuple(
            decisions.make(
                route,
                reason or Reason.GROUP,
                group.upstream,
                group=group.name,
                experiment=experiment.id,
                analysed=analysed,
            )
            for group in experiment.groups
        )

    def decide(self, user: bytes) -> Decision:
        """The decision for this id, as if every upstream were healthy."""
        if xxh3_64_intdigest(self._enrolment_prefix + user) >= self._share:
            return self._not_enrolled
        if self._experiment is None:
            return self._groups[0]
        if self._experiment.hash is HashKind.XXH3:
            position = xxh3_64_intdigest(self._experiment_prefix + user)
        else:
            position = experiment_position(self._experiment, user)
        return self._groups[bisect_right(self._group_ends, position)]


class RouteTable:
    """A route's matcher and every decision that it can give."""

    __slots__ = (
        "drawn",
        "headers",
        "known",
        "latched",
        "methods",
        "overridden",
        "prefix",
        "route",
        "unidentified",
    )

    def __init__(self, enrolment: Enrolment, route: Route, decisions: _Decisions) -> None:
        self.route = route
        self.prefix = route.path_prefix.encode()
        self.methods = frozenset(method.encode() for method in route.methods)
        self.headers = tuple((name.encode(), value.encode()) for name, value in route.headers)
        self.latched = decisions.make(route, Reason.LATCH, route.control)
        self.overridden = (
            decisions.make(route, Reason.OVERRIDE, route.control),
            decisions.make(route, Reason.OVERRIDE, route.treatment),
        )
        self.unidentified = decisions.make(route, Reason.NO_IDENTITY, route.control)
        self.known = _Draw(enrolment, route, decisions)
        self.drawn = _Draw(enrolment, route, decisions, Reason.NO_IDENTITY)

    def matches(self, method: bytes, headers: Mapping[bytes, bytes]) -> bool:
        """True if the route serves such a request, under its prefix; header names in lower case."""
        if self.methods and method not in self.methods:
            return False
        return not self.headers or all(headers.get(name) == value for name, value in self.headers)


class Table:
    """A snapshot made ready to decide. Immutable; build a new one for a new snapshot."""

    __slots__ = ("_random", "_users", "decisions", "needs_headers", "routes", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        decisions = _Decisions()
        self.routes = tuple(RouteTable(snapshot.enrolment, route, decisions) for route in snapshot.routes)
        self.decisions = tuple(decisions.made)
        self.needs_headers = any(route.headers for route in self.routes)
        self._random = snapshot.identity.anonymous is Anonymous.RANDOM
        self._users = {user.encode(): Arm.TREATMENT for user in snapshot.overrides.treatment}
        self._users |= {user.encode(): Arm.CONTROL for user in snapshot.overrides.control}

    def match(self, method: bytes, path: bytes, headers: Mapping[bytes, bytes]) -> RouteTable | None:
        """The first route that matches, or None. `path` is the target's path as it was sent."""
        for route in self.routes:
            if path.startswith(route.prefix) and route.matches(method, headers):
                return route
        return None

    def decide(
        self,
        route: RouteTable,
        latched: bool,
        available: Sequence[bool],
        user: bytes | None,
        override: Arm | None,
        draw: bytes,
    ) -> Decision:
        """Decide for one request; the first of latch, override, missing id and hash that applies.

        `available[i]` says whether upstream i has a healthy endpoint. `user` is the id, None without
        one. `override` is the arm of a token that was already checked. `draw` is fresh randomness,
        which stands in for the id where anonymous requests are drawn.
        """
        if latched:
            return route.latched
        if override is None and user is not None:
            override = self._users.get(user)
        if override is not None:
            decision = route.overridden[override]
        elif user is not None:
            decision = route.known.decide(user)
        elif self._random:
            decision = route.drawn.decide(draw)
        else:
            return route.unidentified
        if decision.fallback is not None and not available[decision.upstream]:
            return decision.fallback
        return decision
