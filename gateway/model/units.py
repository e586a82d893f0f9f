"""The values that a config file writes as text: durations, exact numbers, comparisons, addresses.

Pure parsing and printing: text in, value out, ValueError with the reason otherwise. It does not know
which key holds which value, nor what range makes sense; see `model.fields` and `model.config`.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

MAX_NUMBER_LENGTH = 32
"""Characters of a number. Longer ones are slips or attacks (`1e999999999` would need gigabytes)."""
MAX_EXPONENT = 18

_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE]([-+]?[0-9]+))?")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {
    "d": Fraction(86_400),
    "h": Fraction(3_600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
}
_UNITS = tuple(_SECONDS)
MAX_DURATION = 3_650 * 86_400.0
"""Ten years in seconds: anything longer is a slip, and `null` says "none"."""


class NumberText(str):
    """A number as it was written, so that a name stays `1e3` and a percentage stays exact."""

    __slots__ = ()


def is_number(text: str) -> bool:
    """True for a decimal number: no leading zeros, no `0x`, no `_`, no infinities (YAML 1.2 core)."""
    return _NUMBER.fullmatch(text) is not None


def parse_number(text: str) -> Fraction:
    """The exact value of a decimal number. Raises ValueError for anything else."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a decimal number")
    if len(text) > MAX_NUMBER_LENGTH or abs(int(match[1] or 0)) > MAX_EXPONENT:
        raise ValueError(f"{shorten(text)!r} has too many digits")
    return Fraction(Decimal(text))


def format_number(value: Fraction | float) -> str:
    """The shortest usual text of a number: `1`, `0.5`, `33.3333`."""
    return f"{float(value):.6g}"


def parse_duration(text: str) -> float:
    """Seconds of `500ms`, `10s`, `1m30s`, `24h`, `30d`. Raises ValueError for anything else.

    Units go from large to small and none stands twice. `0` alone needs no unit.
    """
    if text == "0":
        return 0.0
    if len(text) > MAX_NUMBER_LENGTH or not _DURATION.fullmatch(text):
        raise ValueError(f"{shorten(text)!r} is not a duration")
    parts = _DURATION_PART.findall(text)
    order = [_UNITS.index(unit) for _, unit in parts]
    if order != sorted(set(order)):
        raise ValueError(f"{text!r} does not go from large units to small ones")
    return float(sum((Fraction(Decimal(number)) * _SECONDS[unit] for number, unit in parts), Fraction()))


def format_duration(seconds: float) -> str:
    """A duration as a config file would write it: `1m30s`, `24h`, `250ms`."""
    left = round(seconds * 1000)
    if left == 0:
        return "0s"
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def shorten(text: str, limit: int = 60) -> str:
    """The text, cut to be quoted in a message."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class Operator(enum.StrEnum):
    """The comparisons that a config file may write."""

    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="

    @property
    def is_upper_bound(self) -> bool:
        """True where smaller values satisfy the comparison."""
        return self in (Operator.LESS, Operator.AT_MOST)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`< 0.01`: an operator and its limit (durations in seconds)."""

    operator: Operator
    value: float

    def __str__(self) -> str:
        return f"{self.operator} {format_number(self.value)}"

    def holds(self, value: float) -> bool:
        """True if `value` satisfies the comparison."""
        match self.operator:
            case Operator.LESS:
                return value < self.value
            case Operator.AT_MOST:
                return value <= self.value
            case Operator.GREATER:
                return value > self.value
            case Operator.AT_LEAST:
                return value >= self.value


_COMPARISON = re.compile(r"(<=|>=|<|>)\s*(\S+)")


def split_comparison(text: str) -> tuple[Operator, str]:
    """`> 0.95` as (operator, text of the limit). Raises ValueError for anything else."""
    match = _COMPARISON.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{shorten(text)!r} is not a comparison")
    return Operator(match[1]), match[2]


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True if only processes of this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def is_local(self) -> bool:
        """Always true: only processes of this machine can reach it."""
        return True


Address = TcpAddress | UnixAddress

MAX_UNIX_PATH = 107
"""Bytes that `sockaddr_un` holds beside the final NUL (unix(7))."""
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*)*\.?"
)


def parse_address(text: str, folder: Path) -> Address:
    """`host:port`, `[v6]:port` or `unix:PATH` (relative to `folder`). Raises ValueError otherwise."""
    if text.startswith("unix:"):
        return _unix_address(text.removeprefix("unix:"), folder)
    if "://" in text:
        raise ValueError(f"{shorten(text)!r} is a URL, no address")
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{shorten(text)!r} does not end in a port from 0 to 65535")
    return TcpAddress(parse_host(host), int(port))


def parse_host(text: str) -> str:
    """A host name, an IPv4 address, or an IPv6 address in brackets. Raises ValueError otherwise."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError as error:
            raise ValueError(f"{shorten(text)!r} is not an IPv6 address") from error
    if ":" in text:
        raise ValueError(f"{shorten(text)!r} needs brackets: an IPv6 address is written [::1]:8080")
    if not _HOST.fullmatch(text):
        raise ValueError(f"{shorten(text)!r} is not a host name or an IP address")
    if text.replace(".", "").isdigit():
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError as error:
            raise ValueError(f"{shorten(text)!r} is not an IPv4 address") from error
    return text


def _unix_address(path: str, folder: Path) -> UnixAddress:
    if not path or "\0" in path:
        raise ValueError("unix: needs a path behind it")
    absolute = str(folder / path)
    if len(absolute.encode()) > MAX_UNIX_PATH:
        raise ValueError(f"the socket's path is longer than the {MAX_UNIX_PATH} bytes that Linux allows")
    return UnixAddress(absolute)


@dataclass(frozen=True, slots=True)
class Transition:
    """A step of the rollout from one phase to the next: `staging -> canary`."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request that the gateway makes itself: a test or a hook."""

    method: str
    url: str

    def __str__(self) -> str:
        return f"{self.method} {self.url}"

    @property
    def public(self) -> str:
        """The call without what may be a secret: user information, query and fragment of the URL."""
        scheme, found, rest = re.split(r"[?#]", self.url, maxsplit=1)[0].partition("://")
        authority, slash, path = rest.partition("/")
        return f"{self.method} {scheme}{found}{authority.rpartition('@')[2]}{slash}{path}"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A bearer token and the file that it was read from. The secret stays out of every `repr`."""

    path: Path
    secret: str = field(repr=False)
