"""Request heads: bytes in, a parsed request or a refusal out (RFC 9112 sections 2, 3, 5, 6).

llhttp validates the grammar of every head. What it accepts but a proxy must not is checked here: Host,
the form of the target, exactly one framing, versions, Upgrade. Only then is the head sliced into lines,
so both views agree on every line. Nothing is forwarded as received: `wire.headers` sorts the lines into
those that are passed on and those that the gateway writes itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from httptools import HttpRequestParser
from httptools.parser.errors import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade

from gateway.wire.faults import Fault, WireError
from gateway.wire.headers import REQUEST_RULES, FieldRules, Rule, tokens, without

CHUNKED: Final = -1
"""In place of a body's length: the body is chunked."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_MOST_LENGTH_DIGITS = 18
_HOST = re.compile(
    rb"(?:[A-Za-z0-9._~\-]+|\[[0-9A-Fa-f:.]{2,45}\])"
    rb"(?::(?:[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])?)?"
)
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?]+)(.*)", re.DOTALL)
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_LINE_BREAK_ALONE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
# Unpacked, for looking a member up in an enum costs 0.1 microseconds before Python 3.12.
_HOST_RULE: Final = Rule.HOST
_NOTED: Final = Rule.NOTED
_CONNECTION: Final = Rule.CONNECTION
_UPGRADE: Final = Rule.UPGRADE
_DROP: Final = Rule.DROP
LONGEST_REQUEST_LINE: Final = 16_384
"""Bytes: four times what any browser sends; RFC 9112 section 3 asks for at least 8,000."""
_LONGEST_METHOD = 32
_MOST_HOSTS = 1024
_MOST_START_LINES = 1024
_LONGEST_KNOWN_START_LINE = 128
_NOT_NOMINATED = frozenset((b"host", b"content-length", b"transfer-encoding"))
_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))


class _Validator:
    """llhttp without callbacks: it says yes or raises, at C speed."""


class Request:
    """One request head, ready to be forwarded.

    `lines` are the end-to-end fields as `Name: value`, in order; the rest of the head is in the other
    attributes. `length` is the body's length in bytes, or CHUNKED. `noted` has the values of the
    fields that the identity and the routes look at, by lower-case name.
    """

    # What most requests do not have is a default of the class: setting it each time costs more.
    authority: bytes | None = None
    expects_continue = False
    forwarded_for: bytes | None = None
    forwarded_host: bytes | None = None
    forwarded_proto: bytes | None = None
    has_length = False
    host = b""
    length = 0
    noted: dict[bytes, list[bytes]] | None = None
    override: bytes | None = None
    override_token: bytes | None = None
    request_id: bytes | None = None
    websocket = False

    def __init__(self, method: bytes, target: bytes, http10: bool) -> None:
        self.method = method
        self.target = target
        self.http10 = http10
        self.keep_alive = not http10
        self.lines: list[bytes] = []

    def note(self, name: bytes, value: bytes) -> None:
        """Keep a field's value for the identity and the routes."""
        if self.noted is None:
            self.noted = {}
        self.noted.setdefault(name, []).append(value)

    def noted_values(self) -> dict[bytes, bytes]:
        """The noted fields, repeated ones joined as RFC 9110 section 5.3 says."""
        return {name: b", ".join(values) for name, values in (self.noted or {}).items()}

    def __repr__(self) -> str:
        return f"<Request {self.method.decode()} {self.target.decode(errors='replace')}>"

    @property
    def path(self) -> bytes:
        """The target without its query, undecoded."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """The target's query, undecoded."""
        return self.target.partition(b"?")[2]

    @property
    def replayable(self) -> bool:
        """True if sending it twice is as good as once (RFC 9110 section 9.2.2) and needs no body."""
        return not self.length and self.method in _IDEMPOTENT


class RequestReader:
    """Parses request heads under one configuration. `noted` names fields to keep, in lower case."""

    def __init__(self, noted: Iterable[bytes], most_fields: int) -> None:
        names = frozenset(noted)
        self._rules = FieldRules(REQUEST_RULES, names)
        self._noted_with_rules = frozenset(name for name in names if name in REQUEST_RULES)
        self._most_lines = most_fields + 3
        self._hosts: set[bytes] = set()
        self._spare: HttpRequestParser | None = None
        self._start_lines: dict[bytes, tuple[bytes, bytes]] = {}

    def read(self, head: bytes) -> Request:
        """Parse a whole head, up to and including its empty line. Raises WireError."""
        lines = head.split(b"\r\n")
        if len(lines) > self._most_lines:
            raise WireError(Fault.FIELDS_TOO_LARGE, "too many header fields")
        if len(lines[0]) > LONGEST_REQUEST_LINE:
            raise WireError(Fault.URI_TOO_LONG, "the request line is too long")
        spare, self._spare = self._spare, None
        validator = spare or HttpRequestParser(_Validator())
        try:
            validator.feed_data(head)
            whole = True
        except HttpParserUpgrade:
            whole = False  # the head is valid; whether anything is upgraded is decided by `_connection`
        except HttpParserError as error:
            if spare is not None:
                # Perhaps not this head's fault: llhttp takes `Proxy-Connection: close` for a close.
                return self.read(head)
            raise _refusal(lines[0], error) from None
        start = self._start_lines.get(lines[0])
        request = Request(start[0], start[1], False) if start else self._start_line(lines[0])
        del lines[-2:], lines[0]
        self._fields(request, lines)
        if self._noted_with_rules:
            self._note(request, lines)
        # A validator that was promised a body, or told that the connection ends, is of no more use.
        if whole and request.keep_alive and not request.length and not request.has_length:
            self._spare = validator
        return request

    def _fields(self, request: Request, lines: list[bytes]) -> None:  # one flat loop
        known, spellings, forward = self._rules.lines, self._rules.spellings, request.lines
        connection = upgrade = None
        for line in lines:
            rule = known.get(line)
            if rule is None:
                name, _, value = line.partition(b":")
                rule = spellings.get(name) or self._rules.learn(name, line)
                value = value.strip(b" \t")
            if not rule:
                forward.append(line)
            elif rule is _HOST_RULE:
                if request.host:
                    raise WireError(Fault.BAD_REQUEST, "more than one Host")
                request.host = value if value in self._hosts else self._host(value)
            elif rule is _NOTED:
                forward.append(line)
                request.note(name.lower(), value)
            elif rule is _CONNECTION:
                connection = value if connection is None else connection + b"," + value
            elif rule is _UPGRADE:
                upgrade = value if upgrade is None else upgrade + b"," + value
            elif rule is not _DROP:
                _rare_field(request, rule, line, value)
        if not request.host and not request.http10:
            raise WireError(Fault.BAD_REQUEST, "no Host")
        if request.authority is not None:
            request.host = self._host(request.authority)
        if connection is not None:
            _connection(request, connection, upgrade)

    def _note(self, request: Request, lines: list[bytes]) -> None:
        """Keep the values of fields that have a rule of their own as well: a route may go by the Host."""
        for line in lines:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name in self._noted_with_rules:
                # An absolute target's authority replaces the Host (RFC 9112 section 3.2.2).
                request.note(name, request.host if name == b"host" else value.strip(b" \t"))

    def _start_line(self, line: bytes) -> Request:
        request = _start_line(line)
        if not request.http10 and request.authority is None and len(line) <= _LONGEST_KNOWN_START_LINE:
            if len(self._start_lines) >= _MOST_START_LINES:
                self._start_lines.clear()
            self._start_lines[line] = (request.method, request.target)
        return request

    def _host(self, value: bytes) -> bytes:
        if _HOST.fullmatch(value) is None:
            raise WireError(Fault.BAD_REQUEST, "malformed Host")
        if len(self._hosts) < _MOST_HOSTS:
            self._hosts.add(value)
        return value


def is_length(value: bytes) -> bool:
    """True for 1 to 18 decimal digits. `bytes.isdigit` knows ASCII digits only, unlike `str`'s."""
    return value.isdigit() and len(value) <= _MOST_LENGTH_DIGITS


def check_partial_head(data: bytes, previous: bytes) -> None:
    """Refuse an unfinished head as soon as it can no longer become valid.

    `data` is what just arrived and `previous` the byte before it, so that the work stays linear
    however small the pieces are. Without this, `GET / HTTP/1.1\\n\\n` would wait for the time-out.
    """
    # A line feed that was there before was judged with the byte before it.
    if _LINE_BREAK_ALONE.search(data if previous == b"\n" else previous + data):
        raise WireError(Fault.BAD_REQUEST, "bare CR or LF in the head")


def _start_line(line: bytes) -> Request:
    parts = line.split(b" ")
    if len(parts) != 3:
        raise WireError(Fault.BAD_REQUEST, "malformed request line")
    method, target, version = parts
    if method.startswith((b"\r", b"\n")):
        raise WireError(Fault.BAD_REQUEST, "a bare CR or LF before the request line")  # llhttp skips it
    request = Request(method, target, version == b"HTTP/1.0")
    if not request.http10 and version != b"HTTP/1.1":
        raise WireError(Fault.VERSION_NOT_SUPPORTED, "expected HTTP/1.1 or HTTP/1.0")
    if method == b"CONNECT":
        raise WireError(Fault.NOT_IMPLEMENTED, "CONNECT is not offered")
    if method == b"TRACE":
        raise WireError(Fault.METHOD_NOT_ALLOWED, "TRACE is not allowed")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        _absolute_form(request)
    if b"#" in target:
        raise WireError(Fault.BAD_REQUEST, "a fragment in the request target")
    return request


def _absolute_form(request: Request) -> None:
    """RFC 9112 section 3.2.2: the target's authority replaces Host, and origin-form is forwarded."""
    match = _ABSOLUTE.fullmatch(request.target)
    if match is None or match[1] == b"":
        raise WireError(Fault.BAD_REQUEST, "the request target must be a path")
    request.authority = match[1]
    rest = match[2]
    if not rest and request.method == b"OPTIONS":
        rest = b"*"
    request.target = rest if rest.startswith((b"/", b"*")) else b"/" + rest


def _rare_field(request: Request, rule: Rule, line: bytes, value: bytes) -> None:  # noqa: PLR0912
    match rule:
        case Rule.CONTENT_LENGTH:
            _content_length(request, value)
        case Rule.TRANSFER_ENCODING:
            # A tab would be a blank as well, but not every server in the world thinks so.
            _transfer_encoding(request, line.partition(b":")[2].strip(b" "))
        case Rule.EXPECT:
            if not request.http10:
                if value.lower() != b"100-continue":
                    raise WireError(Fault.EXPECTATION_FAILED, "expected Expect: 100-continue or none")
                request.expects_continue = True
        case Rule.MAX_FORWARDS:
            request.lines.append(b"Max-Forwards: " + _hops_left(request, value))
        case Rule.REQUEST_ID:
            usable = request.request_id is None and _REQUEST_ID.fullmatch(value) is not None
            request.request_id = value if usable else b""
        case Rule.FORWARDED_FOR:
            earlier = request.forwarded_for
            request.forwarded_for = value if earlier is None else earlier + b", " + value
        case Rule.FORWARDED_PROTO:
            request.forwarded_proto = value
        case Rule.FORWARDED_HOST:
            request.forwarded_host = value
        case Rule.OVERRIDE:
            request.override = value
        case Rule.OVERRIDE_TOKEN:
            request.override_token = value
        case _:
            raise AssertionError(f"no request field has the rule {rule!r}")


def _hops_left(request: Request, value: bytes) -> bytes:
    """RFC 9110 section 7.6.2: an OPTIONS may be told how far it goes. TRACE never gets this far."""
    if request.method != b"OPTIONS" or not is_length(value):
        return value
    if int(value) == 0:
        raise WireError(Fault.METHOD_NOT_ALLOWED, "this request may not be forwarded any further")
    return b"%d" % (int(value) - 1)


def _content_length(request: Request, value: bytes) -> None:
    if request.has_length or request.length or not is_length(value):
        raise WireError(Fault.BAD_REQUEST, "malformed or repeated Content-Length")
    request.length = int(value)
    request.has_length = True


def _transfer_encoding(request: Request, value: bytes) -> None:
    if request.has_length or request.length:
        raise WireError(Fault.BAD_REQUEST, "more than one framing")
    if request.http10 or value.lower() != b"chunked":
        raise WireError(Fault.BAD_REQUEST, "expected Transfer-Encoding: chunked, in HTTP/1.1")
    request.length = CHUNKED


def _connection(request: Request, value: bytes, upgrade: bytes | None) -> None:
    options = tokens(value)
    if b"close" in options:
        request.keep_alive = False
    nominated = set(options) - _NOT_NOMINATED - {b"close", b"keep-alive", b"upgrade"}
    if nominated:
        request.lines = without(request.lines, nominated)
    if upgrade is not None and b"upgrade" in options:
        # Anything but a WebSocket handshake goes on as a plain request, without the Upgrade.
        wanted = upgrade.lower() == b"websocket" and request.method == b"GET" and not request.http10
        request.websocket = wanted and not request.length


def _refusal(start_line: bytes, error: HttpParserError) -> WireError:
    """Say why llhttp refused, with the status that the start line calls for."""
    method, _, rest = start_line.partition(b" ")
    version = rest.rpartition(b" ")[2]
    if _TOKEN.fullmatch(method) is not None and b" " in rest:
        if len(method) > _LONGEST_METHOD or isinstance(error, HttpParserInvalidMethodError):
            return WireError(Fault.NOT_IMPLEMENTED, "unknown method")
        if _VERSION.fullmatch(version) is not None and version not in (b"HTTP/1.1", b"HTTP/1.0"):
            return WireError(Fault.VERSION_NOT_SUPPORTED, "expected HTTP/1.1 or HTTP/1.0")
    return WireError(Fault.BAD_REQUEST, str(error))
