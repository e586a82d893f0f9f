"""Whatever stands at whatever place of a config, loading ends in a config or in problems with places."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.config.document import parse
from gateway.control.config.loading import ConfigError, Problem, load_sources
from tests.config.test_commands import as_json
from tests.support.examples import examples

PATH = Path("/somewhere/gateway.yaml")
REFERENCE: dict[str, Any] = as_json(parse(Path("config/reference.yaml").read_bytes()).root)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all values inside a value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [path] * bool(path) + [each for key, item in items for each in places(item, (*path, key))]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "a", "10s", "> 1", "< 0.5", "${A}", "canary", "dspy", "a -> b", "http://h:1", "unix:x"]
    ),
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "x", "a"]), inner)
    ),
    max_leaves=5,
)


def changed(path: tuple[str | int, ...], value: Any, *, within: dict[str, Any]) -> None:
    """Put a value at a path, where there still is one."""
    inside: Any = within
    for part in path[:-1]:
        try:
            inside = inside[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(inside, dict) or (isinstance(inside, list) and path[-1] in range(len(inside))):
        inside[path[-1]] = value


def problems(config: dict[str, Any]) -> tuple[Problem, ...]:
    """What is wrong with a config; nothing for a valid one."""
    try:
        load_sources(PATH, {PATH: json.dumps(config).encode()}, {})
    except ConfigError as error:
        return error.problems
    return ()


@pytest.mark.slow
@examples(200)
@given(st.lists(st.tuples(st.sampled_from(places(REFERENCE)), VALUES), min_size=1, max_size=3))
def test_every_config_is_loaded_or_refused(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    """No exception but ConfigError comes out, and each of its problems has a place and can be printed."""
    config = copy.deepcopy(REFERENCE)
    for path, value in changes:
        changed(path, value, within=config)
    for problem in problems(config):
        assert problem.line >= 1
        assert problem.message
        assert problem.expected


@given(st.sampled_from(places(REFERENCE)))
def test_every_key_may_be_missing(path: tuple[str | int, ...]) -> None:
    """A key that is taken away is a default, or a problem at the place where it should be."""
    config = copy.deepcopy(REFERENCE)
    inside: Any = config
    for part in path[:-1]:
        inside = inside[part]
    del inside[path[-1]]
    for problem in problems(config):
        assert problem.line >= 1
