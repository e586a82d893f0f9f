"""What the admin API shows of experiments, built from values: no I/O, no clock.

Each function returns a JSON-ready mapping in the contract's shape. None means "not known yet": below
`minimum_sample_size` there are counts and no means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gateway.control.experiments.findings import planned_end
from gateway.control.rollout.views import Document, number, timestamp
from gateway.core.assignment import Placement, Silence
from gateway.core.results.assessment import MetricResult, Results
from gateway.core.results.tally import Tally
from gateway.model.lifecycle import Definition, Experiment, GroupDefinition, Status


def summary(
    experiment: Experiment, tally: Tally, results: Results | None, silence: Silence | None
) -> Document:
    """A line of `GET /api/v1/experiments`."""
    return {
        "id": experiment.id,
        "name": experiment.definition.name,
        "status": experiment.status.value,
        "origin": experiment.origin.value,
        "routes": list(experiment.definition.routes),
        "started_at": _time(experiment.started_at),
        "winner": experiment.winner,
        "participants": sum(group.participants for group in tally.groups),
        "verdict": None if results is None else results.conclusion.verdict.value,
        "counting": silence is None,
        "explanation": explanation(experiment, results, silence),
    }


def details(
    experiment: Experiment,
    tally: Tally,
    results: Results | None,
    silence: Silence | None,
    *,
    version: int,
    counted_seconds: float,
    now: float,
) -> Document:
    """The document of `GET /api/v1/experiments/{id}`."""
    definition, epoch = experiment.definition, experiment.epoch
    end = planned_end(experiment, now)
    return {
        **summary(experiment, tally, results, silence),
        "version": version,
        "created_at": timestamp(experiment.created_at),
        "concluded_at": _time(experiment.concluded_at),
        "running_seconds": experiment.seconds_run(now),
        "counted_seconds": counted_seconds,
        "planned_end": None if experiment.status is Status.CONCLUDED else _time(end),
        "days_to_go": None if results is None else results.conclusion.days_to_go,
        "minimum_sample_size": definition.minimum_sample_size,
        "hash": definition.hash.value,
        "seed": definition.seed,
        "revision": definition.revision,
        "epoch": None if epoch is None else epoch.number,
        "primary": None if results is None else results.primary,
        "groups": {group.name: _group(group, definition, tally) for group in definition.groups},
        "metrics": {}
        if results is None
        else {metric.metric: _metric(metric, definition) for metric in results.metrics},
        "sample_ratio": {"p_value": None, "ok": True}
        if results is None
        else {"p_value": results.sample_ratio.p_value, "ok": results.sample_ratio.ok},
        "recommended": None if results is None else results.conclusion.winner,
    }


_SILENCES: Mapping[Silence | None, str] = {
    Silence.LATCHED: "while the latch is engaged",
    Silence.NOBODY_ENROLLED: "while the phase enrols nobody",
}
"""Why a running experiment does not count."""


def explanation(experiment: Experiment, results: Results | None, silence: Silence | None) -> str:
    """The verdict's sentence; in front of it what has been decided, or why nothing is counted."""
    if results is None:
        return "not started yet"
    said = results.conclusion.explanation
    match experiment.status:
        case Status.CONCLUDED if experiment.winner is None:
            return f"concluded without a winner; {said}"
        case Status.CONCLUDED:
            return f"concluded, {experiment.winner} serves; {said}"
        case Status.PAUSED:
            return f"paused, nothing is counted; {said}"
        case _ if silence in _SILENCES:
            return f"nothing is counted {_SILENCES[silence]}; {said}"
        case _:
            return said


def _group(group: GroupDefinition, definition: Definition, tally: Tally) -> Document:
    counted = tally.find(group.name)
    total = sum(one.weight for one in definition.groups)
    return {
        "weight": number(group.weight),
        "share": float(group.weight / total),
        "dspy_enabled": group.dspy_enabled,
        "upstream": group.upstream,
        "configuration": dict(group.configuration),
        "participants": counted.participants,
        "requests": counted.requests,
    }


def _metric(metric: MetricResult, definition: Definition) -> Document:
    success = [one.name for one in definition.success_metrics]
    return {
        "direction": None if metric.direction is None else metric.direction.value,
        "success_metric": metric.metric in success,
        "groups": {group.group: {"n": group.n, "mean": group.mean} for group in metric.groups},
        "comparisons": [
            {
                "group": one.group,
                "difference": _finite(one.difference),
                "lift": _finite(one.lift),
                "interval": [_finite(bound) for bound in one.interval],
                "lift_interval": one.lift_interval and [_finite(bound) for bound in one.lift_interval],
                "p_value": one.p_value,
            }
            for one in metric.comparisons
        ],
    }


def assignment(experiment: Experiment, user: str, placement: Placement | None, at: float) -> Document:
    """The document of `GET /api/v1/experiments/{id}/assignments/{user}`; no placement: it serves nobody."""
    found: Mapping[str, Any] = {"group": None, "arm": None, "reason": None}
    if placement is not None:
        found = {
            "group": placement.group,
            "arm": placement.arm.label,
            "reason": placement.reason.value,
        }
    return {
        "user": user,
        "experiment": experiment.id,
        "status": experiment.status.value,
        "assigned": placement is not None and placement.group is not None,
        "at": timestamp(at),
        **found,
    }


def _finite(value: float | None) -> float | None:
    """A number as JSON has it: an interval without an end has none there."""
    return value if value is not None and math.isfinite(value) else None


def _time(at: float | None) -> str | None:
    return None if at is None else timestamp(at)
