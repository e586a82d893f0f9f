"""Loads a config file into a `Config`, or reports every reason why not.

The only way to load a config, for `run`, `check` and every reload: read, parse, validate, check across
keys. It reads the file, its `deployment_file` and the token files once each, and remembers their
content, so that the same bytes can be loaded again without the files. It does not apply the config.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.control.config import diagnosis, document, emergency
from gateway.control.config.cautions import cautions
from gateway.control.config.crosscheck import faults
from gateway.control.config.document import DocumentError, Node
from gateway.control.config.problems import ConfigError, Finding, KeyPath, Part, Problem, Spot, place
from gateway.control.config.reading import read_file
from gateway.model.config import DEFAULT_STATE_DIRECTORY, Config
from gateway.model.fields import Surroundings

__all__ = ["ConfigError", "Loaded", "Problem", "load", "load_sources"]

MAX_CONFIG_BYTES = 1_000_000
"""A config is read and parsed in well under a second up to here."""
MAX_TOKEN_BYTES = 4096
_MOST_PRUNINGS = 8
EMERGENCY_VARIABLE = "GATEWAY_EMERGENCY"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config and where it came from.

    `sources` holds every file that was read, by absolute path: the config, its deployment_file and the
    token files. `digest` is the SHA-256 over all of them in hex.
    """

    config: Config
    path: Path
    digest: str
    sources: Mapping[Path, bytes] = field(repr=False)
    warnings: tuple[Problem, ...]


def load(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read the config at `path`. Raises ConfigError with every problem that was found."""
    return _Loading(path, environ, read_file).run()


def load_sources(path: Path, sources: Mapping[Path, bytes], environ: Mapping[str, str]) -> Loaded:
    """Load again what was read before (`Loaded.sources`), whatever the files hold now."""

    def recall(source: Path, limit: int) -> bytes:
        try:
            return sources[source]
        except KeyError:
            raise FileNotFoundError(f"{source} was not read before") from None

    return _Loading(path, environ, recall).run()


class _Loading:
    """One run of the loading path: collects sources and problems on its way."""

    def __init__(self, path: Path, environ: Mapping[str, str], read: Callable[[Path, int], bytes]) -> None:
        self._path = path
        self._folder = Path(os.path.abspath(path)).parent
        self._environ = environ
        self._read_file = read
        self._sources: dict[Path, bytes] = {}
        self._asked: set[Path] = set()
        self._problems: list[Problem] = []
        self._parts: dict[str, Part] = {}

    def run(self) -> Loaded:
        """The whole path, or ConfigError."""
        values = self._values()
        if values is None:
            raise self._error()
        try:
            config = self._validated(values)
        except ValidationError as error:
            found = list(diagnosis.findings(error, values))
            self._report(found)
            self._check_rest(values, [finding.path for finding in found])
            raise self._error() from error
        self._report(faults(config, values))
        if self._problems:
            raise self._error()
        noted = tuple(place(finding, self._parts) for finding in cautions(config, values))
        return Loaded(config, self._path, self._digest(), self._sources, noted)

    def _error(self) -> ConfigError:
        return ConfigError(
            tuple(sorted(self._problems, key=_by_place)),
            frozenset(self._asked),
            self._emergency(),
            self._state_directory(),
        )

    def _emergency(self) -> bool | None:
        """Whether the config asks for the emergency, refused as it is; None where nobody can read it."""
        data = self._sources.get(self._folder / self._path.name)
        if self._environment_asks():
            return True
        if data is None:
            return None
        part = self._parts.get("")
        return emergency.asks(data, None if part is None else part.root)

    def _state_directory(self) -> Path | None:
        """Where the state lies, as the config says; None where it cannot be made out."""
        part = self._parts.get("")
        state = {} if part is None else part.root.plain().get("state", {})
        name = state.get("directory", DEFAULT_STATE_DIRECTORY) if isinstance(state, dict) else None
        return self._folder / name if part is not None and isinstance(name, str) else None

    def _values(self) -> dict[str, Any] | None:
        """What the files say, put together; None where the config cannot be read at all."""
        shown = str(self._path)
        try:
            root = self._document(self._path.name, shown)
        except (OSError, ValueError) as error:
            self._problems.append(Problem(shown, 0, 0, "", _reason(error), "expected a config file"))
            return None
        if root is None:
            return None
        self._parts[""] = Part(shown, root)
        values: dict[str, Any] = root.plain()
        if values.get("deployment_file") is not None:
            self._join_deployment(values)
        if self._environment_asks():
            values["emergency"] = True
        return values

    def _environment_asks(self) -> bool:
        return emergency.is_yes(self._environ.get(EMERGENCY_VARIABLE, ""))

    def _join_deployment(self, values: dict[str, Any]) -> None:
        """Put what the deployment_file holds under `deployment`."""
        name = values["deployment_file"]
        if "deployment" in values:
            wrong = "deployment is written here and in deployment_file"
            self._report([Finding(("deployment",), wrong, "expected one of the two", Spot.KEY)])
            return
        if not isinstance(name, str):
            return  # the validation says what is wrong with it
        shown = str(self._path.parent / name)
        try:
            root = self._document(name, shown)
        except (OSError, ValueError) as error:
            wrong = f"{shown}: {_reason(error)}"
            self._report([Finding(("deployment_file",), wrong, "expected a file with the key deployment")])
            return
        if root is not None:
            values |= self._deployment(Part(shown, root))

    def _deployment(self, part: Part) -> dict[str, Any]:
        """The key `deployment` of a file of its own."""
        self._parts["deployment"] = part
        written: dict[str, Any] = part.root.plain()
        for key in written:
            if key != "deployment":
                wrong = Finding((key,), "unknown key", "expected the key deployment alone", Spot.KEY)
                self._problems.append(place(wrong, {"": part}))
        if "deployment" not in written:
            wrong = Finding(("deployment",), "the key is missing", "expected the rollout under it")
            self._problems.append(place(wrong, {"": part}))
        return {key: value for key, value in written.items() if key == "deployment"}

    def _document(self, name: str, shown: str) -> Node | None:
        """A file's root, which is a mapping; None after its faults are noted.

        Raises OSError and ValueError where there is no such file, or not a file to read.
        """
        data = self._read(self._folder / name, MAX_CONFIG_BYTES)
        try:
            found = document.parse(data)
        except DocumentError as error:
            self._problems.append(_problem(shown, error))
            return None
        self._problems.extend(_problem(shown, fault) for fault in found.faults)
        if isinstance(found.root.content, dict):
            return found.root
        self._problems.append(_problem(shown, DocumentError(found.root.mark, *_NO_MAPPING)))
        return None

    def _read(self, path: Path, limit: int) -> bytes:
        """A file's bytes; read once, so that everything that is loaded comes from the same moment."""
        self._asked.add(path)
        if path not in self._sources:
            self._sources[path] = self._read_file(path, limit)
        return self._sources[path]

    def _token(self, path: Path) -> str:
        try:
            text = self._read(path, MAX_TOKEN_BYTES).decode().strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not text in UTF-8") from error
        if not text:
            raise ValueError(f"{path} is empty")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"{path} holds more than one token, or letters that no header may hold")
        return text

    def _validated(self, values: dict[str, Any]) -> Config:
        surroundings = Surroundings(self._folder, self._environ, self._token)
        return Config.model_validate(values, context=surroundings)

    def _check_rest(self, values: dict[str, Any], faulty: Sequence[KeyPath]) -> None:
        """Check what is left without the faulty values, so that one run names every problem."""
        rest = copy.deepcopy(values)
        removed: set[KeyPath] = set()
        for _ in range(_MOST_PRUNINGS):
            # The inner ones first: a path whose end is gone already would take out what holds it.
            removed |= {_prune(rest, path) for path in sorted(set(faulty), key=len, reverse=True)}
            try:
                config = self._validated({**_STAND_INS, **rest})
            except ValidationError as error:
                # Without the value its section may lack something: then the section goes too.
                faulty = [finding.path for finding in diagnosis.findings(error, rest)]
            else:
                self._report(faults(config, values, removed))
                return

    def _report(self, findings: Iterable[Finding]) -> None:
        self._problems.extend(place(finding, self._parts) for finding in findings)

    def _digest(self) -> str:
        total = hashlib.sha256()
        for source in sorted(self._sources):
            total.update(hashlib.sha256(self._sources[source]).digest())
        return total.hexdigest()


_NO_MAPPING = ("this is no mapping", "expected key: value")


_STAND_INS: Mapping[str, Any] = {
    "upstreams": {"none": {"endpoints": ["http://127.0.0.1:1"]}},
    "routes": [{"name": "none", "control": "none", "treatment": "none"}],
}
"""Stand-ins for the keys that have no default, where what was written is wrong."""


def _prune(values: dict[str, Any], path: KeyPath) -> KeyPath:
    """Take out the innermost key on the path that is there, and return its path."""
    holders: list[tuple[dict[str, Any], int]] = []
    inner: Any = values
    for depth, key in enumerate(path):
        if isinstance(inner, dict) and key in inner:
            holders.append((inner, depth))
        elif not (isinstance(inner, list) and isinstance(key, int) and key < len(inner)):
            break
        inner = inner[key]
    if not holders:
        return ()
    holder, depth = holders[-1]
    del holder[str(path[depth])]
    return path[: depth + 1]


def _problem(shown: str, error: DocumentError) -> Problem:
    return Problem(shown, error.mark.line, error.mark.column, "", error.message, error.expected)


def _reason(error: OSError | ValueError) -> str:
    return f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def _by_place(problem: Problem) -> tuple[str, int, int]:
    return problem.file, problem.line, problem.column
