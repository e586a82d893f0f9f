"""Snapshots for tests: small, valid, and different only where the test says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from gateway.core.shares import share_of, slices, whole_total
from gateway.model.snapshot import (
    FULL_SHARE,
    Anonymous,
    Arm,
    ClientLimits,
    ConnectionLimits,
    Enrolment,
    Experiment,
    Group,
    HalfClose,
    HashKind,
    Identity,
    IdentitySource,
    Overrides,
    ResponseHeaders,
    Route,
    Snapshot,
    SourceKind,
    Timeouts,
    Upstream,
)

TRADITIONAL, DSPY = 0, 1
"""The upstreams that `make_snapshot` has unless others are given."""

Number = str | int | Fraction


def make_upstream(name: str, *endpoints: str) -> Upstream:
    """An upstream with generous deadlines and no health check."""
    return Upstream(
        name=name,
        endpoints=endpoints or ("http://127.0.0.1:9001",),
        timeouts=Timeouts(connect=1.0, first_byte=60.0, idle=60.0, total=None),
        limits=ConnectionLimits(connections=1024, pending=1024),
        outlier_detection=None,
        health_check=None,
    )


def make_experiment(
    weights: Mapping[str, Number],
    *,
    experiment_id: str = "exp",
    seed: str = "seed",
    kind: HashKind = HashKind.XXH3,
) -> Experiment:
    """An experiment whose group `control` is served by control and every other one by treatment."""
    shares = [Fraction(weight) for weight in weights.values()]
    total = FULL_SHARE if kind is HashKind.XXH3 else whole_total(shares)
    groups = tuple(
        Group(
            name=name,
            arm=Arm.CONTROL if name == "control" else Arm.TREATMENT,
            upstream=TRADITIONAL if name == "control" else DSPY,
            start=start,
            end=end,
            configuration=(),
        )
        for name, (start, end) in zip(weights, slices(shares, total), strict=True)
    )
    return Experiment(id=experiment_id, seed=seed, hash=kind, total=total, groups=groups)


def make_route(
    name: str = "default",
    path_prefix: str = "/",
    *,
    methods: tuple[str, ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
    experiment: Experiment | None = None,
) -> Route:
    """A route between the two usual upstreams."""
    return Route(
        name=name,
        path_prefix=path_prefix,
        methods=methods,
        headers=headers,
        control=TRADITIONAL,
        treatment=DSPY,
        experiment=experiment,
    )


def make_snapshot(
    percentage: Number = 50,
    *,
    routes: Sequence[Route] = (),
    experiment: Experiment | None = None,
    upstreams: Sequence[Upstream] = (),
    salt: str = "gateway",
    anonymous: Anonymous = Anonymous.CONTROL,
    overrides: Overrides | None = None,
    version: int = 1,
) -> Snapshot:
    """A snapshot of the phase canary; without `routes` one that matches all, with `experiment`."""
    percentage = Fraction(percentage)
    return Snapshot(
        version=version,
        digest="digest",
        phase="canary",
        user_percentage=float(percentage),
        feature_flags=(),
        log_level="warn",
        enrolment=Enrolment(salt=salt, share=share_of(percentage)),
        identity=Identity(
            sources=(IdentitySource(SourceKind.HEADER, "x-user-id"),),
            anonymous=anonymous,
        ),
        overrides=overrides or Overrides(token=None, treatment=(), control=()),
        upstreams=tuple(upstreams) or (make_upstream("traditional"), make_upstream("dspy")),
        routes=tuple(routes) or (make_route(experiment=experiment),),
        failover=(),
        response_headers=ResponseHeaders(arm=True, request_id=True, failover=True, server_timing=True),
        limits=ClientLimits(
            connections=10_000,
            header_bytes=65_536,
            headers=100,
            body_bytes=None,
            header_timeout=10.0,
            keepalive_timeout=75.0,
            half_close=HalfClose.CANCEL,
        ),
        access_log_sample=0.0,
        drain_timeout=30.0,
    )
