"""How many users treatment really gets: the phase's percentage times the weight of treatment's groups.

Exact fractions, from the config alone. It does not know the current phase, nor the latch.
"""

from __future__ import annotations

from fractions import Fraction

from gateway.model.config import Config, Route
from gateway.model.experiment import Experiment


def treatment_percentage(config: Config, phase: str, route: Route) -> Fraction:
    """Percent of the users with an id that get treatment on a route while a phase lasts.

    Users on the override lists are left out of account.
    """
    rules = config.deployment.phases[phase]
    if not rules.dspy_enabled:
        return Fraction(0)
    return rules.user_percentage * enrolled_share(config, route)


def enrolled_share(config: Config, route: Route) -> Fraction:
    """The share, in [0, 1], of the enrolled users that get treatment on a route."""
    experiment = config.deployment.experiments.get(route.experiment or "")
    if experiment is None or not experiment.enabled:
        return Fraction(int(route.treatment != route.control))
    total = sum((group.weight for group in experiment.groups.values()), Fraction())
    return (
        sum((experiment.groups[name].weight for name in treatment_groups(experiment, route)), Fraction())
        / total
    )


def treatment_groups(experiment: Experiment, route: Route) -> tuple[str, ...]:
    """The groups that the route's control upstream does not serve."""
    return tuple(
        name
        for name, group in experiment.groups.items()
        if (group.upstream or (route.treatment if group.configuration.dspy_enabled else route.control))
        != route.control
    )
