"""Response heads: bytes in, a parsed response or a refusal out (RFC 9112 sections 4, 6).

The mirror of `wire.request`, with an upstream's faults as 502. How the body ends depends on the
request too; `body_length` says it for one exchange.
"""

from __future__ import annotations

import re

from httptools import HttpResponseParser
from httptools.parser.errors import HttpParserError, HttpParserUpgrade

from gateway.wire.faults import Fault, WireError
from gateway.wire.headers import RESPONSE_RULES, FieldRules, Rule, tokens, without
from gateway.wire.request import CHUNKED

UNTIL_CLOSE = -2
"""In place of a body's length: the body ends with the connection."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_NOT_NOMINATED = frozenset((b"content-length", b"transfer-encoding", b"close", b"keep-alive", b"upgrade"))


class _Validator:
    """llhttp without callbacks: it says yes or raises, at C speed."""


class Response:
    """One response head, ready to be forwarded.

    `lines` are the end-to-end fields as `Name: value`, without framing; `length` is what
    Content-Length said, CHUNKED, or None for neither.
    """

    __slots__ = ("has_date", "http10", "keep_alive", "length", "lines", "metric", "reason", "request_id",
                 "status", "upgrade")  # fmt: skip

    def __init__(self, status: int, reason: bytes, http10: bool) -> None:
        self.status = status
        self.reason = reason
        self.http10 = http10
        self.keep_alive = not http10
        self.length: int | None = None
        self.lines: list[bytes] = []
        self.has_date = False
        self.metric: bytes | None = None
        self.request_id: bytes | None = None
        self.upgrade: bytes | None = None

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

    def read(self, head: bytes) -> Response:
        """Parse a whole head, up to and including its empty line. Raises WireError with BAD_GATEWAY."""
        try:
            HttpResponseParser(_Validator()).feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            raise _bad(str(error)) from None
        lines = head.split(b"\r\n")
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            raise _bad("malformed status line")
        minor, status, reason = match.groups()
        response = Response(int(status), reason or b"", minor == b"0")
        self._fields(response, lines[1:-2])
        return response

    def _fields(self, response: Response, lines: list[bytes]) -> None:
        spellings, forward = self._rules.spellings, response.lines
        connection = None
        for line in lines:
            name, _, value = line.partition(b":")
            rule = spellings.get(name)
            if rule is None:
                rule = self._rules.learn(name)
            value = value.strip(b" \t")
            if rule is Rule.FORWARD:
                forward.append(b"%b: %b" % (name, value))
            elif rule is Rule.DATE:
                response.has_date = True
                forward.append(b"%b: %b" % (name, value))
            elif rule is Rule.CONTENT_LENGTH or rule is Rule.TRANSFER_ENCODING:
                _frame(response, rule, value)
            elif rule is Rule.CONNECTION:
                connection = value if connection is None else connection + b"," + value
            elif rule is Rule.UPGRADE:
                response.upgrade = value
            elif rule is Rule.METRIC:
                response.metric = value if response.metric is None else response.metric + b"," + value
            elif rule is Rule.REQUEST_ID:
                response.request_id = value
        if connection is not None and connection != b"keep-alive":
            options = tokens(connection)
            if b"close" in options:
                response.keep_alive = False
            nominated = set(options) - _NOT_NOMINATED
            if nominated:
                response.lines = without(response.lines, nominated)


def _frame(response: Response, rule: Rule, value: bytes) -> None:
    if response.length is not None:
        raise _bad("more than one framing field")
    if rule is Rule.TRANSFER_ENCODING:
        if response.http10 or value.lower() != b"chunked":
            raise _bad("expected Transfer-Encoding: chunked, in HTTP/1.1")
        response.length = CHUNKED
    elif _LENGTH.fullmatch(value) is None:
        raise _bad("malformed Content-Length")
    else:
        response.length = int(value)


def _bad(detail: str) -> WireError:
    return WireError(Fault.BAD_GATEWAY, f"the upstream's answer is not valid HTTP: {detail}")
