"""What operators do to experiments: one table of steps, and which experiment each route serves by.

Pure: nothing is stored or published here, and participants and outcomes are unknown. What a loaded
config means for the existing experiments is in `core.experiment_reload`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.model import experiment as written
from gateway.model.config import Config
from gateway.model.lifecycle import (
    Action,
    Definition,
    Epoch,
    Experiment,
    Experiments,
    GroupDefinition,
    MetricDefinition,
    Origin,
    Status,
)

MOST_EXPERIMENTS = 500
"""Experiments of any status that are kept; the oldest concluded ones give way."""

STEPS: Mapping[Status, Mapping[Action, Status]] = {
    Status.DRAFT: {Action.START: Status.RUNNING},
    Status.RUNNING: {Action.PAUSE: Status.PAUSED, Action.CONCLUDE: Status.CONCLUDED},
    Status.PAUSED: {Action.START: Status.RUNNING, Action.CONCLUDE: Status.CONCLUDED},
    Status.CONCLUDED: {Action.CONCLUDE: Status.CONCLUDED},
}
"""Status and step to the status after it; a missing pair is refused. To conclude anew corrects the winner."""


class Fault(enum.StrEnum):
    """Why a step was not taken."""

    UNKNOWN = "unknown_experiment"
    EXISTS = "exists"
    NOT_NOW = "not_applicable"
    OCCUPIED = "route_occupied"
    NO_ROUTE = "no_route"
    UNKNOWN_NAME = "unknown_name"
    TOO_MANY = "too_many"


class ExperimentRefused(Exception):
    """The step was not taken and nothing changed; the message says why and what would do."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one experiment, for the history.

    `before` is None where it is new, `after` where it is gone.
    """

    id: str
    before: Status | None
    after: Status | None
    reason: str
    winner: str | None = None


# --- definitions --------------------------------------------------------------------------------


def define(name: str, experiment: written.Experiment, routes: Iterable[str]) -> Definition:
    """An experiment as the config's grammar writes it, on these routes."""
    return Definition(
        id=name,
        name=experiment.name or name,
        routes=tuple(routes),
        groups=tuple(
            GroupDefinition(
                group_name,
                group.weight,
                bool(group.configuration.dspy_enabled),
                group.upstream,
                group.configuration.model_dump(exclude_none=True),
            )
            for group_name, group in experiment.groups.items()
        ),
        success_metrics=tuple(
            MetricDefinition(metric.name, metric.direction, metric.cap)
            for metric in experiment.success_metrics
        ),
        seed=experiment.seed,
        hash=experiment.hash,
        revision=experiment.revision,
        duration=experiment.duration,
        minimum_sample_size=experiment.minimum_sample_size,
    )


# --- an operator's steps ------------------------------------------------------------------------


def create(experiments: Experiments, definition: Definition, config: Config, at: float) -> Experiments:
    """With a draft that is defined by hand. Raises ExperimentRefused."""
    known = experiments.find(definition.id)
    if definition.id in config.deployment.experiments:
        raise ExperimentRefused(
            Fault.EXISTS, f"the config holds an experiment {definition.id}: change it there"
        )
    if known is not None:
        raise ExperimentRefused(Fault.EXISTS, f"there is an experiment {definition.id}: it is {known.status}")
    if not definition.routes:
        known_routes = ", ".join(route.name for route in config.routes)
        reason = f"no route is named: nobody would take part; expected some of {known_routes}"
        raise ExperimentRefused(Fault.UNKNOWN_NAME, reason)
    for kind, names, defined in (
        ("route", definition.routes, [route.name for route in config.routes]),
        ("upstream", upstreams_of(definition), list(config.upstreams)),
    ):
        for name in names:
            if name not in defined:
                reason = f"unknown {kind} {name!r}; expected one of {', '.join(defined)}"
                raise ExperimentRefused(Fault.UNKNOWN_NAME, reason)
    if len(experiments.all) >= MOST_EXPERIMENTS and not _spare(experiments):
        raise ExperimentRefused(
            Fault.TOO_MANY, f"there are {MOST_EXPERIMENTS} experiments: conclude or delete some first"
        )
    draft = Experiment(definition, Origin.API, Status.DRAFT, at)
    return moved(experiments, (*experiments.all, draft))


def upstreams_of(definition: Definition) -> list[str]:
    """The upstreams that its groups name."""
    return [group.upstream for group in definition.groups if group.upstream is not None]


def _spare(experiments: Experiments) -> Experiment | None:
    """The one that may be forgotten first: the oldest that is concluded and that nobody is served by.

    One that the config holds is not: it would begin anew. Nor the last winner of a route: it serves there
    again once what runs there now is concluded without one.
    """
    won = [experiment for experiment in experiments.all if experiment.winner is not None]
    last = {
        route: experiment.id
        for experiment in sorted(won, key=_ended)
        for route in experiment.definition.routes
    }
    done = [
        experiment
        for experiment in experiments.all
        if experiment.status is Status.CONCLUDED
        and (experiment.origin is Origin.API or not experiment.definition.routes)
        and experiment.id not in last.values()
    ]
    return min(done, key=_ended, default=None)


def _ended(experiment: Experiment) -> float:
    return experiment.concluded_at or 0.0


def find(experiments: Experiments, name: str) -> Experiment:
    """The experiment of that id. Raises ExperimentRefused where there is none."""
    found = experiments.find(name)
    if found is None:
        known = ", ".join(experiment.id for experiment in experiments.all) or "none"
        reason = f"there is no experiment {name}; those that are there: {known}"
        raise ExperimentRefused(Fault.UNKNOWN, reason)
    return found


def delete(experiments: Experiments, name: str) -> tuple[Experiments, Change]:
    """Without a draft that was defined by hand. Raises ExperimentRefused."""
    draft = find(experiments, name)
    if draft.status is not Status.DRAFT:
        reason = f"{name} is {draft.status}: only a draft can be deleted, what has run stays to be read"
        raise ExperimentRefused(Fault.NOT_NOW, reason)
    if draft.origin is Origin.CONFIG:
        raise ExperimentRefused(Fault.NOT_NOW, f"the config holds {name}: take it out there")
    left = tuple(experiment for experiment in experiments.all if experiment.id != name)
    return moved(experiments, left), Change(name, draft.status, None, "")


def take(
    experiments: Experiments, name: str, action: Action, at: float, *, winner: str | None = None
) -> tuple[Experiments, Change]:
    """After an operator's step. `winner` is the group of CONCLUDE. Raises ExperimentRefused."""
    before = find(experiments, name)
    target = STEPS[before.status].get(action)
    if target is None:
        raise ExperimentRefused(Fault.NOT_NOW, _illegal(before, action))
    match action:
        case Action.START:
            check_startable(experiments, before)
            after = started(before, at)
        case Action.PAUSE:
            after = stopped(before, Status.PAUSED, at)
        case Action.CONCLUDE:
            after = concluded(before, _checked_winner(before, winner), at)
    change = Change(name, before.status, after.status, "", after.winner)
    return _replaced(experiments, after), change


def _illegal(experiment: Experiment, action: Action) -> str:
    match experiment.status, action:
        case Status.CONCLUDED, _:
            return (
                f"{experiment.id} is concluded: its results stand; raise its revision to begin anew, "
                "or create another"
            )
        case Status.DRAFT, _:
            return f"{experiment.id} is a draft: start it first"
        case status, _:
            return f"{experiment.id} is {status} already"


def check_startable(experiments: Experiments, experiment: Experiment) -> None:
    """Raise ExperimentRefused where it has no route, or another one holds a route of it."""
    if not experiment.definition.routes:
        raise ExperimentRefused(
            Fault.NO_ROUTE, f"no route names {experiment.id}: nobody would take part in it"
        )
    for route in experiment.definition.routes:
        other = _assigning(experiments, route)
        if other is not None and other.id != experiment.id:
            reason = f"{other.id} is {other.status} on the route {route}: conclude it first"
            raise ExperimentRefused(Fault.OCCUPIED, reason)


def _assigning(experiments: Experiments, route: str) -> Experiment | None:
    return next(
        (
            experiment
            for experiment in experiments.all
            if experiment.status.assigns and route in experiment.definition.routes
        ),
        None,
    )


def _checked_winner(experiment: Experiment, winner: str | None) -> str:
    groups = [group.name for group in experiment.definition.groups]
    if winner not in groups:
        said = "no winner is named" if winner is None else f"{winner!r} is no group of {experiment.id}"
        raise ExperimentRefused(Fault.UNKNOWN_NAME, f"{said}; expected one of {', '.join(groups)}")
    if experiment.status is Status.CONCLUDED and experiment.winner == winner:
        reason = f"{experiment.id} is concluded already, and {winner} won"
        raise ExperimentRefused(Fault.NOT_NOW, reason)
    return winner


def started(experiment: Experiment, at: float) -> Experiment:
    """The experiment, running from `at` on."""
    return replace(
        in_epoch(experiment, at),
        status=Status.RUNNING,
        started_at=at if experiment.started_at is None else experiment.started_at,
        running_since=at,
        winner=None,
        concluded_at=None,
    )


def in_epoch(experiment: Experiment, at: float) -> Experiment:
    """The experiment in an epoch of its present design: a new one where the newest has another.

    A draft that has epochs was concluded and begins anew: none of them belongs to what comes.
    """
    epoch, definition = experiment.epoch, experiment.definition
    earlier = () if experiment.status is Status.DRAFT else experiment.epochs
    if earlier and (earlier[-1].design, earlier[-1].revision) == (definition.design, definition.revision):
        return experiment
    number = 1 if epoch is None else epoch.number + 1
    begun = Epoch(number, at, definition.revision, definition.design)
    return replace(experiment, epochs=(*earlier, begun))


def stopped(experiment: Experiment, status: Status, at: float) -> Experiment:
    """The experiment, not running any more."""
    return replace(experiment, status=status, ran=experiment.seconds_run(at), running_since=None)


def concluded(experiment: Experiment, winner: str | None, at: float) -> Experiment:
    """The experiment at its end; without a winner where None."""
    return replace(stopped(experiment, Status.CONCLUDED, at), winner=winner, concluded_at=at)


def _replaced(experiments: Experiments, after: Experiment) -> Experiments:
    return moved(
        experiments,
        tuple(after if experiment.id == after.id else experiment for experiment in experiments.all),
    )


def moved(experiments: Experiments, members: tuple[Experiment, ...]) -> Experiments:
    """The next version, with these members; the oldest that nobody needs give way."""
    after = Experiments(experiments.version + 1, members)
    while len(after.all) > MOST_EXPERIMENTS and (spare := _spare(after)) is not None:
        after = replace(after, all=tuple(one for one in after.all if one is not spare))
    return after


# --- what is served -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Served:
    """What a route serves its enrolled users by: all groups, or the winner alone."""

    definition: Definition
    winner: str | None
    counted: bool
    """True while requests are counted for the results."""


def served(experiments: Experiments) -> Mapping[str, Served]:
    """By route: the experiment that runs or is paused there, else the one concluded last with a winner."""
    result: dict[str, Served] = {}
    order = sorted(experiments.all, key=lambda one: (one.status.assigns, one.concluded_at or 0.0))
    for experiment in order:
        if experiment.status.assigns or (
            experiment.status is Status.CONCLUDED and experiment.winner is not None
        ):
            for route in experiment.definition.routes:
                result[route] = Served(
                    experiment.definition, experiment.winner, experiment.status is Status.RUNNING
                )
    return result


def control_wins(experiment: Experiment, config: Config) -> bool:
    """True where the winner of a concluded experiment is served by control on all of its routes."""
    winner = experiment.definition.group(experiment.winner or "")
    if winner is None:
        return False
    routes = [route for route in config.routes if route.name in experiment.definition.routes]
    return bool(routes) and all(
        (winner.upstream or (route.treatment if winner.dspy_enabled else route.control)) == route.control
        for route in routes
    )
