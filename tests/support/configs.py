"""Config texts for tests: the smallest valid file, completed around a snippet, and positions by marker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.control.config.loading import ConfigError, Loaded, Problem, load

MARKER = "§"
"""Stands in a text right before the character that a problem should point at."""

_BASE = {
    "upstreams:": """\
upstreams:
  traditional: {endpoints: [http://127.0.0.1:9001]}
  dspy: {endpoints: [http://127.0.0.1:9002]}
""",
    "routes:": """\
routes:
  - {name: default, control: traditional, treatment: dspy}
""",
}


def complete(snippet: str) -> str:
    """The snippet, with upstreams and routes behind it where it writes none."""
    lines = snippet.splitlines()
    rest = (text for key, text in _BASE.items() if not any(line.startswith(key) for line in lines))
    return "".join([snippet, "" if snippet.endswith("\n") or not snippet else "\n", *rest])


def marked(text: str) -> tuple[str, tuple[int, int]]:
    """The text without its marker, and the line and column where the marker stood."""
    before, found, after = text.partition(MARKER)
    assert found, "no marker in the text"
    return before + after, (before.count("\n") + 1, len(before) - before.rfind("\n"))


def load_text(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """Load a text as a file of its own."""
    path = folder / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ or {})


def problems_of(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    """What is wrong with a text; nothing for a valid one."""
    try:
        load_text(folder, text, environ)
    except ConfigError as error:
        return error.problems
    return ()
