"""How pydantic reads the values of a config file: one rule per kind of value.

A rule turns what the file holds into a value, says in plain words what was expected otherwise, and
describes itself to editors as JSON Schema. Rules know ranges and spellings; they do not know the keys
that use them, and touch no file themselves: what they need of the world comes in as `Surroundings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gateway.model import units
from gateway.model.snapshot import IdentitySource, SourceKind
from gateway.model.units import (
    Address,
    HttpCall,
    NumberText,
    TcpAddress,
    TokenFile,
    Transition,
    UnixAddress,
    format_duration,
    format_number,
    shorten,
)

FAULT = "gateway"
"""Type of the errors that rules raise: their context holds `message` and `expected`."""

Info = core_schema.ValidationInfo


class Section(BaseModel):
    """A mapping of the config file: frozen, unknown keys refused, defaults written as in the file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


def default(written: Any) -> Any:
    """A key's default, spelled as the file would spell it."""
    return Field(default=written)


def fault(message: str, expected: str) -> PydanticCustomError:
    """The error for one value: what is wrong with it, and what was expected."""
    return PydanticCustomError(FAULT, "{message}; {expected}", {"message": message, "expected": expected})


def _no_tokens(path: Path) -> str:
    raise OSError("there are no files here")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the file's values refer to: its folder, the environment, a reader of token files.

    `read_token` returns a token file's text or raises OSError or ValueError with the reason.
    """

    folder: Path = field(default_factory=Path)
    environ: Mapping[str, str] = field(default_factory=dict)
    read_token: Callable[[Path], str] = _no_tokens

    @classmethod
    def of(cls, info: Info) -> Surroundings:
        """Those of the validation under way; bare ones where none were given."""
        return info.context if isinstance(info.context, Surroundings) else _BARE


_BARE = Surroundings()


class Rule:
    """One kind of value: parse it, say what it expects, describe it as JSON Schema."""

    def expects(self) -> str:
        """What the rule wants, in words that follow "...; "."""
        raise NotImplementedError

    def parse(self, value: Any, info: Info) -> Any:
        """The value, or ValueError with what is wrong (`expects` is added to it), or a `fault`."""
        raise NotImplementedError

    def json_schema(self) -> dict[str, Any]:
        """What an editor should accept."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def parse(value: Any, info: Info) -> Any:
            try:
                return self.parse(value, info)
            except ValueError as error:
                if isinstance(error, PydanticCustomError):
                    raise
                raise fault(str(error), self.expects()) from error

        return core_schema.with_info_plain_validator_function(parse)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.json_schema()


def describe(value: Any) -> str:
    """What a value is, for messages: `'abc' is text`, `a list`."""
    match value:
        case None:
            return "there is no value"
        case bool():
            return f"{str(value).lower()} is a truth value"
        case NumberText() | int() | float():
            return f"{shorten(str(value))} is a number"
        case str():
            return f"{shorten(value)!r} is text"
        case list() | tuple():
            return "this is a list"
        case _:
            return "this is a mapping"


def _number(value: Any) -> Fraction:
    if isinstance(value, NumberText):
        return units.parse_number(value)
    if isinstance(value, Fraction) or (isinstance(value, int) and not isinstance(value, bool)):
        return Fraction(value)
    if isinstance(value, float):
        return units.parse_number(str(value))
    raise ValueError(describe(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        hint = ": put it in quotes to make it text" if isinstance(value, bool) else ""
        raise ValueError(describe(value) + hint)
    return str(value)


@dataclass(frozen=True, slots=True)
class Whole(Rule):
    """A whole number from `minimum` to `maximum`; null for None where `optional`."""

    minimum: int = 0
    maximum: int = 1_000_000_000
    optional: bool = False

    def expects(self) -> str:
        """The range in words."""
        if self.minimum == self.maximum:
            return f"expected {self.minimum}"
        none = ", or null for none" if self.optional else ""
        return f"expected a whole number from {self.minimum} to {self.maximum}{none}"

    def parse(self, value: Any, info: Info) -> int | None:
        """The number."""
        if value is None and self.optional:
            return None
        number = _number(value)
        if number.denominator != 1:
            raise ValueError(f"{value} is not whole")
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"{value} is too {'small' if number < self.minimum else 'large'}")
        return int(number)

    def json_schema(self) -> dict[str, Any]:
        """An integer in the range."""
        kind: Any = ["integer", "null"] if self.optional else "integer"
        return {"type": kind, "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Workers(Rule):
    """A number of processes, or `auto` for None."""

    maximum: int

    def expects(self) -> str:
        """The choices in words."""
        return f"expected auto, or a whole number from 1 to {self.maximum}"

    def parse(self, value: Any, info: Info) -> int | None:
        """The number, None for auto."""
        return None if value == "auto" else Whole(1, self.maximum).parse(value, info)

    def json_schema(self) -> dict[str, Any]:
        """An integer or `auto`."""
        return {"anyOf": [Whole(1, self.maximum).json_schema(), {"const": "auto"}]}


@dataclass(frozen=True, slots=True)
class Exact(Rule):
    """A number from `minimum` to `maximum`, kept exactly as it was written."""

    minimum: int = 0
    maximum: int = 1_000_000_000
    what: str = "a number"

    def expects(self) -> str:
        """The range in words."""
        return f"expected {self.what} from {self.minimum} to {self.maximum}"

    def parse(self, value: Any, info: Info) -> Fraction:
        """The number."""
        number = _number(value)
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"{value} is too {'small' if number < self.minimum else 'large'}")
        return number

    def json_schema(self) -> dict[str, Any]:
        """A number in the range."""
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Proportion(Rule):
    """A number within 0 and 1 as a float: a share or a probability whose last digit does not matter."""

    what: str = "a number"
    minimum: float = 0
    maximum: float = 1

    def expects(self) -> str:
        """The range in words."""
        return f"expected {self.what} from {self.minimum:.10g} to {self.maximum:.10g}"

    def parse(self, value: Any, info: Info) -> float:
        """The number."""
        number = float(Exact(-1_000_000).parse(value, info))
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"{value} is too {'small' if number < self.minimum else 'large'}")
        return number

    def json_schema(self) -> dict[str, Any]:
        """A number in the range."""
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Truth(Rule):
    """`true` or `false`, and none of YAML 1.1's `yes`, `on`, `off`, `n`."""

    optional: bool = False

    def expects(self) -> str:
        """The spelling in words."""
        return "expected true or false"

    def parse(self, value: Any, info: Info) -> bool | None:
        """The truth value."""
        if value is None and self.optional:
            return None
        if not isinstance(value, bool):
            raise ValueError(describe(value))
        return value

    def json_schema(self) -> dict[str, Any]:
        """A boolean."""
        return {"type": ["boolean", "null"] if self.optional else "boolean"}


@dataclass(frozen=True, slots=True)
class Seconds(Rule):
    """A duration in seconds, at least `minimum`; null for None where `optional`."""

    minimum: float = 0.0
    optional: bool = False
    word: str = ""
    """A word that stands for None, e.g. `finish`."""

    def expects(self) -> str:
        """Spelling and range in words."""
        least = f" of at least {format_duration(self.minimum)}" if self.minimum else ""
        none = ", or null for none" if self.optional else ""
        word = f"{self.word} or " if self.word else ""
        return f"expected {word}a duration{least} such as 500ms, 10s, 1m30s, 24h or 30d{none}"

    def parse(self, value: Any, info: Info) -> float | None:
        """The seconds."""
        if (value is None and self.optional) or (self.word and value == self.word):
            return None
        if isinstance(value, (NumberText, int, float)) and not isinstance(value, bool):
            if str(value) != "0":
                raise ValueError(f"{shorten(str(value))} has no unit")
            value = "0"
        seconds = units.parse_duration(_text(value))
        if seconds < self.minimum:
            raise ValueError(f"{value} is too short")
        if seconds > units.MAX_DURATION:
            raise ValueError(f"{value} is longer than ten years")
        return seconds

    def json_schema(self) -> dict[str, Any]:
        """A string of numbers and units."""
        parts = "".join(rf"([0-9]+(\.[0-9]+)?{unit})?" for unit in ("d", "h", "m", "s", "ms"))
        pattern = f"^(0|{parts})$"
        choices: list[dict[str, Any]] = [{"type": "string", "minLength": 1, "pattern": pattern}, {"const": 0}]
        if self.word:
            choices.append({"const": self.word})
        if self.optional:
            choices.append({"type": "null"})
        return {"anyOf": choices}


@dataclass(frozen=True, slots=True)
class Text(Rule):
    """Text that matches `pattern` whole; `words` says what that is. A number is taken as written."""

    pattern: str
    words: str

    def expects(self) -> str:
        """The pattern in words."""
        return self.words

    def parse(self, value: Any, info: Info) -> str:
        """The text."""
        text = _text(value)
        if not re.fullmatch(self.pattern, text, re.DOTALL):
            raise ValueError(f"{shorten(text)!r} is not allowed here" if text else "the text is empty")
        return text

    def json_schema(self) -> dict[str, Any]:
        """A string, or a number that is taken as text."""
        return {"type": ["string", "number"], "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True)
class Folder(Rule):
    """A path, relative to the folder of the file that names it; null for None where `optional`."""

    optional: bool = False

    def expects(self) -> str:
        """The spelling in words."""
        return "expected a path, relative to this file's folder"

    def parse(self, value: Any, info: Info) -> Path | None:
        """The path, joined to the folder."""
        if value is None and self.optional:
            return None
        text = str(value) if isinstance(value, Path) else _text(value)
        if not text or "\0" in text:
            raise ValueError("the path is empty")
        return Surroundings.of(info).folder / text

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": ["string", "null"] if self.optional else "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class SecretFile(Rule):
    """The path of a file with one token in it; the value holds both."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected the path, relative to this file's folder, of a file with the token on one line"

    def parse(self, value: Any, info: Info) -> TokenFile:
        """The token and its path."""
        if isinstance(value, TokenFile):
            return value
        surroundings = Surroundings.of(info)
        path = surroundings.folder / _text(value)
        try:
            return TokenFile(path, surroundings.read_token(path))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "minLength": 1}


VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A reference to an environment variable."""


@dataclass(frozen=True, slots=True)
class SecretUrl(Rule):
    """An http or https URL in which `${NAME}` stands for an environment variable."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected a URL, http:// or https://, that may hold ${VARIABLE}"

    def parse(self, value: Any, info: Info) -> SecretStr:
        """The URL with its variables filled in."""
        environ = Surroundings.of(info).environ

        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if not environ.get(name):
                state = "empty" if name in environ else "not set"
                raise fault(
                    f"the environment variable {name} is {state}", f"expected {name} in the environment"
                )
            return environ[name]

        url = VARIABLE.sub(fill, _text(value))
        if "${" in url:
            raise ValueError("a ${ without the name of a variable and a } behind it")
        try:
            check_url(url)
        except ValueError as error:  # the URL is a secret: say nothing of what is in it
            raise ValueError("this is not a URL") from error
        return SecretStr(url)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "minLength": 1}


def check_url(url: str) -> None:
    """Raise ValueError unless the URL is http or https with a host and holds no blanks."""
    if not re.fullmatch(r"[\x21-\x7e]+", url):
        raise ValueError(f"{shorten(url)!r} is not a URL: it holds blanks or is not ASCII")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shorten(url)!r} is not an http:// or https:// URL")
    _ = parts.port  # raises ValueError beyond 65535


@dataclass(frozen=True, slots=True)
class Call(Rule):
    """An HTTP request that the gateway makes: `POST http://host/path`, or a URL alone."""

    method: str = "GET"
    """The method where none is written."""
    optional: bool = False

    def expects(self) -> str:
        """The spelling in words."""
        return "expected a URL, or a method and a URL as in POST http://host:port/path"

    def parse(self, value: Any, info: Info) -> HttpCall | None:
        """The method and the URL."""
        if isinstance(value, HttpCall) or (value is None and self.optional):
            return value
        words = _text(value).split()
        if len(words) == 1:
            words.insert(0, self.method)
        if len(words) != 2 or not re.fullmatch("[A-Z]{3,10}", words[0]):
            raise ValueError(f"{shorten(str(value))!r} is not a method and a URL")
        check_url(words[1])
        return HttpCall(*words)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        kind: Any = ["string", "null"] if self.optional else "string"
        return {"type": kind, "pattern": "^([A-Z]{3,10} +)?https?://"}


@dataclass(frozen=True, slots=True)
class Listening(Rule):
    """An address to listen on."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected host:port as in 127.0.0.1:8080, or unix:PATH"

    def parse(self, value: Any, info: Info) -> Address:
        """The address."""
        if isinstance(value, (TcpAddress, UnixAddress)):
            return value
        return units.parse_address(_text(value), Surroundings.of(info).folder)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": "^(unix:.+|.+:[0-9]{1,5})$"}


@dataclass(frozen=True, slots=True)
class Endpoint(Rule):
    """Where an upstream listens, normalised to `http://host:port` or `unix:PATH`."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected http://host:port, or unix:PATH"

    def parse(self, value: Any, info: Info) -> str:
        """The endpoint's text."""
        text = _text(value)
        if text.startswith("unix:"):
            return str(units.parse_address(text, Surroundings.of(info).folder))
        scheme, separator, rest = text.partition("://")
        if scheme == "https" and separator:
            raise ValueError("https is not spoken to upstreams: TLS stands at the mesh or the ingress")
        if scheme != "http" or not separator:
            raise ValueError(f"{shorten(text)!r} does not begin with http://")
        rest = rest.removesuffix("/")
        if re.search(r"[/?#@]", rest):
            raise ValueError(f"{shorten(text)!r} holds more than a host and a port")
        address = units.parse_address(rest if re.search(r":[0-9]+$", rest) else f"{rest}:80", Path())
        if isinstance(address, TcpAddress) and address.port == 0:
            raise ValueError("an upstream cannot listen on port 0")
        return f"http://{address}"

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": "^(http://[^/?#@]+/?|unix:.+)$"}


@dataclass(frozen=True, slots=True)
class Scalar(Rule):
    """A single value of any kind: text, a number or a truth value."""

    def expects(self) -> str:
        """The kinds in words."""
        return "expected text, a number, true or false"

    def parse(self, value: Any, info: Info) -> str | int | float | bool:
        """The value, as Python has it."""
        if isinstance(value, (bool, int, float)):
            return value
        if not isinstance(value, NumberText):
            return _text(value)
        number = _number(value)
        return int(number) if number.denominator == 1 else float(number)

    def json_schema(self) -> dict[str, Any]:
        """Any scalar."""
        return {"type": ["string", "number", "boolean"]}


TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # a token as RFC 9110, section 5.6.2, means it
"""Pattern of a header's name."""


@dataclass(frozen=True, slots=True)
class Source(Rule):
    """Where the user id stands: `header:NAME`, `cookie:NAME` or `query:NAME`."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected header:NAME, cookie:NAME or query:NAME"

    def parse(self, value: Any, info: Info) -> IdentitySource:
        """The source; a header's name in lower case."""
        if isinstance(value, IdentitySource):
            return value
        text = _text(value)
        kind, colon, name = text.partition(":")
        if not colon or kind not in list(SourceKind):
            raise ValueError(f"{shorten(text)!r} names no source")
        pattern = r"[^\s=&;#]+" if kind == SourceKind.QUERY else TOKEN
        if not re.fullmatch(pattern, name):
            raise ValueError(f"{shorten(name)!r} cannot be the name of a {kind}")
        if kind == SourceKind.HEADER and name.lower().startswith("x-gateway-"):
            raise ValueError(f"{name} never arrives: a client's own X-Gateway headers are removed")
        return IdentitySource(SourceKind(kind), name.lower() if kind == SourceKind.HEADER else name)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": "^(header|cookie|query):.+$"}


@dataclass(frozen=True, slots=True)
class Arrow(Rule):
    """A transition between phases."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected two phases as in staging -> canary"

    def parse(self, value: Any, info: Info) -> Transition:
        """The transition."""
        if isinstance(value, Transition):
            return value
        parts = [part.strip() for part in _text(value).split("->")]
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"{shorten(str(value))!r} is not a transition")
        return Transition(*parts)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": "^.+->.+$"}


def at_most(limit: float) -> str:
    """A limit in words."""
    return f"at most {format_number(limit)}"


NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
Name = Annotated[str, Text(NAME_PATTERN, "expected a name: up to 64 letters, digits, '_', '.' or '-'")]
"""A name that may stand in headers, metrics and URLs."""
AnyText = Annotated[str, Text(r"[^\0]{0,1000}", "expected text of at most 1000 characters")]
Duration = Annotated[float, Seconds()]
"""Seconds, zero allowed."""
Span = Annotated[float, Seconds(minimum=0.001)]
"""Seconds, longer than zero."""
OptionalSpan = Annotated[float | None, Seconds(minimum=0.001, optional=True)]
"""Seconds, longer than zero; None for none."""
Count = Annotated[int, Whole(1)]
Percentage = Annotated[Fraction, Exact(0, 100, "a percentage")]
Flag = Annotated[bool, Truth()]
