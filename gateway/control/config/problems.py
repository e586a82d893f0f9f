"""Problems of a config, described so that they can be corrected.

A problem has a place, a path, what is wrong and what was expected. This module knows how problems are
located and printed. It knows no rule of the config itself.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.control.config.document import Node

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the root of the config to a value."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault, or one warning. `line` and `column` count from one; line 0 is no place in particular."""

    file: str
    line: int
    column: int
    path: str
    message: str
    expected: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        subject = f" {self.path}:" if self.path else ""
        expected = f"; {self.expected}" if self.expected else ""
        return f"{place}:{subject} {self.message}{expected}"


class ConfigError(Exception):
    """The config cannot be used; `problems` holds every reason.

    `files` are those that were asked for, by absolute path: a change of one may cure it. `emergency` says
    whether the config asks for the emergency nevertheless, None where it cannot be read; `state` is the
    state directory that it names, None where nobody can tell.
    """

    def __init__(
        self,
        problems: tuple[Problem, ...],
        files: frozenset[Path] = frozenset(),
        emergency: bool | None = None,
        state: Path | None = None,
    ) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
        self.files = files
        self.emergency = emergency
        self.state = state


class Spot(enum.Enum):
    """Which place a finding points at: the value at its path, or the key of that value."""

    VALUE = "value"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem that has a path and no place yet."""

    path: KeyPath
    message: str
    expected: str
    spot: Spot = Spot.VALUE


@dataclass(frozen=True, slots=True)
class Part:
    """A file that a config is put together from: its name for people, and what it holds."""

    file: str
    root: Node


def place(finding: Finding, parts: Mapping[str, Part]) -> Problem:
    """The finding with its place.

    `parts` holds the files by the top-level key that they are for; "" is the file for the rest.
    """
    head = str(finding.path[0]) if finding.path else ""
    part = parts.get(head, parts[""])
    mark, found = part.root.locate(finding.path)
    if finding.spot is Spot.KEY or found < len(finding.path):
        mark = part.root.key_mark(finding.path[:found])
    path = path_text(finding.path)
    return Problem(part.file, mark.line, mark.column, path, finding.message, finding.expected)


def path_text(path: KeyPath) -> str:
    """A path as people write it: `routes[0].match.path_prefix`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
