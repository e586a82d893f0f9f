"""Which arm serves a user: the whole decision and nothing else.

`Table.decide` is a function of an immutable snapshot and a request's identity. It reads no clock, no
socket and no environment, and cannot fail: the hot path has no error branch. Every decision that can
ever come out is made once, when the table is built; deciding only picks one.

It does not know why the shares are what they are; see `core.compile` and the rollout.
"""

from __future__ import annotations

import enum
import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xxhash import xxh3_64_intdigest

from gateway.model.snapshot import Anonymous, Arm, Experiment, HashKind, Route, Snapshot


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


def hash_position(salt: str, user: bytes) -> int:
    """The user's position in [0, 2**64): `xxh3_64(salt + "\\0" + user)`."""
    return xxh3_64_intdigest(salt.encode() + b"\0" + user)


def sha256_position(seed: str, user: bytes, total: int) -> int:
    """The user's position in [0, total) by the mission's formula `sha256(user <> seed) rem total`."""
    return int.from_bytes(hashlib.sha256(user + seed.encode()).digest(), "big") % total


def experiment_position(experiment: Experiment, user: bytes) -> int:
    """The user's position in `[0, experiment.total)`."""
    if experiment.hash is HashKind.SHA256:
        return sha256_position(experiment.seed, user, experiment.total)
    return hash_position(f"experiment:{experiment.id}:{experiment.seed}", user)


class _Draw:
    """The sticky part of the decision on one route: enrolment, then the group."""

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
        self,
        snapshot: Snapshot,
        experiment: Experiment | None,
        not_enrolled: Decision,
        groups: Sequence[Decision],
    ) -> None:
        self._share = snapshot.enrolment.share
        self._enrolment_prefix = f"rollout:{snapshot.enrolment.salt}\0".encode()
        self._not_enrolled = not_enrolled
        self._groups = tuple(groups)
        self._experiment = experiment
        self._experiment_prefix = b""
        self._group_ends: tuple[int, ...] = ()
        if experiment is not None:
            self._experiment_prefix = f"experiment:{experiment.id}:{experiment.seed}\0".encode()
            self._group_ends = tuple(group.end for group in experiment.groups)

    def decide(self, user: bytes) -> Decision:
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

    def __init__(self, snapshot: Snapshot, route: Route, decisions: list[Decision]) -> None:
        self.route = route
        self.prefix = route.path_prefix.encode()
        self.methods = frozenset(method.encode() for method in route.methods)
        self.headers = tuple((name.encode(), value.encode("utf-8")) for name, value in route.headers)

        def add(
            reason: Reason,
            arm: Arm,
            upstream: int,
            *,
            group: str | None = None,
            experiment: str | None = None,
            analysed: bool = False,
        ) -> Decision:
            decision = Decision(
                len(decisions), route, reason, arm, arm, upstream, group, experiment, analysed, None
            )
            if upstream != route.control:
                stand_in = replace(
                    decision, reason=Reason.NO_HEALTHY_ENDPOINT, arm=Arm.CONTROL, upstream=route.control
                )
                decisions.append(stand_in)
                decision = replace(decision, index=len(decisions), fallback=stand_in)
            decisions.append(decision)
            return decision

        def draw(analysed: bool, reason: Reason | None = None) -> _Draw:
            outside = add(reason or Reason.NOT_ENROLLED, Arm.CONTROL, route.control, analysed=analysed)
            experiment = route.experiment
            if experiment is None:
                inside = [
                    add(reason or Reason.NO_EXPERIMENT, Arm.TREATMENT, route.treatment, analysed=analysed)
                ]
            else:
                inside = [
                    add(
                        reason or Reason.GROUP,
                        group.arm,
                        group.upstream,
                        group=group.name,
                        experiment=experiment.id,
                        analysed=analysed,
                    )
                    for group in experiment.groups
                ]
            return _Draw(snapshot, experiment, outside, inside)

        self.latched = add(Reason.LATCH, Arm.CONTROL, route.control)
        self.overridden = (
            add(Reason.OVERRIDE, Arm.CONTROL, route.control),
            add(Reason.OVERRIDE, Arm.TREATMENT, route.treatment),
        )
        self.unidentified = add(Reason.NO_IDENTITY, Arm.CONTROL, route.control)
        self.known = draw(analysed=True)
        self.drawn = draw(analysed=False, reason=Reason.NO_IDENTITY)

    def matches(self, method: bytes, path: bytes, headers: Mapping[bytes, bytes]) -> bool:
        """True if the route serves such a request; header names in lower case, values exact."""
        if not path.startswith(self.prefix) or (self.methods and method not in self.methods):
            return False
        return all(headers.get(name) == value for name, value in self.headers)


class Table:
    """A snapshot made ready to decide. Immutable; build a new one for a new snapshot."""

    __slots__ = ("_random", "_users", "decisions", "needs_headers", "routes", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        decisions: list[Decision] = []
        self.routes = tuple(RouteTable(snapshot, route, decisions) for route in snapshot.routes)
        self.decisions = tuple(decisions)
        self.needs_headers = any(route.headers for route in self.routes)
        self._random = snapshot.identity.anonymous is Anonymous.RANDOM
        self._users = {user.encode(): Arm.TREATMENT for user in snapshot.overrides.treatment}
        self._users |= {user.encode(): Arm.CONTROL for user in snapshot.overrides.control}

    def match(self, method: bytes, path: bytes, headers: Mapping[bytes, bytes]) -> RouteTable | None:
        """The first route that matches, or None. `path` is the target's path as it was sent."""
        for route in self.routes:
            if route.matches(method, path, headers):
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
        """Decide for one request (contract section 5).

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
