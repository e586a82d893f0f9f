"""What a proxy does with each header field, by name (RFC 9110 section 7.6, RFC 9112 section 6).

Names are looked up in the spelling that was sent, in a table that learns new spellings: lower-casing
every name of every message would cost more than the rest of the parsing.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable


class Rule(enum.IntEnum):
    """What happens to a field. FORWARD is the rule of every name that has no other, and false."""

    FORWARD = 0
    DROP = 1
    HOST = 2
    CONTENT_LENGTH = 3
    TRANSFER_ENCODING = 4
    CONNECTION = 5
    UPGRADE = 6
    EXPECT = 7
    FORWARDED_FOR = 8
    FORWARDED_PROTO = 9
    FORWARDED_HOST = 10
    REQUEST_ID = 11
    OVERRIDE = 12
    OVERRIDE_TOKEN = 13
    NOTED = 14
    """Forwarded, and kept for the identity or a route's match."""
    DATE = 15
    METRIC = 16
    MAX_FORWARDS = 17


_HOP_BY_HOP = dict.fromkeys(
    (
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"te",
        b"trailer",
        b"http2-settings",
    ),
    Rule.DROP,
)

_FRAMING = {
    b"content-length": Rule.CONTENT_LENGTH,
    b"transfer-encoding": Rule.TRANSFER_ENCODING,
    b"connection": Rule.CONNECTION,
    b"upgrade": Rule.UPGRADE,
}
REQUEST_RULES = {
    **_HOP_BY_HOP,
    **_FRAMING,
    b"host": Rule.HOST,
    b"expect": Rule.EXPECT,
    b"max-forwards": Rule.MAX_FORWARDS,
    b"x-forwarded-for": Rule.FORWARDED_FOR,
    b"x-forwarded-proto": Rule.FORWARDED_PROTO,
    b"x-forwarded-host": Rule.FORWARDED_HOST,
    b"x-request-id": Rule.REQUEST_ID,
    b"x-gateway-override": Rule.OVERRIDE,
    b"x-gateway-override-token": Rule.OVERRIDE_TOKEN,
}
RESPONSE_RULES = {
    **_HOP_BY_HOP,
    **_FRAMING,
    b"date": Rule.DATE,
    b"x-request-id": Rule.REQUEST_ID,
    b"x-gateway-metric": Rule.METRIC,
}
_OWN_PREFIX = b"x-gateway-"
_MOST_SPELLINGS = 2048  # a client may not fill the memory with names of its own
_MOST_LINES = 2048
_LONGEST_LINE = 128


_SAYS_NOTHING = re.compile(rb"[^:]+:[ \t]*keep-alive[ \t]*", re.IGNORECASE)  # HTTP/1.1 assumes it
_VALUE_DOES_NOT_MATTER = frozenset((Rule.FORWARD, Rule.DROP, Rule.DATE))


class FieldRules:
    """The rule of each field name, in any spelling.

    `noted` names (lower case) are forwarded and kept. The gateway's own `X-Gateway-*` are dropped
    when they come from outside, and so is a name with underscores that only looks like one with
    a rule: `Transfer_Encoding` is the same name to a CGI-style application.
    """

    __slots__ = ("_rules", "lines", "spellings")

    def __init__(self, rules: dict[bytes, Rule], noted: Iterable[bytes] = ()) -> None:
        self._rules = {**dict.fromkeys(noted, Rule.NOTED), **rules}
        self.spellings: dict[bytes, Rule] = {}
        """Names of fields that are looked at by value, as they were spelled."""
        self.lines: dict[bytes, Rule] = {}
        """Whole lines that came before and whose rule does not depend on their value: most lines of
        most messages repeat, and one look-up is all that they cost."""

    def learn(self, name: bytes, line: bytes) -> Rule:
        """The rule of a field whose line, or whose name's spelling, was not seen yet."""
        rule = self.spellings.get(name)
        if rule is None:
            rule = self._of(name.lower())
            if rule not in _VALUE_DOES_NOT_MATTER and len(self.spellings) < _MOST_SPELLINGS:
                self.spellings[name] = rule
        if rule is Rule.CONNECTION and _SAYS_NOTHING.fullmatch(line):
            rule = Rule.DROP
        if rule in _VALUE_DOES_NOT_MATTER and len(line) <= _LONGEST_LINE:
            if len(self.lines) >= _MOST_LINES:
                self.lines.clear()
            self.lines[line] = rule
        return rule

    def _of(self, name: bytes) -> Rule:
        rule = self._rules.get(name)
        if rule is not None:
            return rule
        if name.startswith(_OWN_PREFIX):
            return Rule.DROP
        if b"_" in name and self._of(name.replace(b"_", b"-")) not in (Rule.FORWARD, Rule.DATE):
            return Rule.DROP
        return Rule.FORWARD


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list of tokens, in lower case (RFC 9110 section 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def without(lines: list[bytes], names: Iterable[bytes]) -> list[bytes]:
    """The `Name: value` lines whose names are not nominated (RFC 9110 section 7.6.1)."""
    nominated = frozenset(names)
    return [line for line in lines if line.partition(b":")[0].lower() not in nominated]
