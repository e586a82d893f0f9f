"""Frozen dataclasses to JSON bytes and back: what travels over the link.

It knows tuples, enums, optional values and nested dataclasses, which is all that `model` uses; anything else
is a programming error and raises TypeError. How a type travels is found out once: workers report several
times a second, and requests wait for it.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import operator
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_PLAIN = frozenset((int, float, str, bool))


def encode(value: object) -> bytes:
    """Serialise a dataclass of `model` as compact JSON."""
    kind: Any = type(value)
    return json.dumps(_flattener(kind)(value), separators=(",", ":")).encode()


def decode(kind: type[T], data: bytes) -> T:
    """Rebuild a `kind` from `encode`'s bytes. Raises ValueError or TypeError on foreign data."""
    build: Callable[[Any], T] = _builder(kind)  # type: ignore[arg-type]  # a class is hashable
    return build(json.loads(data))


def _as_it_is(raw: Any) -> Any:
    return raw


@cache
def _flattener(kind: Any) -> Callable[[Any], Any]:
    """What makes of a `kind` something that JSON has; `_as_it_is` where it is that already."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _tuple_flattener(typing.get_args(kind))
    if origin in (typing.Union, types.UnionType):
        inner = _flattener(_present(kind))
        return inner if inner is _as_it_is else lambda value: None if value is None else inner(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass_flattener(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return operator.attrgetter("value")
    if kind in _PLAIN:
        return _as_it_is
    raise TypeError(f"{kind!r} cannot travel over the link")


def _tuple_flattener(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(args) == 2 and args[1] is Ellipsis:
        item = _flattener(args[0])
        return item if item is _as_it_is else lambda value: [item(part) for part in value]
    items = [_flattener(arg) for arg in args]
    if all(item is _as_it_is for item in items):
        return _as_it_is
    return lambda value: [flatten(part) for flatten, part in zip(items, value, strict=True)]


def _dataclass_flattener(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    fields = [(field.name, _flattener(hints[field.name])) for field in dataclasses.fields(kind)]
    return lambda value: [flatten(getattr(value, name)) for name, flatten in fields]


@cache
def _builder(kind: Any) -> Callable[[Any], Any]:
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _tuple_builder(typing.get_args(kind))
    if origin in (typing.Union, types.UnionType):
        inner = _builder(_present(kind))
        return lambda raw: None if raw is None else inner(raw)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass_builder(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind
    if kind in _PLAIN:
        return _as_it_is
    raise TypeError(f"{kind!r} cannot travel over the link")


def _tuple_builder(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(args) == 2 and args[1] is Ellipsis:
        item = _builder(args[0])
        return tuple if item is _as_it_is else lambda raw: tuple([item(part) for part in raw])
    items = [_builder(arg) for arg in args]
    return lambda raw: tuple(build(part) for build, part in zip(items, raw, strict=True))


def _dataclass_builder(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    fields = [_builder(hints[field.name]) for field in dataclasses.fields(kind)]
    return lambda raw: kind(*[build(part) for build, part in zip(fields, raw, strict=True)])


def _present(optional: Any) -> Any:
    """The type of a value that may be None."""
    return next(arg for arg in typing.get_args(optional) if arg is not types.NoneType)
