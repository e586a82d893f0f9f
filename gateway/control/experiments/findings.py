"""What experiments have shown so far: their plans and tallies passed to `core.results`.

It also keeps the tally of the planned day when that day comes, and reports a wrong sample
ratio to whoever wants to know. It decides nothing else: only an operator ends an experiment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from fractions import Fraction

from gateway.control.experiments.participants import Participants
from gateway.control.experiments.timeline import Timeline
from gateway.core.assignment import Silence
from gateway.core.results.assessment import Plan, Results, SuccessMeasure, assess
from gateway.core.results.tally import Tally
from gateway.model.experiment import CONTROL_GROUP
from gateway.model.lifecycle import Definition, Experiment, Experiments, Status

WATCH_INTERVAL = 1.0
"""Seconds between two looks at running experiments."""


class Findings:
    """See the module. `alarms` are the ids of running experiments whose sample ratio is off."""

    def __init__(
        self,
        state: Callable[[], Experiments],
        participants: Participants,
        timeline: Timeline,
        now: Callable[[], float],
    ) -> None:
        self.alarms: frozenset[str] = frozenset()
        self._state = state
        self._participants = participants
        self._timeline = timeline
        self._now = now

    def __repr__(self) -> str:
        return f"<Findings alarms={sorted(self.alarms)}>"

    @property
    def sample_ratio_ok(self) -> bool:
        """True unless a running experiment's groups are not as large as their weights say."""
        return not self.alarms

    def tally(self, experiment: Experiment) -> Tally:
        """What its participants come to."""
        return self._participants.tally(experiment)

    def results(self, experiment: Experiment) -> Results | None:
        """What may be said of it; None before it was ever started."""
        if experiment.started_at is None:
            return None
        at = self._now() if experiment.concluded_at is None else experiment.concluded_at
        return assess(
            plan_of(experiment, at),
            self._participants.tally(experiment),
            weights_of(experiment),
            at=at,
            counted_for=self.counted_seconds(experiment) if self.silence(experiment) is None else None,
            planned_day=self._participants.planned_day(experiment.id),
        )

    def silence(self, experiment: Experiment) -> Silence | None:
        """Why nothing is counted for it now; None while it is."""
        newest = self._timeline.newest
        return Silence.NOT_RUNNING if newest is None else newest.silence(experiment.id)

    def counted_seconds(self, experiment: Experiment) -> float:
        """Seconds in which it has counted: neither paused, nor latched, nor in a phase that enrols nobody."""
        if experiment.started_at is None:
            return 0.0
        until = self._now() if experiment.concluded_at is None else experiment.concluded_at
        counted = self._timeline.counted_seconds(experiment.id, experiment.started_at, until)
        # What was in force when may be known less exactly than the experiment's own life, after a kill.
        return min(counted, experiment.seconds_run(until))

    def look(self) -> None:
        """Look at every experiment that runs or is paused."""
        alarms = set()
        for experiment in self._state().all:
            if not experiment.status.assigns:
                continue
            self._mind_planned_day(experiment)
            results = self.results(experiment)
            if results is not None and not results.sample_ratio.ok:
                alarms.add(experiment.id)
        self.alarms = frozenset(alarms)

    def _mind_planned_day(self, experiment: Experiment) -> None:
        if experiment.status is not Status.RUNNING:
            return
        now = self._now()
        end = planned_end(experiment, now)
        if end is not None and now >= end and self._participants.planned_day(experiment.id) is None:
            self._participants.keep_planned_day(experiment.id, self._participants.tally(experiment))

    async def run(self) -> None:
        """For ever."""
        await self._participants.ready.wait()
        while True:
            self.look()
            await asyncio.sleep(WATCH_INTERVAL)


def planned_end(experiment: Experiment, now: float) -> float | None:
    """The Unix time until which it was planned to run, pauses added; None for no end, or no beginning."""
    duration = experiment.definition.duration
    if duration is None or experiment.started_at is None:
        return None
    base = experiment.running_since or experiment.concluded_at or now
    return base + duration - experiment.ran


def plan_of(experiment: Experiment, now: float) -> Plan:
    """What was laid down beforehand."""
    definition = experiment.definition
    return Plan(
        tuple(group.name for group in definition.groups),
        control_group(definition),
        tuple(SuccessMeasure(metric.name, metric.direction) for metric in definition.success_metrics),
        definition.minimum_sample_size,
        planned_end(experiment, now),
    )


def control_group(definition: Definition) -> str:
    """The group that the others are compared with: `control`, else the first that is served like it."""
    names = [group.name for group in definition.groups]
    if CONTROL_GROUP in names:
        return CONTROL_GROUP
    plain = [group.name for group in definition.groups if not group.dspy_enabled and group.upstream is None]
    return (plain or names)[0]


def weights_of(experiment: Experiment) -> Mapping[int, Mapping[str, Fraction]]:
    """Each epoch's declared weights by group."""
    return {
        epoch.number: dict(zip(epoch.design.groups, epoch.design.weights, strict=True))
        for epoch in experiment.epochs
    }
