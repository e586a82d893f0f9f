"""Frozen dataclasses to JSON bytes and back: what travels over the link.

It knows tuples, enums, optional values and nested dataclasses, which is all that `model` uses;
anything else is a programming error and raises TypeError.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def encode(value: object) -> bytes:
    """Serialise a dataclass of `model` as compact JSON."""
    return json.dumps(_plain(value), separators=(",", ":")).encode()


def decode(kind: type[T], data: bytes) -> T:
    """Rebuild a `kind` from `encode`'s bytes. Raises ValueError or TypeError on foreign data."""
    build: Callable[[Any], T] = _builder(kind)  # type: ignore[arg-type]  # a class is hashable
    return build(json.loads(data))


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _builder(kind: Any) -> Callable[[Any], Any]:
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _tuple_builder(typing.get_args(kind))
    if origin in (typing.Union, types.UnionType):
        inner = _builder(next(arg for arg in typing.get_args(kind) if arg is not types.NoneType))
        return lambda raw: None if raw is None else inner(raw)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass_builder(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind
    if kind in (int, float, str, bool):
        return _identity
    raise TypeError(f"{kind!r} cannot travel over the link")


def _identity(raw: Any) -> Any:
    return raw


def _tuple_builder(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(args) == 2 and args[1] is Ellipsis:
        item = _builder(args[0])
        return lambda raw: tuple(item(part) for part in raw)
    items = [_builder(arg) for arg in args]
    return lambda raw: tuple(build(part) for build, part in zip(items, raw, strict=True))


def _dataclass_builder(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    fields = [_builder(hints[field.name]) for field in dataclasses.fields(kind)]
    return lambda raw: kind(*(build(part) for build, part in zip(fields, raw, strict=True)))
