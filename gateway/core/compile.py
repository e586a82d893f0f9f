"""Compiles a config and the rollout's position into the snapshot that workers serve by.

Names become indices, percentages and weights become integers of the hash space, and what is switched
off is left out. Compiling is a pure function: the same config at the same position gives the same
snapshot on every machine.

All names of the config must resolve, which `control.config.loading` guarantees. It does not know how the
rollout came to its position.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from gateway.core.experiment_reload import begin
from gateway.core.experiments import Served, served
from gateway.core.reported import reported_metrics
from gateway.core.shares import share_of, slices, whole_total
from gateway.model import config as written
from gateway.model.config import Config
from gateway.model.fields import Section
from gateway.model.lifecycle import Experiments, GroupDefinition
from gateway.model.phases import Phase
from gateway.model.safety import Unit
from gateway.model.snapshot import (
    FULL_SHARE,
    Arm,
    ClientLimits,
    ConnectionLimits,
    Enrolment,
    Experiment,
    Group,
    HashKind,
    HealthCheck,
    Identity,
    OutlierDetection,
    Overrides,
    ResponseHeaders,
    Route,
    Snapshot,
    Timeouts,
    Upstream,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Position:
    """Where the rollout stands: its phase, and the percentage that it may not pass (None for any)."""

    phase: str
    user_percentage: Fraction | None = None


def initial_position(config: Config) -> Position:
    """Where a rollout without any history stands."""
    return Position(config.deployment.initial_phase)


def enrolled_percentage(phase: Phase, position: Position) -> Fraction:
    """The percentage of users that take part: none where the phase has dspy switched off."""
    if not phase.dspy_enabled:
        return Fraction(0)
    if position.user_percentage is None:
        return phase.user_percentage
    return min(phase.user_percentage, position.user_percentage)


def compile_snapshot(
    config: Config,
    position: Position,
    *,
    digest: str,
    version: int,
    experiments: Experiments | None = None,
) -> Snapshot:
    """The snapshot of a config at a position. Raises KeyError for a phase that the config has not.

    `experiments` have adopted this config; None stands for those that begin with it.
    """
    deployment = config.deployment
    phase = deployment.phases[position.phase]
    percentage = enrolled_percentage(phase, position)
    indices = {name: index for index, name in enumerate(config.upstreams)}
    token = config.overrides.token_file
    running = served(begin(config) if experiments is None else experiments)
    return Snapshot(
        version=version,
        digest=digest,
        phase=position.phase,
        user_percentage=float(percentage),
        feature_flags=phase.feature_flags,
        log_level=phase.monitoring_level.value,
        enrolment=Enrolment(salt=deployment.rollout_salt, share=share_of(percentage)),
        identity=Identity(sources=config.identity.sources, anonymous=config.identity.anonymous),
        overrides=Overrides(
            token=token.secret if token else None,
            treatment=config.overrides.users.treatment,
            control=config.overrides.users.control,
        ),
        upstreams=tuple(_upstream(name, upstream) for name, upstream in config.upstreams.items()),
        routes=tuple(_route(route, indices, running.get(route.name)) for route in config.routes),
        failover=config.failover.when,
        response_headers=_mirror(ResponseHeaders, config.response_headers),
        limits=_mirror(ClientLimits, config.limits),
        access_log_sample=config.access_log.sample,
        drain_timeout=config.drain_timeout,
        tick=deployment.monitoring.interval,
        settle=deployment.rollback.settle,
        metrics=reported_metrics(
            deployment,
            (metric.name for one in running.values() for metric in one.definition.success_metrics),
        ),
        marks_users=deployment.rollback.unit is Unit.USER,
        open_streams=deployment.rollback.open_streams,
    )


def _mirror(kind: type[_T], section: Section) -> _T:
    """A snapshot's value from the config's section that has the same keys."""
    names = (field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]
    return kind(**{name: getattr(section, name) for name in names})


def _upstream(name: str, upstream: written.Upstream) -> Upstream:
    detection, check = upstream.outlier_detection, upstream.health_check
    return Upstream(
        name=name,
        endpoints=upstream.endpoints,
        timeouts=_mirror(Timeouts, upstream.timeouts),
        limits=_mirror(ConnectionLimits, upstream.limits),
        outlier_detection=_mirror(OutlierDetection, detection) if detection else None,
        health_check=_mirror(HealthCheck, check) if check else None,
    )


def _route(route: written.Route, indices: Mapping[str, int], running: Served | None) -> Route:
    return Route(
        name=route.name,
        path_prefix=route.match.path_prefix,
        methods=route.match.methods,
        headers=tuple((name.lower(), value) for name, value in route.match.headers.items()),
        control=indices[route.control],
        treatment=indices[route.treatment],
        experiment=None if running is None else _experiment(running, route, indices),
        stream_errors=route.stream_errors,
    )


def _experiment(running: Served, route: written.Route, indices: Mapping[str, int]) -> Experiment:
    """What a route serves its enrolled users by; once there is a winner, all of them by that group.

    The mission's formula walks the groups by name and counts in weights; ours takes them as written.
    """
    definition = running.definition
    groups = list(definition.groups)
    if definition.hash is HashKind.SHA256:
        groups.sort(key=lambda group: group.name)
    weights = [group.weight for group in groups]
    total = whole_total(weights) if definition.hash is HashKind.SHA256 else FULL_SHARE
    spans = slices(weights, total)
    if running.winner is not None:
        groups = [group for group in groups if group.name == running.winner]
        spans = ((0, total),)
    return Experiment(
        id=definition.id,
        seed=definition.seed,
        hash=definition.hash,
        total=total,
        groups=tuple(_group(group, span, route, indices) for group, span in zip(groups, spans, strict=True)),
        counted=running.counted,
    )


def _group(
    group: GroupDefinition, span: tuple[int, int], route: written.Route, indices: Mapping[str, int]
) -> Group:
    side = route.treatment if group.dspy_enabled else route.control
    upstream = indices[group.upstream or side]
    return Group(
        name=group.name,
        arm=Arm.CONTROL if upstream == indices[route.control] else Arm.TREATMENT,
        upstream=upstream,
        start=span[0],
        end=span[1],
        configuration=tuple(
            (key, value if isinstance(value, str) else json.dumps(value))
            for key, value in group.configuration.items()
        ),
    )
