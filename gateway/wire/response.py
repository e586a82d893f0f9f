"""Response heads: bytes in, a parsed response or a refusal out (RFC 9112 sections 4, 6).

The counterpart of `wire.request`, with an upstream's faults as 502. How the body ends also depends on the
request; `body_length` decides it for one exchange.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import HttpResponseParser
from httptools.parser.errors import HttpParserError, HttpParserUpgrade

from gateway.wire.faults import Fault, WireError
from gateway.wire.headers import RESPONSE_RULES, FieldRules, Rule, tokens, without
from gateway.wire.request import CHUNKED, is_length

UNTIL_CLOSE: Final = -2
"""In place of a body's length: the body ends with the connection."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_MOST_STATUS_LINES = 256
# Unpacked, for looking a member up in an enum costs 0.1 microseconds before Python 3.12.
_DROP: Final = Rule.DROP
_CONNECTION: Final = Rule.CONNECTION
_CONTENT_LENGTH: Final = Rule.CONTENT_LENGTH
_DATE: Final = Rule.DATE
_NOT_NOMINATED: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"close", b"keep-alive", b"upgrade")
)


class _Validator:
    """llhttp without callbacks: it says yes or raises, at C speed."""


class Response:
    """One response head, ready to be forwarded.

    `lines` are the end-to-end fields as `Name: value`, without framing; `length` is what
    Content-Length said, CHUNKED, or None for neither.
    """

    # What most responses do not have is a default of the class: setting it each time costs more.
    has_date = False
    length: int | None = None
    metric: bytes | None = None
    request_id: bytes | None = None
    upgrade: bytes | None = None

    def __init__(self, status: int, reason: bytes, http10: bool) -> None:
        self.status = status
        self.reason = reason
        self.http10 = http10
        self.keep_alive = not http10
        self.lines: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Response {self.status} length={self.length}>"

    def body_length(self, method: bytes) -> int:
        """Bytes of body that follow: a count, CHUNKED or UNTIL_CLOSE (RFC 9112 section 6.3)."""
        if method == b"HEAD" or self.status < 200 or self.status in (204, 304):
            return 0
        return UNTIL_CLOSE if self.length is None else self.length


class ResponseReader:
    """Parses response heads."""

    def __init__(self) -> None:
        self._rules = FieldRules(RESPONSE_RULES)
        self._status_lines: dict[bytes, tuple[int, bytes, bool]] = {}

    def read(self, head: bytes) -> Response:
        """Parse a whole head, up to and including its empty line. Raises WireError with BAD_GATEWAY."""
        try:
            HttpResponseParser(_Validator()).feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            raise _bad(str(error)) from None
        lines = head.split(b"\r\n")
        response = Response(*(self._status_lines.get(lines[0]) or self._status_line(lines[0])))
        del lines[-2:], lines[0]
        self._fields(response, lines)
        return response

    def _status_line(self, line: bytes) -> tuple[int, bytes, bool]:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise _bad("malformed status line")
        minor, status, reason = match.groups()
        parsed = (int(status), reason or b"", minor == b"0")
        if len(self._status_lines) < _MOST_STATUS_LINES:
            self._status_lines[line] = parsed
        return parsed

    def _fields(self, response: Response, lines: list[bytes]) -> None:
        known, spellings, forward = self._rules.lines, self._rules.spellings, response.lines
        connection = None
        for line in lines:
            rule = known.get(line)
            if rule is None:
                name, _, value = line.partition(b":")
                rule = spellings.get(name) or self._rules.learn(name, line)
                value = value.strip(b" \t")
            if not rule:
                forward.append(line)
            elif rule is _DATE:
                response.has_date = True
                forward.append(line)
            elif rule is not _DROP:
                if rule is _CONNECTION:
                    connection = value if connection is None else connection + b"," + value
                elif rule is _CONTENT_LENGTH:
                    _content_length(response, value)
                else:
                    _rare_field(response, rule, value)
        if connection is not None:
            options = tokens(connection)
            if b"close" in options:
                response.keep_alive = False
            nominated = set(options) - _NOT_NOMINATED
            if nominated:
                response.lines = without(response.lines, nominated)


def _rare_field(response: Response, rule: Rule, value: bytes) -> None:
    match rule:
        case Rule.TRANSFER_ENCODING:
            _transfer_encoding(response, value)
        case Rule.UPGRADE:
            response.upgrade = value
        case Rule.METRIC:
            response.metric = value if response.metric is None else response.metric + b"," + value
        case Rule.REQUEST_ID:
            response.request_id = value
        case _:
            raise AssertionError(f"no response field has the rule {rule!r}")


def _content_length(response: Response, value: bytes) -> None:
    if response.length is not None:
        raise _bad("more than one framing field")
    if not is_length(value):
        raise _bad("malformed Content-Length")
    response.length = int(value)


def _transfer_encoding(response: Response, value: bytes) -> None:
    if response.length is not None:
        raise _bad("more than one framing field")
    if response.http10 or value.lower() != b"chunked":
        raise _bad("expected Transfer-Encoding: chunked, in HTTP/1.1")
    response.length = CHUNKED


def _bad(detail: str) -> WireError:
    return WireError(Fault.BAD_GATEWAY, f"the upstream's answer is not valid HTTP: {detail}")
