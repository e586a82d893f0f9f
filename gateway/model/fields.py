"""How pydantic reads the values of a config file: one rule per kind of value.

A rule converts what the file holds into a value, says in plain words what was expected instead, and
describes itself to editors as JSON Schema. Rules know ranges and spellings, but not the keys that use
them. They touch no files; what they need from outside comes in as `Surroundings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gateway.model import units
from gateway.model.units import (
    NumberText,
    Transition,
    format_duration,
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


def text_of(value: Any) -> str:
    """The text that a value is; ValueError says what it is instead."""
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
    """A duration in seconds, `minimum` to `maximum`; null for None where `optional`."""

    minimum: float = 0.0
    maximum: float = units.MAX_DURATION
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
        seconds = units.parse_duration(text_of(value))
        if seconds < self.minimum:
            raise ValueError(f"{value} is too short")
        if seconds > self.maximum:
            most = "ten years" if self.maximum == units.MAX_DURATION else format_duration(self.maximum)
            raise ValueError(f"{value} is longer than {most}")
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
        text = text_of(value)
        if not re.fullmatch(self.pattern, text, re.DOTALL):
            raise ValueError(f"{shorten(text)!r} is not allowed here" if text else "the text is empty")
        return text

    def json_schema(self) -> dict[str, Any]:
        """A string, or a number that is taken as text."""
        return {"type": ["string", "number"], "pattern": f"^(?:{self.pattern})$"}


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
            return text_of(value)
        number = _number(value)
        return int(number) if number.denominator == 1 else float(number)

    def json_schema(self) -> dict[str, Any]:
        """Any scalar."""
        return {"type": ["string", "number", "boolean"]}


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
        parts = [part.strip() for part in text_of(value).split("->")]
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"{shorten(str(value))!r} is not a transition")
        return Transition(*parts)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": "^.+->.+$"}


NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
Name = Annotated[str, Text(NAME_PATTERN, "expected a name: up to 64 letters, digits, '_', '.' or '-'")]
"""A name that may stand in headers, metrics and URLs."""
AnyText = Annotated[str, Text(r"[^\x00]{0,1000}", "expected text of at most 1000 characters")]
Duration = Annotated[float, Seconds()]
"""Seconds, zero allowed."""
Span = Annotated[float, Seconds(minimum=0.001)]
"""Seconds, longer than zero."""
OptionalSpan = Annotated[float | None, Seconds(minimum=0.001, optional=True)]
"""Seconds, longer than zero; None for none."""
Count = Annotated[int, Whole(1)]
Percentage = Annotated[Fraction, Exact(0, 100, "a percentage")]
Flag = Annotated[bool, Truth()]
