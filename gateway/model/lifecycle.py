"""The life of an experiment: what it is, where it stands, what was decided.

Frozen values and nothing else; what happens to them is in `core.experiments`. Times are Unix seconds,
durations seconds. It knows neither participants nor outcomes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from gateway.model.experiment import Direction
from gateway.model.snapshot import HashKind

Setting: TypeAlias = str | int | float | bool
"""One value of a group's configuration."""


class Status(enum.StrEnum):
    """Where an experiment stands. PAUSED: users stay where they are and nothing is counted."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    CONCLUDED = "concluded"

    @property
    def assigns(self) -> bool:
        """True while users are dealt to all of its groups."""
        return self in (Status.RUNNING, Status.PAUSED)


class Origin(enum.StrEnum):
    """Who defines an experiment: the config file, or somebody by the admin API."""

    CONFIG = "config"
    API = "api"


class Action(enum.StrEnum):
    """What an operator does to an experiment."""

    START = "start"
    PAUSE = "pause"
    CONCLUDE = "conclude"


@dataclass(frozen=True, slots=True)
class GroupDefinition:
    """A group: its weight among the others, who serves it, and what its requests carry.

    `upstream` None: the route's treatment where `dspy_enabled`, else its control.
    """

    name: str
    weight: Fraction
    dspy_enabled: bool
    upstream: str | None = None
    configuration: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """A success metric: which way is better, and the value above which all count the same (None: none)."""

    name: str
    direction: Direction
    cap: float | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """What decides who is in which group: another one deals the users anew."""

    seed: str
    hash: HashKind
    groups: tuple[str, ...]
    weights: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """What an experiment is. `routes` are the names of the routes whose users take part."""

    id: str
    name: str
    routes: tuple[str, ...]
    groups: tuple[GroupDefinition, ...]
    success_metrics: tuple[MetricDefinition, ...]
    seed: str = ""
    hash: HashKind = HashKind.XXH3
    revision: int = 1
    duration: float | None = None
    minimum_sample_size: int = 1000

    @property
    def design(self) -> Design:
        """What decides who is in which group."""
        return Design(
            self.seed,
            self.hash,
            tuple(group.name for group in self.groups),
            tuple(group.weight for group in self.groups),
        )

    def group(self, name: str) -> GroupDefinition | None:
        """The group of that name."""
        return next((group for group in self.groups if group.name == name), None)


@dataclass(frozen=True, slots=True)
class Epoch:
    """A time with one design. Numbers begin at 1 and are never used again within an experiment."""

    number: int
    since: float
    revision: int
    design: Design


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment with its life so far.

    `enabled` is what the config said last. `started_at` is the first start, `running_since` the start
    of the stretch that runs now, `ran` the seconds of all stretches before it. `winner` None though
    concluded: it ended without one, and its routes go on as if it had never been.
    """

    definition: Definition
    origin: Origin
    status: Status
    created_at: float
    enabled: bool = False
    started_at: float | None = None
    running_since: float | None = None
    ran: float = 0.0
    concluded_at: float | None = None
    winner: str | None = None
    epochs: tuple[Epoch, ...] = ()

    @property
    def id(self) -> str:
        """Its name in URLs, headers and hashes."""
        return self.definition.id

    @property
    def epoch(self) -> Epoch | None:
        """The newest epoch; None before the first start."""
        return self.epochs[-1] if self.epochs else None

    def seconds_run(self, now: float) -> float:
        """Seconds that it has been running in all, pauses left out."""
        return self.ran + (max(0.0, now - self.running_since) if self.running_since is not None else 0.0)


@dataclass(frozen=True, slots=True)
class Experiments:
    """All experiments. `version` moves with every change of one of them."""

    version: int = 0
    all: tuple[Experiment, ...] = ()

    def find(self, name: str) -> Experiment | None:
        """The experiment of that id."""
        return next((experiment for experiment in self.all if experiment.id == name), None)
