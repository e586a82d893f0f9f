"""The rollout's rules, read from a config: the phases in order, and the gates between them by id.

Pure. A phase's `duration` becomes a time gate and its `success_criteria` a metrics gate towards the next
phase, unless the config writes a gate of the same type itself. It knows no state; see `core.rollout`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from gateway.model import phases as written
from gateway.model.config import Config
from gateway.model.deployment import Deployment
from gateway.model.gates import (
    AutomatedTest,
    Gate,
    ManualApproval,
    MetricsThreshold,
    OnNoData,
    Threshold,
    TimeBased,
)
from gateway.model.rollout import AdvanceMode, Binding, PhaseRules, Rules
from gateway.model.units import Transition

WrittenGate: TypeAlias = (
    written.AutomatedTest | written.ManualApproval | written.TimeBased | written.MetricsThreshold
)


def rollout_rules(config: Config) -> Rules:
    """All that the config says about the rollout."""
    deployment = config.deployment
    gates = {
        source: _gates(deployment, Transition(source, target))
        for source, target in itertools.pairwise(deployment.ladder)
    }
    ladder = tuple(
        PhaseRules(
            name,
            deployment.phases[name].user_percentage,
            deployment.phases[name].dspy_enabled,
            AdvanceMode(deployment.phases[name].advance),
            gates.get(name, ()),
        )
        for name in deployment.ladder
    )
    return Rules(
        ladder,
        deployment.initial_phase,
        Binding(_digest([deployment]), _digest(_treatment_upstreams(config))),
        deployment.rollback.manual_approval_required,
        deployment.rollback.drain.steps if deployment.rollback.drain.over else 0,
    )


def _treatment_upstreams(config: Config) -> Sequence[object]:
    """The upstreams, with their names, that serve the arm treatment on any route."""
    names = set()
    for route in config.routes:
        names.add(route.treatment)
        if route.experiment is not None:
            groups = config.deployment.experiments[route.experiment].groups.values()
            names |= {group.upstream for group in groups if group.upstream not in (None, route.control)}
    return [(name, config.upstreams[name]) for name in sorted(filter(None, names))]


def _digest(values: Iterable[object]) -> str:
    """Changes whenever a value does: the values are frozen, and print every field that they have."""
    return hashlib.sha256("\n".join(map(repr, values)).encode()).hexdigest()


def _gates(deployment: Deployment, transition: Transition) -> tuple[Gate, ...]:
    """The gates of a transition: those that the phase makes, then those that are written."""
    explicit = deployment.gates.get(transition, ())
    replaced = {gate.type for gate in explicit}
    made = [gate for gate in _made(deployment.phases[transition.source]) if gate.type not in replaced]
    count: Counter[str] = Counter()
    gates = []
    for gate in (*made, *explicit):
        count[gate.type] += 1
        nth = f".{count[gate.type]}" if count[gate.type] > 1 else ""
        name = f"{transition.source}.{transition.target}.{gate.type}{nth}"
        gates.append(_gate(name, gate, deployment, transition.source))
    return tuple(gates)


def _made(phase: written.Phase) -> list[WrittenGate]:
    made: list[WrittenGate] = []
    if phase.duration is not None:
        made.append(written.TimeBased.model_construct(type="time_based", minimum=phase.duration))
    if phase.success_criteria.by_metric():
        made.append(
            written.MetricsThreshold.model_validate(
                {"type": "metrics_threshold", "thresholds": phase.success_criteria}
            )
        )
    return made


def _gate(name: str, gate: WrittenGate, deployment: Deployment, source: str) -> Gate:
    match gate:
        case written.ManualApproval():
            return ManualApproval(name, gate.approvals, gate.expires)
        case written.TimeBased():
            return TimeBased(name, gate.minimum)
        case written.AutomatedTest():
            return AutomatedTest(name, gate.command or (), gate.http, gate.timeout)
        case written.MetricsThreshold():
            return MetricsThreshold(
                name,
                tuple(Threshold(metric, limit) for metric, limit in gate.thresholds.by_metric().items()),
                deployment.phases[source].duration or gate.window,
                gate.minimum_samples,
                OnNoData(gate.on_no_data),
                deployment.monitoring.gate_confidence,
            )
