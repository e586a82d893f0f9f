"""A snapshot prepared for serving: every decision with its pool, its header bytes and its counters.

Built once per snapshot, so that a request only picks one. Pools of unchanged upstreams are
taken over from the previous plan; whoever replaces the plan drains the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping

from xxhash import xxh3_64_intdigest

from gateway.core.split import Decision, Reason, Table
from gateway.marks import CELLS
from gateway.model.snapshot import Arm, FailoverCause, Snapshot, Upstream, configuration_header
from gateway.proxy.identity import compile_identity, noted_fields
from gateway.proxy.recorder import Recorder
from gateway.proxy.upstream import UpstreamPool
from gateway.wire.request import RequestReader

_TREATMENT_MARK = 0xA5A5A
"""Sets the marks of treatment's users apart from those of control's: who changes arms is new to the other
one, and a phase or a trial that has just begun need not wait until its users' marks have expired."""


class Assignment:
    """One decision, ready to be carried out.

    `request_fields` and `response_fields` are header lines for the upstream and for the client, each
    with its CRLF. `stand_in` is control in treatment's place, after a failed connect. `series` is where
    the comparison counts it, None where it stays out; `first_series` where it counts a user's first request
    in a while, the same where these are not marked; `mark` is the kind of request that a user is marked for.
    `recorded` says that an experiment wants each request.
    """

    __slots__ = (
        "cell",
        "decision",
        "failover_reason",
        "first_byte_timeout",
        "first_series",
        "idle_timeout",
        "latched",
        "mark",
        "pool",
        "recorded",
        "request_fields",
        "response_fields",
        "series",
        "stand_in",
        "total_timeout",
        "treatment",
    )

    def __init__(
        self, decision: Decision, pool: UpstreamPool, recorder: Recorder, snapshot: Snapshot
    ) -> None:
        self.decision = decision
        self.pool = pool
        self.cell = recorder.cell(decision.route.name, decision.assigned)
        self.series = recorder.ticks.series(decision, snapshot.version)
        self.first_series = self.series
        self.mark = _kind(decision)
        if snapshot.marks_users:
            self.first_series = recorder.ticks.series(decision, snapshot.version, first=True)
        experiment = decision.route.experiment
        self.recorded = (
            decision.analysed
            and decision.experiment is not None
            and experiment is not None
            and experiment.counted
        )
        self.treatment = decision.arm is Arm.TREATMENT
        self.request_fields = _request_fields(decision, snapshot)
        self.response_fields = b""
        if snapshot.response_headers.arm:
            self.response_fields = b"X-Gateway-Arm: %b\r\n" % decision.arm.label.encode()
        self.failover_reason: str | None = None
        if decision.reason is Reason.NO_HEALTHY_ENDPOINT:
            self.failover_reason = FailoverCause.NO_HEALTHY_ENDPOINT.value
        timeouts = pool.upstream.timeouts
        self.first_byte_timeout = math.inf if timeouts.first_byte is None else timeouts.first_byte
        self.idle_timeout = math.inf if timeouts.idle is None else timeouts.idle
        self.total_timeout = math.inf if timeouts.total is None else timeouts.total
        self.stand_in: Assignment | None = None
        self.latched: Assignment = self

    def __repr__(self) -> str:
        return f"<Assignment {self.decision.reason} {self.decision.arm.label} to {self.pool.upstream.name}>"


class Plan:
    """What a worker serves by. `available` is shared with the pools, which keep it true."""

    def __init__(
        self,
        snapshot: Snapshot,
        recorder: Recorder,
        pools: Mapping[Upstream, UpstreamPool],
        make_pool: Callable[[Upstream], UpstreamPool],
    ) -> None:
        self.snapshot = snapshot
        self.table = Table(snapshot)
        self.pools = {upstream: pools.get(upstream) or make_pool(upstream) for upstream in snapshot.upstreams}
        self.treatment_pools = [
            self.pools[snapshot.upstreams[index]] for index in _treatment_upstreams(self.table.decisions)
        ]
        self.available = [True] * len(snapshot.upstreams)
        recorder.follow(snapshot)
        self.assignments = [self._assignment(decision, recorder) for decision in self.table.decisions]
        self._link_assignments()
        self.no_route = recorder.cell("", Arm.CONTROL)
        self.user_of = compile_identity(snapshot.identity)
        noted = noted_fields(snapshot.identity) | {
            name.encode() for route in snapshot.routes for name, _ in route.headers
        }
        self.reader = RequestReader(noted, snapshot.limits.headers)
        token = snapshot.overrides.token
        self.override_token = None if token is None else token.encode()
        self._tells_request_id = snapshot.response_headers.request_id
        self._tells_timing = snapshot.response_headers.server_timing
        self.fails_over_connect = FailoverCause.CONNECT_ERROR in snapshot.failover
        for index, pool in enumerate(self.pools[upstream] for upstream in snapshot.upstreams):
            pool.on_availability = self._tracker(index, pool)
            pool.on_availability()

    def __repr__(self) -> str:
        return f"<Plan of snapshot {self.snapshot.version}>"

    def own_fields(
        self,
        assignment: Assignment,
        request_id: bytes,
        upstream_request_id: bytes | None,
        failover: str | None,
        overhead: float,
        upstream_took: float,
    ) -> bytes:
        """The gateway's own header lines of an answer, each with its CRLF. Times in seconds.

        The upstream's own request id is passed on where ours is not told. `failover` is why control answers
        in treatment's place, if it does.
        """
        fields = assignment.response_fields
        if self._tells_request_id:
            fields += b"X-Request-Id: %b\r\n" % request_id
        elif upstream_request_id is not None:
            fields += b"X-Request-Id: %b\r\n" % upstream_request_id
        if failover is not None and self.snapshot.response_headers.failover:
            fields += b"X-Gateway-Failover: %b\r\n" % failover.encode()
        if self._tells_timing:
            fields += b"Server-Timing: gateway;dur=%.2f, upstream;dur=%.2f\r\n" % (
                overhead * 1e3,
                upstream_took * 1e3,
            )
        return fields

    def _assignment(self, decision: Decision, recorder: Recorder) -> Assignment:
        pool = self.pools[self.snapshot.upstreams[decision.upstream]]
        return Assignment(decision, pool, recorder, self.snapshot)

    def _link_assignments(self) -> None:
        latched = {route.route.name: self.assignments[route.latched.index] for route in self.table.routes}
        for assignment in self.assignments:
            decision = assignment.decision
            assignment.latched = latched[decision.route.name]
            if decision.fallback is not None:
                assignment.stand_in = self.assignments[decision.fallback.index]

    def _tracker(self, index: int, pool: UpstreamPool) -> Callable[[], None]:
        fails_over = FailoverCause.NO_HEALTHY_ENDPOINT in self.snapshot.failover

        def track() -> None:
            self.available[index] = pool.available or not fails_over

        return track


def _kind(decision: Decision) -> int:
    """What a user's first request is marked for: an arm of a route, under each snapshot the same.

    One mark for all routes would be spent on what users ask first, and what they ask next never judged.
    """
    route = xxh3_64_intdigest(decision.route.name.encode()) % CELLS
    return route ^ _TREATMENT_MARK if decision.assigned is Arm.TREATMENT else route


def _treatment_upstreams(decisions: Iterable[Decision]) -> list[int]:
    """The upstreams that serve treatment on any route: the only ones whose breaker routes."""
    return sorted({decision.upstream for decision in decisions if decision.arm is Arm.TREATMENT})


def _configuration_fields(decision: Decision) -> list[tuple[str, str]]:
    """What a group's requests carry: a field for each key of its configuration.

    Letters of the key that no field name may hold become hyphens; a value that no field may hold as it is
    goes as JSON text.
    """
    experiment = decision.route.experiment
    if experiment is None or decision.group is None:
        return []
    (group,) = (group for group in experiment.groups if group.name == decision.group)
    return [
        (
            header,
            value if value.isascii() and value.isprintable() else json.dumps(value),
        )
        for key, value in group.configuration
        if (header := configuration_header(key))
    ]


def _request_fields(decision: Decision, snapshot: Snapshot) -> bytes:
    fields = [("X-Gateway-Arm", decision.arm.label), ("X-Gateway-Phase", snapshot.phase)]
    if decision.experiment is not None and decision.group is not None:
        fields += [("X-Gateway-Experiment", decision.experiment), ("X-Gateway-Group", decision.group)]
    if decision.arm is decision.assigned:  # control in a group's place is not configured like the group
        fields += _configuration_fields(decision)
    if snapshot.feature_flags:
        fields.append(("X-Gateway-Feature-Flags", ",".join(snapshot.feature_flags)))
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in fields)
