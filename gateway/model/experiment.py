"""Experiments as the config file writes them: one part of the key `deployment`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from gateway.model.fields import (
    AnyText,
    Count,
    Exact,
    Flag,
    Name,
    OptionalSpan,
    Scalar,
    Section,
    Truth,
    default,
    fault,
)
from gateway.model.metrics import Metric, Ratio, nearest
from gateway.model.snapshot import HashKind
from gateway.model.units import shorten


class Configuration(Section, extra="allow"):
    """What a group's users get: `dspy_enabled`, and anything else that the pipelines understand."""

    __pydantic_extra__: dict[str, Annotated[str | int | float | bool, Scalar()]]
    dspy_enabled: Annotated[bool | None, Truth(optional=True)] = default(None)
    """True is the route's treatment, false its control."""


CONTROL_GROUP, TREATMENT_GROUP = "control", "treatment"
"""Groups whose names say which side they are on; any other is on control's unless it says so."""


class Group(Section):
    """A group of an experiment."""

    weight: Annotated[Fraction, Exact(0, 1_000_000, "a weight")]
    """Its share of the enrolled users, relative to the weights of the other groups."""
    configuration: Configuration = default({})
    """What its users get; pipelines see each key as a header, X-Gateway-Config-KEY. Without `dspy_enabled`
    the group `treatment` is the route's treatment, any other its control."""
    upstream: Name | None = default(None)
    """An upstream of its own; decides over `dspy_enabled`."""


class Direction(enum.StrEnum):
    """Which way a metric is better."""

    UP = "up"
    DOWN = "down"


SUCCESS_METRICS = tuple(metric for metric in Metric if metric is not Metric.PERFORMANCE_DEGRADATION)
"""The gateway's metrics that every user has a value of."""


class SuccessMetric(Section):
    """A metric that an experiment is judged by."""

    name: Name
    """One of the gateway's metrics, or one of your own that outcomes report."""
    direction: Direction
    """Which way is better; needed for metrics of your own."""
    cap: Annotated[float | None, Ratio()] = default(None)
    """Values above are counted as this, so that single outliers cannot decide; null for none."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The long form, or the name alone; the direction is only needed for names of one's own."""
        long = handler.resolve_ref_schema(handler(schema))
        long["required"] = ["name"]
        known = {"type": "string", "enum": [metric.value for metric in SUCCESS_METRICS]}
        return {"anyOf": [known, long]}

    @model_validator(mode="before")
    @classmethod
    def _known_direction(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict) and value.get("name") == Metric.PERFORMANCE_DEGRADATION:
            raise fault(
                f"{Metric.PERFORMANCE_DEGRADATION} compares whole arms: no user has a value of it",
                f"expected {Metric.RESPONSE_TIME}, which every request has",
            )
        if not isinstance(value, dict) or "direction" in value or "name" not in value:
            return value
        name = value["name"]
        if name in SUCCESS_METRICS:
            return {**value, "direction": "up" if Metric(name).rises_when_better else "down"}
        if isinstance(name, str):
            raise fault(
                f"unknown metric {shorten(name)!r}{nearest(name, SUCCESS_METRICS)}",
                f"expected one of {', '.join(SUCCESS_METRICS)}, or {{name: {shorten(name)}, direction: up}} "
                "for a metric of your own",
            )
        return value


class Experiment(Section):
    """An A/B experiment among the enrolled users."""

    name: AnyText = default("")
    """For people; empty: the experiment's id."""
    enabled: Flag = default(True)
    """True runs it from the first load on."""
    seed: AnyText = default("")
    """Part of the hash: another seed deals the users anew."""
    hash: HashKind = default("xxh3")
    """xxh3, or sha256 for the formula `sha256(user_id <> seed)` modulo total weight."""
    revision: Count = default(1)
    """Raise it to change the weights, seed or hash of a running experiment: a new epoch begins."""
    groups: Annotated[Mapping[Name, Group], Field(min_length=1)]
    """The groups in their order."""
    success_metrics: tuple[SuccessMetric, ...] = default(
        ["accuracy", "response_time", "cost_per_request", "user_satisfaction"]
    )
    """The first one that has data decides; the others may veto."""
    duration: OptionalSpan = default("30d")
    """How long it is planned to run; null for no end."""
    minimum_sample_size: Count = default(1000)
    """Users per group below which nothing is shown."""

    @field_validator("groups", mode="before")
    @classmethod
    def _sides(cls, groups: Any) -> Any:
        """Write out which side a group without a word about it is on."""
        if not isinstance(groups, dict):
            return groups
        return {name: _with_side(name, group) for name, group in groups.items()}


def _with_side(name: Any, group: Any) -> Any:
    if not isinstance(group, dict) or group.get("upstream") is not None:
        return group
    configuration = group.get("configuration", {})
    if not isinstance(configuration, dict) or configuration.get("dspy_enabled") is not None:
        return group
    return {**group, "configuration": {**configuration, "dspy_enabled": name == TREATMENT_GROUP}}
