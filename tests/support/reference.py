"""What a client validly sent: the requests that RFC 9112 finds in a stream of bytes.

The other half of the egress oracle: an upstream may get fewer requests than these (the gateway refuses
more than it must), but never another one, never one more, and never another body. It reads the whole
stream at once, slowly and plainly, and stops at the first byte that is not allowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/1\.([01])")
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_LENGTH = re.compile(rb"[0-9]+")
_EXTENSION = (
    rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb'|"(?:[^"\\\r\n]|\\[^\r\n])*"))?'
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:" + _EXTENSION + rb")*")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+;=]+)(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"[hH][tT][tT][pP]://([^/?#]+)([/?][^#]*)?")


@dataclass(frozen=True, slots=True)
class Sent:
    """One valid request. `target` in origin-form."""

    method: bytes
    target: bytes
    body: bytes


class _Invalid(Exception):
    """From here on the bytes are no valid HTTP/1.1, or not complete."""


def valid_requests(data: bytes) -> list[Sent]:
    """The complete and valid requests at the beginning of `data`, in order."""
    found: list[Sent] = []
    at = 0
    try:
        while True:
            while data.startswith(b"\r\n", at):
                at += 2
            sent, at, last = _request(data, at)
            found.append(sent)
            if last:
                return found
    except _Invalid:
        return found


def _request(data: bytes, at: int) -> tuple[Sent, int, bool]:
    line, at = _line(data, at)
    start = _REQUEST_LINE.fullmatch(line)
    if start is None:
        raise _Invalid
    method, target, minor = start.groups()
    fields: dict[bytes, list[bytes]] = {}
    at = _fields(data, at, fields)
    hosts = fields.get(b"host", [])
    if (
        len(hosts) > 1
        or (minor == b"1" and not hosts)
        or any(_HOST.fullmatch(host) is None for host in hosts)
    ):
        raise _Invalid
    body, at = _body(data, at, fields, minor)
    options = b",".join(fields.get(b"connection", [])).lower().split(b",")
    last = minor == b"0" or b"close" in [option.strip(b" \t") for option in options]
    return Sent(method, _origin_form(method, target), body), at, last


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    line = data[at:end]
    if end < 0 or b"\n" in line or b"\r" in line:
        raise _Invalid
    return line, end + 2


def _fields(data: bytes, at: int, fields: dict[bytes, list[bytes]]) -> int:
    while True:
        line, at = _line(data, at)
        if not line:
            return at
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise _Invalid
        fields.setdefault(match[1].lower(), []).append(match[2])


def _body(data: bytes, at: int, fields: dict[bytes, list[bytes]], minor: bytes) -> tuple[bytes, int]:
    codings, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if codings is not None:
        if lengths is not None or minor == b"0" or [coding.lower() for coding in codings] != [b"chunked"]:
            raise _Invalid
        return _chunks(data, at)
    if lengths is None:
        return b"", at
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise _Invalid
    return _counted(data, at, int(lengths[0]))


def _chunks(data: bytes, at: int) -> tuple[bytes, int]:
    body = b""
    while True:
        line, at = _line(data, at)
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise _Invalid
        size = int(match[1], 16)
        if size == 0:
            return body, _fields(data, at, {})
        content, at = _counted(data, at, size)
        body += content
        if data[at : at + 2] != b"\r\n":
            raise _Invalid
        at += 2


def _counted(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(data):
        raise _Invalid
    return data[at : at + length], at + length


def _origin_form(method: bytes, target: bytes) -> bytes:
    if target.startswith(b"/") and b"#" not in target:
        return target
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None or _HOST.fullmatch(match[1]) is None:
        raise _Invalid
    rest = match[2] or (b"*" if method == b"OPTIONS" else b"/")
    return rest if rest[:1] in (b"/", b"*") else b"/" + rest
