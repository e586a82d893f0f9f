"""Values of `model` as JSON text and back: what the store keeps for years.

Fields are stored by name, so that a later version may add some. A missing field takes its default, an
unknown one is ignored. A member of a union includes its class's name. It knows no particular class.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any, TypeVar

KIND = "kind_of"
"""The key that names the class of a union's member; no field is called so."""

T = TypeVar("T")


def to_json(value: object) -> str:
    """A dataclass as compact JSON text. Raises TypeError for what JSON and `from_json` cannot carry."""
    return json.dumps(_plain(value), separators=(",", ":"))


def from_json(kind: type[T], text: str) -> T:
    """A `kind` again. Raises ValueError, KeyError or TypeError where the text does not say one."""
    build: Callable[[Any], T] = _builder(kind)  # type: ignore[arg-type]  # a class is hashable
    return build(json.loads(text))


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Fraction):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {KIND: type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


@cache
def _builder(kind: Any) -> Callable[[Any], Any]:
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _tuple_builder(typing.get_args(kind))
    if origin in (typing.Union, types.UnionType):
        return _union_builder(typing.get_args(kind))
    if dataclasses.is_dataclass(kind):
        return _dataclass_builder(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum | Fraction):
        return kind
    if kind in (int, float, str, bool, types.NoneType) or origin is not None:
        return _as_it_is
    raise TypeError(f"{kind!r} cannot be stored")


def _as_it_is(raw: Any) -> Any:
    return raw


def _tuple_builder(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(args) != 2 or args[1] is not Ellipsis:
        raise TypeError(f"tuple{args!r} cannot be stored: only tuples of one kind")
    item = _builder(args[0])
    return lambda raw: tuple(item(part) for part in raw)


def _union_builder(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    members = [arg for arg in args if arg is not types.NoneType]
    if len(members) == 1:
        inner = _builder(members[0])
        return lambda raw: None if raw is None else inner(raw)
    builders = {member.__name__: _builder(member) for member in members}
    return lambda raw: builders[raw[KIND]](raw)


def _dataclass_builder(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    builders = {field.name: _builder(hints[field.name]) for field in dataclasses.fields(kind)}

    def build(raw: Any) -> Any:
        return kind(**{name: make(raw[name]) for name, make in builders.items() if name in raw})

    return build
