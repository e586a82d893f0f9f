"""config/reference.yaml is what it says: every key, with its default."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.control.config import document
from gateway.control.config.loading import load
from gateway.core.reload_rules import restart_required
from gateway.model.config import Config
from gateway.model.deployment import Deployment
from gateway.model.fields import Section, Surroundings
from gateway.model.phases import DEFAULT_PHASES

REFERENCE = Path("config/reference.yaml")

SHOWN_BY_EXAMPLE = {
    "Upstream.health_check",
    "Upstream.outlier_detection",
    "Route.experiment",
    "Notifications.channels",
    "Notifications.contacts",
    "AutomatedTest.command",
    "Criteria.error_rate",
    "Deployment.gates",
    "Deployment.experiments",
    "Rollback.emergency_contacts",
    "Rollback.hooks",
    "Hook.http",
    "Configuration.dspy_enabled",
}
"""Keys whose default is empty or off and that the reference shows with an example instead."""


@pytest.fixture(scope="module")
def config() -> Config:
    return load(REFERENCE, {}).config


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    values: dict[str, Any] = document.parse(REFERENCE.read_bytes()).root.plain()
    return values


def sections(value: Any, raw: Any) -> Iterator[tuple[Section, Mapping[str, Any]]]:
    """Every section inside a loaded value that was written as a mapping, with that mapping."""
    if isinstance(value, Section) and isinstance(raw, dict):
        yield value, raw
        for name in type(value).model_fields:
            yield from sections(getattr(value, name), raw.get(name))
    elif isinstance(value, Mapping) and isinstance(raw, dict):
        for key, item in value.items():
            yield from sections(item, raw.get(str(key)))
    elif isinstance(value, tuple) and isinstance(raw, list):
        for index, item in enumerate(value):
            yield from sections(item, raw[index])


def departures(value: Any, raw: Any) -> Iterator[str]:
    """The keys inside a loaded value that are neither the default nor declared as an example."""
    if isinstance(value, Section) and isinstance(raw, dict):
        model = type(value)
        needed = {name for name, field in model.model_fields.items() if field.is_required()}
        needed |= {"command", "http"} & set(model.model_fields)
        bare = {name: raw[name] for name in needed if raw.get(name) is not None}
        plain = model.model_validate(bare, context=Surroundings(REFERENCE.parent.absolute()))
        for name in model.model_fields:
            shown = getattr(value, name)
            example = name in needed or f"{model.__name__}.{name}" in SHOWN_BY_EXAMPLE
            if shown == getattr(plain, name) and not example:
                continue
            if not (example or isinstance(shown, Section)):
                yield f"{model.__name__}.{name}: {shown!r}"
            yield from departures(shown, raw.get(name))
    elif isinstance(value, Mapping) and isinstance(raw, dict):
        for key, item in value.items():
            yield from departures(item, raw.get(str(key)))
    elif isinstance(value, tuple) and isinstance(raw, list):
        for index, item in enumerate(value):
            yield from departures(item, raw[index])


def models(kind: type[Section]) -> Iterator[type[Section]]:
    for model in kind.__subclasses__():
        # The file's own vocabulary: an API's body may be made of the same parts.
        if model.__module__.startswith("gateway.model."):
            yield model
            yield from models(model)


def test_every_key_is_written(config: Config, raw: dict[str, Any]) -> None:
    """Each key of each section stands in the reference at least once."""
    written: dict[str, set[str]] = {}
    for section, keys in sections(config, raw):
        written.setdefault(type(section).__name__, set()).update(keys)
    for model in models(Section):
        assert set(model.model_fields) == written.get(model.__name__), model.__name__


def test_every_value_is_the_default(config: Config, raw: dict[str, Any]) -> None:
    """Wherever a key has a default, the reference shows that default."""
    assert list(departures(config, raw)) == []


def test_the_phases_are_the_defaults_of_the_strategy(config: Config) -> None:
    """The five phases as the reference writes them are those of a file that writes none."""
    assert config.deployment.phases == Deployment().phases
    assert config.deployment.ladder == tuple(DEFAULT_PHASES)


def test_every_top_level_key_says_what_a_reload_does(config: Config) -> None:
    """The marks [reload] and [restart] are those that the reload rules enforce."""
    marks = dict(re.findall(r"^(\w+):.*# \[(reload|restart)\]", REFERENCE.read_text(), re.MULTILINE))
    assert set(marks) == set(Config.model_fields)
    for key, mark in marks.items():
        changed = config.model_copy(update={key: object()}) if mark == "reload" else _altered(config, key)
        assert restart_required(config, changed) == ((key,) if mark == "restart" else ())


def _altered(config: Config, key: str) -> Config:
    section = getattr(config, key)
    name = "directory" if key == "state" else "address"
    return config.model_copy(update={key: section.model_copy(update={name: "elsewhere"})})


def test_no_line_is_too_long() -> None:
    """The reference can be read in a terminal."""
    assert [line for line in REFERENCE.read_text().splitlines() if len(line) > 120] == []
