"""What a newly loaded config means for the existing experiments.

Pure. If the config holds an experiment, the config defines it, and the state says how far it has got. It
starts by itself when the config enables it. If it is removed from the config while it runs, it ends
without a winner.

`adopt` says what becomes of every experiment; `conflicts` says why a reload must be refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.core.experiments import (
    Change,
    ExperimentRefused,
    check_startable,
    concluded,
    define,
    in_epoch,
    moved,
    started,
    stopped,
    upstreams_of,
)
from gateway.model.config import Config
from gateway.model.lifecycle import Definition, Experiment, Experiments, GroupDefinition, Origin, Status


def _routes_of(config: Config, name: str) -> tuple[str, ...]:
    return tuple(route.name for route in config.routes if route.experiment == name)


def adopt(experiments: Experiments, config: Config, at: float) -> tuple[Experiments, tuple[Change, ...]]:
    """What the experiments are under a config, and what changed by that; the same where nothing did.

    Total: what a reload would refuse begins a new epoch here, for at the start there is nobody to
    refuse it to.
    """
    adoption = _Adoption(experiments, config, at)
    return adoption.result()


class _Adoption:
    """One run of `adopt`."""

    def __init__(self, experiments: Experiments, config: Config, at: float) -> None:
        self._before = experiments
        self._config = config
        self._at = at
        self._members: dict[str, Experiment] = {experiment.id: experiment for experiment in experiments.all}
        self._changes: list[Change] = []

    def result(self) -> tuple[Experiments, tuple[Change, ...]]:
        for experiment in self._before.all:
            if experiment.id not in self._config.deployment.experiments:
                self._leave(experiment)
        defined = self._config.deployment.experiments
        for name, found in defined.items():
            self._define(define(name, found, _routes_of(self._config, name)), found.enabled)
        for name, found in defined.items():
            self._begin(name, found.enabled)
        members = tuple(self._members.values())
        if members == self._before.all:
            return self._before, ()
        return moved(self._before, members), tuple(self._changes)

    def _leave(self, experiment: Experiment) -> None:
        """The config does not hold it: one of the config's is gone, one by hand may have lost its ground."""
        if experiment.origin is Origin.CONFIG:
            routes: tuple[str, ...] = ()
        else:
            names = {route.name for route in self._config.routes}
            routes = tuple(route for route in experiment.definition.routes if route in names)
            if any(name not in self._config.upstreams for name in upstreams_of(experiment.definition)):
                routes = ()
        if experiment.status is Status.DRAFT and experiment.origin is Origin.CONFIG:
            del self._members[experiment.id]
            return
        left = replace(experiment, definition=replace(experiment.definition, routes=routes), enabled=False)
        self._put(self._unless_routeless(left))

    def _define(self, definition: Definition, enabled: bool) -> None:
        """The config's words on it; what is concluded keeps its own, but for the routes."""
        known = self._members.get(definition.id)
        if known is None:
            self._members[definition.id] = Experiment(definition, Origin.CONFIG, Status.DRAFT, self._at)
            return
        over = known.status is Status.CONCLUDED and definition.revision <= known.definition.revision
        if over:
            definition = replace(known.definition, routes=definition.routes)
        defined = replace(known, definition=definition, origin=Origin.CONFIG)
        if known.status.assigns:
            if edited := _edited(known.definition, definition):
                self._note(defined, known.status, f"changed while it is {known.status}: {', '.join(edited)}")
            redrawn = in_epoch(defined, self._at)
            if redrawn is not defined:
                self._note(
                    redrawn, known.status, f"epoch {redrawn.epochs[-1].number}: the users are dealt anew"
                )
            defined = self._unless_routeless(redrawn)
            if defined.status is Status.RUNNING and known.enabled and not enabled:
                defined = stopped(defined, Status.PAUSED, self._at)
                self._note(defined, known.status, "enabled: false in the config")
        elif known.status is Status.CONCLUDED and not over:
            defined = _anew(defined)
        self._put(defined)

    def _begin(self, name: str, enabled: bool) -> None:
        """Start what the config enables and what may start; last of all, when every route is known."""
        experiment = self._members[name]
        waits = experiment.status is Status.DRAFT or (
            experiment.status is Status.PAUSED and not experiment.enabled
        )
        if enabled and waits and self._startable(experiment):
            known = self._before.find(name)
            experiment = started(experiment, self._at)
            self._note(experiment, None if known is None else known.status, "enabled: true in the config")
        self._put(replace(experiment, enabled=enabled))

    def _startable(self, experiment: Experiment) -> bool:
        try:
            check_startable(Experiments(0, tuple(self._members.values())), experiment)
        except ExperimentRefused:
            return False
        return True

    def _unless_routeless(self, experiment: Experiment) -> Experiment:
        """Concluded without a winner where it lost its last route while it ran."""
        if experiment.definition.routes or not experiment.status.assigns:
            return experiment
        ended = concluded(experiment, None, self._at)
        self._note(ended, experiment.status, "taken out of the config while it ran: no winner")
        return ended

    def _note(self, after: Experiment, before: Status | None, reason: str) -> None:
        self._changes.append(Change(after.id, before, after.status, reason, after.winner))

    def _put(self, experiment: Experiment) -> None:
        self._members[experiment.id] = experiment


def _edited(before: Definition, after: Definition) -> list[str]:
    """What moves nobody and still counts when results are read: the keys that differ, in the file's words."""
    served = {group.name: _serving(group) for group in before.groups}
    edited = [
        f"groups.{group.name}"
        for group in after.groups
        if group.name in served and served[group.name] != _serving(group)
    ]
    differs = {
        "success_metrics": before.success_metrics != after.success_metrics,
        "minimum_sample_size": before.minimum_sample_size != after.minimum_sample_size,
        "duration": before.duration != after.duration,
    }
    return edited + [key for key, value in differs.items() if value]


def _serving(group: GroupDefinition) -> tuple[object, ...]:
    """What the users of a group meet."""
    return group.dspy_enabled, group.upstream, group.configuration


def _anew(experiment: Experiment) -> Experiment:
    """One that was concluded, as a draft of its next life: but for epochs' numbers, nothing is left."""
    return replace(
        experiment,
        status=Status.DRAFT,
        enabled=False,
        started_at=None,
        ran=0.0,
        concluded_at=None,
        winner=None,
    )


def begin(config: Config) -> Experiments:
    """The experiments of a gateway that never ran, under this config."""
    return adopt(Experiments(), config, 0.0)[0]


def conflicts(experiments: Experiments, config: Config) -> tuple[str, ...]:
    """Why a config may not be loaded beside experiments that were made by hand; empty if it may.

    Each text names the key, what is wrong and the way out. Conflicts with experiments that the config
    itself held are in `core.reload_rules`.
    """
    return tuple(
        f"{found}; conclude {experiment.id} first"
        for experiment in experiments.all
        if experiment.origin is Origin.API and experiment.status.assigns
        for found in _conflicts_with(experiment, experiments, config)
    )


def _conflicts_with(experiment: Experiment, experiments: Experiments, config: Config) -> Iterator[str]:
    definition, status = experiment.definition, experiment.status
    defined = config.deployment.experiments
    if mine := defined.get(experiment.id):
        differs = define(experiment.id, mine, ()).design != definition.design
        if differs and mine.revision <= definition.revision:
            path = f"deployment.experiments.{experiment.id}"
            yield f"{path}: weights, seed or hash differ from those of the one that is {status}"
        return
    names = {route.name for route in config.routes}
    yield from (
        f"routes: {name} is gone, where {experiment.id} is {status}"
        for name in definition.routes
        if name not in names
    )
    yield from (
        f"upstreams: {name} is gone, which {experiment.id} uses"
        for name in upstreams_of(definition)
        if name not in config.upstreams
    )
    for route in config.routes:
        other = defined.get(route.experiment or "")
        if other is None or not other.enabled or route.name not in definition.routes:
            continue
        known = experiments.find(route.experiment or "")
        if known is None or known.status is not Status.CONCLUDED:
            begins = f"{route.experiment} would begin on the route {route.name}"
            yield f"routes: {begins}, where {experiment.id} is {status}"
