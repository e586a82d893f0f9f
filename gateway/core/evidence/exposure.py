"""Which share of the compared users gets treatment, read from a snapshot."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.model.snapshot import FULL_SHARE, Arm, Experiment, Route, Snapshot


def treatment_shares(snapshot: Snapshot) -> Mapping[str, float]:
    """Treatment's share, from 0 to 1, among the users with an id, by route."""
    enrolled = snapshot.enrolment.share / FULL_SHARE
    return {route.name: enrolled * _of_enrolled(route) for route in snapshot.routes}


def _of_enrolled(route: Route) -> float:
    experiment = route.experiment
    return float(route.treatment != route.control) if experiment is None else _of_experiment(experiment)


def _of_experiment(experiment: Experiment) -> float:
    slices = (group.end - group.start for group in experiment.groups if group.arm is Arm.TREATMENT)
    return sum(slices) / experiment.total
