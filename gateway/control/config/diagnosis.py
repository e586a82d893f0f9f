"""The validator's errors in plain words.

It turns pydantic's error records into findings: what is wrong, what was expected, and for unknown keys
which key was probably meant. It reads the known keys from the models and has no rules of its own.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.control.config.problems import Finding, KeyPath, Spot
from gateway.model.config import ChannelType, Config
from gateway.model.fields import FAULT, Section, describe
from gateway.model.gates import GateType
from gateway.model.metrics import nearest
from gateway.model.units import shorten

_EXAMPLES: Mapping[str, str] = {
    "upstreams": "expected the pipelines, as in {traditional: {endpoints: [http://127.0.0.1:9001]}}",
    "routes": "expected a list, as in [{name: default, control: traditional, treatment: dspy}]",
    "endpoints": "expected a list, as in [http://127.0.0.1:9001]",
    "name": "expected a name for metrics and logs",
    "control": "expected the upstream of the arm control",
    "treatment": "expected the upstream of the arm treatment",
    "user_percentage": "expected a percentage from 0 to 100: this phase has no default",
    "groups": "expected groups, as in {control: {weight: 50}, treatment: {weight: 50}}",
    "weight": "expected a weight, as in 50",
    "thresholds": "expected comparisons by metric, as in {error_rate: < 0.01}",
    "minimum": "expected a duration, as in 24h",
    "type": f"expected one of {', '.join(ChannelType)}",
    "url": "expected a URL",
    "team": "expected the team's name",
    "direction": "expected up or down",
}
"""What a missing key should hold."""


def findings(error: ValidationError, values: Any) -> Iterator[Finding]:
    """A finding for each error of a validation of `values`."""
    for details in error.errors(include_url=False):
        if details["type"] == "too_short" and details["input"]:
            continue  # not empty as written: its items are wrong, and have findings of their own
        yield _finding(details, values)


def _finding(details: ErrorDetails, values: Any) -> Finding:
    loc, kind = details["loc"], details["type"]
    context = details.get("ctx", {})
    path = _path(loc, values, keep_last=kind in ("missing", "extra_forbidden"))
    spot = Spot.KEY if loc and loc[-1] == "[key]" else Spot.VALUE
    match kind:
        case _ if kind == FAULT:
            return Finding(path, context["message"], context["expected"], spot)
        case "missing":
            return Finding(path, _missing(path, values), _EXAMPLES[str(loc[-1])])
        case "extra_forbidden":
            return _unknown_key(path, loc)
        case "enum" | "literal_error":
            return _no_choice(path, details["input"], context["expected"])
        case "union_tag_invalid":
            return _no_choice((*path, "type"), context["tag"], context["expected_tags"])
        case "union_tag_not_found":
            return Finding((*path, "type"), "the key is missing", f"expected one of {', '.join(GateType)}")
        case "too_short":
            return Finding(path, "this is empty", "expected at least one")
        case "tuple_type":
            return Finding(path, describe(details["input"]), "expected a list, as in [a, b]")
        case _:
            return Finding(path, describe(details["input"]), "expected a mapping, as in key: value")


def _missing(path: KeyPath, values: Any) -> str:
    """What is wrong where a key is missing: the strategy's own file is loaded through another one."""
    if path == ("upstreams",) and "deployment" in values and "routes" not in values:
        return "the key is missing: a file of the deployment alone is another config's deployment_file"
    return "the key is missing"


def _path(loc: KeyPath, values: Any, keep_last: bool) -> KeyPath:
    """The error's location without what the validator adds to it: tags of unions and `[key]`."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        inside = isinstance(values, dict) and part in values
        if inside or (isinstance(values, (list, tuple)) and isinstance(part, int)):
            values = values[part]
        elif not (keep_last and index == len(loc) - 1):
            continue
        path.append(part)
    return tuple(path)


def _unknown_key(path: KeyPath, loc: KeyPath) -> Finding:
    known = _known_keys(loc[:-1])
    name = str(path[-1])
    return Finding(
        path, f"unknown key{nearest(name, known)}", f"expected one of {', '.join(known)}", Spot.KEY
    )


def _no_choice(path: KeyPath, value: Any, choices: str) -> Finding:
    known = [choice.strip().strip("'") for choice in choices.replace(" or ", ",").split(",")]
    if isinstance(value, str):
        message = f"{shorten(value)!r} is not known here{nearest(value, known)}"
    else:
        message = describe(value)
    words = "expected " if len(known) == 1 else "expected one of "
    return Finding(path, message, words + ", ".join(known))


def _known_keys(loc: KeyPath) -> list[str]:
    """The keys of the section at an error's location."""
    annotation: Any = Config
    for part in loc:
        annotation = _inside(annotation, part)
    section = _section(annotation)
    return list(section.model_fields) if section else []


def _inside(annotation: Any, part: str | int) -> Any:
    """The type of a part of a value of a type."""
    members = list(_members(annotation))
    for member in members:
        if isinstance(member, type) and issubclass(member, Section):
            kind = member.model_fields.get("type")
            if kind is not None and part in typing.get_args(kind.annotation):
                return member
            if part in member.model_fields:
                return member.model_fields[str(part)].annotation
        elif typing.get_origin(member) in (tuple, Mapping):
            arguments = typing.get_args(member)
            return arguments[0] if isinstance(part, int) else arguments[1]
    return annotation


def _section(annotation: Any) -> type[Section] | None:
    return next((m for m in _members(annotation) if isinstance(m, type) and issubclass(m, Section)), None)


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives that a type stands for."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member)
    else:
        yield annotation
