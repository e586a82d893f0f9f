"""Which user a request is from: the first configured source that has exactly one non-empty value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from gateway.model.snapshot import Identity, SourceKind
from gateway.wire.request import Request

Source: TypeAlias = Callable[[Request], bytes | None]


def compile_identity(identity: Identity) -> Callable[[Request], bytes | None]:
    """A function that finds the user id (contract section 5, step 0), or None."""
    sources = tuple(_source(source.kind, source.name.encode()) for source in identity.sources)
    if len(sources) == 1:
        return sources[0]

    def user_of(request: Request) -> bytes | None:
        for source in sources:
            user = source(request)
            if user is not None:
                return user
        return None

    return user_of


def noted_fields(identity: Identity) -> set[bytes]:
    """The header fields, in lower case, that the sources look at."""
    names = set()
    for source in identity.sources:
        if source.kind is SourceKind.HEADER:
            names.add(source.name.lower().encode())
        elif source.kind is SourceKind.COOKIE:
            names.add(b"cookie")
    return names


def _source(kind: SourceKind, name: bytes) -> Source:
    match kind:
        case SourceKind.HEADER:
            return _header(name.lower())
        case SourceKind.COOKIE:
            return _cookie(name)
        case SourceKind.QUERY:
            return _query(name)


def _header(name: bytes) -> Source:
    def user_of(request: Request) -> bytes | None:
        values = request.noted and request.noted.get(name)
        return _only(values) if values else None

    return user_of


def _cookie(name: bytes) -> Source:
    def user_of(request: Request) -> bytes | None:
        lines = request.noted and request.noted.get(b"cookie")
        if not lines:
            return None
        pairs = (pair.strip(b" \t").partition(b"=") for line in lines for pair in line.split(b";"))
        return _only([value.strip(b'"') for key, _, value in pairs if key == name])

    return user_of


def _query(name: bytes) -> Source:
    def user_of(request: Request) -> bytes | None:
        if b"?" not in request.target:
            return None
        pairs = (pair.partition(b"=") for pair in request.query.split(b"&"))
        return _only([unquote_to_bytes(value) for key, _, value in pairs if unquote_to_bytes(key) == name])

    return user_of


def _only(values: list[bytes]) -> bytes | None:
    return (values[0] or None) if len(values) == 1 else None
