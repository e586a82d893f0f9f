"""How many users a new snapshot would move: exact shares, computed from the ranges.

A user is a point with two coordinates, one per hash. Each snapshot divides both axes into slices, so the
share of users that move from one place to another is a sum of rectangles, in rational numbers. If the
old and the new snapshot use the same hash, their slices overlap; if a salt, a seed or an id differs, the
two hashes are independent, and so are the slices.

It compares two snapshots and knows nothing of the files, phases or state behind them. Users are known by
their hash; only those that the config lists by name are treated separately.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from gateway.core.shares import format_share
from gateway.core.split import RouteTable, Table, arm_of, enrolment_salt, experiment_salt
from gateway.model.snapshot import FULL_SHARE, Arm, Enrolment, Experiment, HashKind, Route, Snapshot


@dataclass(frozen=True, slots=True)
class Place:
    """Where a user stands on a route; `group` is None for who is in no experiment."""

    arm: Arm
    enrolled: bool
    experiment: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The share of users, from 0 to 1, that goes from one place to another."""

    share: Fraction
    old: Place
    new: Place

    @property
    def changes_arm(self) -> bool:
        """True if other pipelines answer these users than before."""
        return self.old.arm is not self.new.arm

    @property
    def changes_group(self) -> bool:
        """True if they go from one group to another, rather than into a group or out of one."""
        return (
            self.old.group is not None
            and self.new.group is not None
            and (self.old.experiment, self.old.group) != (self.new.experiment, self.new.group)
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A request that stands for all that a route was written for."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, route: Route) -> Request:
        """One that meets the route's conditions."""
        return cls(route.methods[0] if route.methods else "GET", route.path_prefix, route.headers)

    def served_by(self, table: Table) -> RouteTable | None:
        """The route that serves it, None if none does."""
        headers = {name.encode(): value.encode() for name, value in self.headers}
        return table.match(self.method.encode(), self.path.encode(), headers)

    def __str__(self) -> str:
        return " ".join((self.method, self.path, *(f"{name}:{value}" for name, value in self.headers)))


@dataclass(frozen=True, slots=True)
class ListedMove:
    """A user whom an override list names, before or after, and who changes arm."""

    user: str
    old: Arm
    new: Arm


@dataclass(frozen=True, slots=True)
class RouteDifference:
    """What changes for the users of one route. `old` or `new` is None where no route served or serves.

    `moves` hold every change of place, the largest first; who stays is in none of them. `listed` are
    the users among the overrides who change arm. `causes` say what was changed in the config.
    """

    request: Request
    old: str | None
    new: str | None
    moves: tuple[Move, ...] = ()
    listed: tuple[ListedMove, ...] = ()
    causes: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """True if a route serves such requests both before and after."""
        return self.old is not None and self.new is not None

    @property
    def arm_share(self) -> Fraction:
        """The share of users that change arm."""
        return sum((move.share for move in self.moves if move.changes_arm), Fraction(0))

    @property
    def group_share(self) -> Fraction:
        """The share of users that change from one group to another."""
        return sum((move.share for move in self.moves if move.changes_group), Fraction(0))


@dataclass(frozen=True, slots=True)
class _Cut:
    """An axis cut into slices. Cuts of the same `key` are cuts of the same hash."""

    key: tuple[str, ...]
    total: int
    slices: tuple[tuple[int, int], ...]

    def shares(self, other: _Cut) -> Iterator[tuple[int, int, Fraction]]:
        """For each slice of this cut and of the other one: the share of users that are in both."""
        for (i, mine), (j, theirs) in product(enumerate(self.slices), enumerate(other.slices)):
            if self.key != other.key:
                size = (mine[1] - mine[0]) * (theirs[1] - theirs[0])
                yield i, j, Fraction(size, self.total * other.total)
            elif self.total == other.total:
                yield i, j, Fraction(_overlap(mine, theirs), self.total)
            else:
                pairs = _congruent_pairs(mine, theirs, math.gcd(self.total, other.total))
                yield i, j, Fraction(pairs, math.lcm(self.total, other.total))


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def _congruent_pairs(one: tuple[int, int], other: tuple[int, int], modulus: int) -> int:
    """How many pairs (i, j) of the two slices have i = j modulo `modulus`.

    The same number taken modulo two totals: by the Chinese remainder theorem each pair of remainders
    that agrees modulo their greatest common divisor is equally likely, and no other occurs.
    """
    (rounds, rest), (other_rounds, other_rest) = (divmod(end - start, modulus) for start, end in (one, other))
    arc = (one[0] % modulus, one[0] % modulus + rest)
    other_start = other[0] % modulus
    both = sum(
        _overlap(arc, (other_start + turn, other_start + other_rest + turn))
        for turn in (-modulus, 0, modulus)
    )
    return rounds * other_rounds * modulus + rounds * other_rest + other_rounds * rest + both


@dataclass(frozen=True, slots=True)
class _Plane:
    """Both axes of a route, and the place of each rectangle."""

    enrolment: _Cut
    groups: _Cut
    places: tuple[Place, ...]

    @classmethod
    def of(cls, enrolment: Enrolment, route: Route) -> _Plane:
        share = enrolment.share
        enrolled = _Cut((enrolment_salt(enrolment),), FULL_SHARE, ((0, share), (share, FULL_SHARE)))
        experiment = route.experiment
        if experiment is None:
            everybody = Place(arm_of(route, route.treatment), enrolled=True)
            return cls(enrolled, _Cut((), 1, ((0, 1),)), (everybody,))
        slices = tuple((group.start, group.end) for group in experiment.groups)
        places = tuple(
            Place(group.arm, enrolled=True, experiment=experiment.id, group=group.name)
            for group in experiment.groups
        )
        return cls(enrolled, _Cut(_axis(experiment), experiment.total, slices), places)

    def place(self, enrolment_slice: int, group_slice: int) -> Place:
        return NOT_ENROLLED if enrolment_slice else self.places[group_slice]


NOT_ENROLLED = Place(Arm.CONTROL, enrolled=False)


def _axis(experiment: Experiment) -> tuple[str, ...]:
    """What an experiment's hash depends on."""
    if experiment.hash is HashKind.SHA256:
        return (experiment.hash, experiment.seed)
    return (experiment.hash, experiment_salt(experiment))


@dataclass(frozen=True, slots=True)
class Difference:
    """What changes between two snapshots, route by route. `remarks` concern all of them."""

    old_phase: str
    new_phase: str
    routes: tuple[RouteDifference, ...]
    remarks: tuple[str, ...]


def compare(old: Snapshot, new: Snapshot) -> Difference:
    """Who would change place if `new` took over from `old`, with every upstream healthy."""
    before, after = Table(old), Table(new)
    requests = dict.fromkeys(Request.of(route) for route in (*new.routes, *old.routes))
    routes = tuple(_compare_route(request, before, after) for request in requests)
    return Difference(old.phase, new.phase, routes, tuple(_remarks(old, new)))


def _compare_route(request: Request, before: Table, after: Table) -> RouteDifference:
    old, new = request.served_by(before), request.served_by(after)
    if old is None or new is None:
        return RouteDifference(
            request, old=old.route.name if old else None, new=new.route.name if new else None
        )
    return RouteDifference(
        request,
        old.route.name,
        new.route.name,
        _moves(
            _Plane.of(before.snapshot.enrolment, old.route), _Plane.of(after.snapshot.enrolment, new.route)
        ),
        tuple(_listed_moves(before, old, after, new)),
        tuple(_causes(before.snapshot, old.route, after.snapshot, new.route)),
    )


def _moves(before: _Plane, after: _Plane) -> tuple[Move, ...]:
    shares: defaultdict[tuple[Place, Place], Fraction] = defaultdict(Fraction)
    groups = tuple(before.groups.shares(after.groups))
    for i, j, height in before.enrolment.shares(after.enrolment):
        for k, m, width in groups:
            shares[before.place(i, k), after.place(j, m)] += height * width
    changes = (Move(share, *places) for places, share in shares.items() if share and places[0] != places[1])
    return tuple(sorted(changes, key=lambda move: -move.share))


def _listed_moves(before: Table, old: RouteTable, after: Table, new: RouteTable) -> Iterator[ListedMove]:
    lists = (before.snapshot.overrides, after.snapshot.overrides)
    for user in sorted({user for listed in lists for user in (*listed.treatment, *listed.control)}):
        arms = [
            table.decide(route, False, [True] * len(table.snapshot.upstreams), user.encode(), None, b"").arm
            for table, route in ((before, old), (after, new))
        ]
        if arms[0] is not arms[1]:
            yield ListedMove(user, *arms)


def _causes(before: Snapshot, old: Route, after: Snapshot, new: Route) -> Iterator[str]:
    if old.name != new.name:
        yield f"served by the route {new.name} instead of {old.name}"
    if before.enrolment.salt != after.enrolment.salt:
        yield "rollout_salt changed: old and new enrolment are independent of each other"
    if before.enrolment.share != after.enrolment.share:
        shares = (Fraction(snapshot.enrolment.share, FULL_SHARE) for snapshot in (before, after))
        yield "enrolled: " + " → ".join(map(format_share, shares))
    for arm, old_index, new_index in (
        (Arm.CONTROL, old.control, new.control),
        (Arm.TREATMENT, old.treatment, new.treatment),
    ):
        old_name, new_name = before.upstreams[old_index].name, after.upstreams[new_index].name
        if old_name != new_name:
            yield f"{arm.label} is served by {new_name} instead of {old_name}"
    yield from _experiment_causes(old.experiment, new.experiment)


def _experiment_causes(old: Experiment | None, new: Experiment | None) -> Iterator[str]:
    if old is None or new is None:
        if new is not None:
            yield f"experiment {new.id} begins"
        if old is not None:
            yield f"experiment {old.id} ends"
        return
    if old.id != new.id:
        yield f"experiment {new.id} instead of {old.id}"
    if old.hash is not new.hash:
        yield f"hash of {new.id}: {old.hash} → {new.hash}"
    if old.seed != new.seed:
        yield f"seed of {new.id} changed"
    if _axis(old) != _axis(new):
        yield "old and new groups are independent of each other: users are dealt anew"
    yield from _group_causes(old, new)


def _group_causes(old: Experiment, new: Experiment) -> Iterator[str]:
    sizes, new_sizes = _group_sizes(old), _group_sizes(new)
    arms = {group.name: group.arm for group in old.groups}
    for name in dict.fromkeys((*sizes, *new_sizes)):
        size, new_size = sizes.get(name, Fraction(0)), new_sizes.get(name, Fraction(0))
        if size != new_size:
            yield f"group {name}: {format_share(size)} → {format_share(new_size)}"
    for group in new.groups:
        if arms.get(group.name, group.arm) is not group.arm:
            yield f"group {group.name}: {arms[group.name].label} → {group.arm.label}"
    kept = [name for name in sizes if name in new_sizes]
    if kept != [name for name in new_sizes if name in sizes]:
        yield f"groups of {new.id} are in another order"


def _group_sizes(experiment: Experiment) -> dict[str, Fraction]:
    return {group.name: Fraction(group.end - group.start, experiment.total) for group in experiment.groups}


def _remarks(old: Snapshot, new: Snapshot) -> Iterator[str]:
    if old.identity.sources != new.identity.sources:
        yield "identity.sources changed: users may come with another id, which no range can tell"
    if old.identity.anonymous is not new.identity.anonymous:
        yield f"requests without a user id: {old.identity.anonymous} → {new.identity.anonymous}"
