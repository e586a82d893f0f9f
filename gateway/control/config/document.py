"""Parses YAML into values that remember their position in the file.

The grammar is YAML 1.2's core schema with restrictions: only `true`, `false`, `null` and decimal numbers
are typed, keys are text, duplicate keys and tags are errors. There is one extension: `> 0.95` on one
line is text, although plain YAML would begin a folded block there. Size, depth and aliases are bounded.
It knows nothing of the config's keys.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from gateway.model.units import NumberText, is_number

MAX_DEPTH = 32
"""Levels of nesting; the grammar has eight."""
MAX_NODES = 25_000
"""Values in a document, those behind aliases counted as often as they are used: an alias bomb ends here,
and so does any file that would take longer than some tenths of a second."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text; line and column count from one."""

    line: int
    column: int


class DocumentError(Exception):
    """The text is no document: where, what is wrong, what was expected."""

    def __init__(self, mark: Mark, message: str, expected: str) -> None:
        super().__init__(f"{message}; {expected}")
        self.mark = mark
        self.message = message
        self.expected = expected


Scalar: TypeAlias = NumberText | str | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it begins. `keys` holds where each key of a mapping stands."""

    mark: Mark
    content: Scalar | list[Node] | dict[str, Node]
    keys: dict[str, Mark] = field(default_factory=dict)
    size: int = 1

    def plain(self) -> Any:
        """The value as Python has it; numbers as `NumberText`."""
        if isinstance(self.content, dict):
            return {key: node.plain() for key, node in self.content.items()}
        if isinstance(self.content, list):
            return [node.plain() for node in self.content]
        return self.content

    def locate(self, path: Sequence[str | int]) -> tuple[Mark, int]:
        """Where the value at `path` stands, or the nearest one around it, and how much of `path` is there."""
        nodes = list(self._along(path))
        return nodes[-1].mark, len(nodes) - 1

    def key_mark(self, path: Sequence[str | int]) -> Mark:
        """Where the key of the value at `path` stands; of an item of a list, the item itself."""
        nodes = list(self._along(path))
        last = path[len(nodes) - 2] if len(nodes) > 1 else None
        return nodes[-2].keys[last] if isinstance(last, str) else nodes[-1].mark

    def _along(self, path: Sequence[str | int]) -> Iterator[Node]:
        node = self
        yield node
        for part in path:
            match node.content, part:
                case dict() as mapping, str() if part in mapping:
                    node = mapping[part]
                case list() as items, int() if part < len(items):
                    node = items[part]
                case _:
                    return
            yield node


_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COMPARISON = re.compile(
    r"""
    (?P<before>[:-][ \t]+|[,\[{][ \t]*)>    # `>` where a value may begin,
    (?![1-9][+-]?[ \t]*(?:\#.*)?\r?$)        # that is no header of a folded block (`>2`),
    (?=[ \t]*=?[ \t]*[-+.]?[0-9])            # before a number
    """,
    re.VERBOSE | re.MULTILINE,
)
_STAND_INS = "\ue000\ue001\ue002\ue003"


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds, and the faults in it that did not keep the rest from being read."""

    root: Node
    faults: tuple[DocumentError, ...]


def parse(data: bytes) -> Document:
    """The document that the bytes of a file hold. Raises DocumentError.

    A text that is cut short is refused wherever the text alone can show it: its last line must end
    (or its brackets close), and a text that opens with `%YAML 1.2` must close with `...`.
    """
    text = _decoded(data)
    _check_characters(text)
    stand_in = next((char for char in _STAND_INS if char not in text), None)
    if stand_in is None:
        raise DocumentError(Mark(1, 1), "the text is made of private-use characters", "expected a config")
    # The C scanner cannot be taught a new token, so `>` is veiled before it and unveiled behind it,
    # one character for one: marks stay true, and quoted or folded text comes out as it went in.
    veiled = _COMPARISON.sub(rf"\g<before>{stand_in}", text)
    builder = _Builder(stand_in)
    try:
        root = builder.build(yaml.parse(veiled, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise _translated(error, text) from error
    if not builder.closed:
        _check_end(text)
    return Document(root, tuple(builder.faults))


def _decoded(data: bytes) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        place = _end_of(data[: error.start].decode(errors="replace"))
        wrong = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise DocumentError(place, wrong, "expected a file in UTF-8") from error


def _check_characters(text: str) -> None:
    match = _CONTROL.search(text)
    if match:
        place = _end_of(text[: match.start()])
        wrong = f"the character U+{ord(match[0]):04X} may not stand here"
        raise DocumentError(place, wrong, "expected printable text")


def _end_of(text: str) -> Mark:
    """The mark of the character that comes after `text`."""
    return Mark(text.count("\n") + 1, len(text) - text.rfind("\n"))


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_end(text: str) -> None:
    """Refuse a text without a sign of its own that it is whole."""
    if text.startswith("%YAML"):
        wrong = "the file seems to be cut short: it opens with %YAML"
        raise DocumentError(_end_of(text), wrong, "expected a last line of three dots (...)")
    if not text.endswith(("\n", "\r")):
        wrong = "the file seems to be cut short: its last line does not end"
        raise DocumentError(_end_of(text), wrong, "expected a line break at the end")


class _Builder:
    """Events to nodes, with the bounds held while they come in."""

    def __init__(self, stand_in: str) -> None:
        self.closed = False
        """Whether the document said that it is whole: by `...`, or by the bracket that it began with."""
        self.faults: list[DocumentError] = []
        self._stand_in = stand_in
        self._anchors: dict[str | None, Node] = {}
        self._nodes = 0

    def build(self, events: Iterator[yaml.Event]) -> Node:
        """The root of the one document."""
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise DocumentError(
                    _mark(event), "a second document begins", "expected one document in a file"
                )
            if isinstance(event, yaml.NodeEvent):
                self.closed = isinstance(event, yaml.CollectionStartEvent) and bool(event.flow_style)
                root = self._node(event, events, 0)
            if isinstance(event, yaml.DocumentEndEvent):
                self.closed = bool(event.explicit) or self.closed
        if root is None or root.content is None:
            raise DocumentError(Mark(1, 1), "the file is empty", "expected a config")
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise DocumentError(_mark(event), "nested too deep", f"expected at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        assert isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent))
        if event.tag is not None:
            wrong = f"the tag {event.tag} is not known"
            raise DocumentError(_mark(event), wrong, "expected a value without a tag")
        self._count(1, event)
        if isinstance(event, yaml.ScalarEvent):
            node = Node(_mark(event), self._scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, events, depth)
        else:
            node = self._mapping(event, events, depth)
        self._anchors[event.anchor] = node
        return node

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            wrong = "too many values, those behind aliases counted"
            raise DocumentError(_mark(event), wrong, f"expected at most {MAX_NODES:,}")

    def _alias(self, event: yaml.AliasEvent) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            wrong = f"*{event.anchor} has no anchor before it"
            raise DocumentError(_mark(event), wrong, f"expected &{event.anchor} further up")
        self._count(node.size, event)
        return node

    def _sequence(self, start: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, depth + 1))
        return Node(_mark(start), items, size=1 + sum(item.size for item in items))

    def _mapping(self, start: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        content: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event)
            value = self._node(next(events), events, depth + 1)
            if key in keys:
                expected = f"expected it once: it stands in line {keys[key].line} already"
                self.faults.append(DocumentError(_mark(event), f"duplicate key {key!r}", expected))
                continue
            keys[key] = _mark(event)
            content[key] = value
        return Node(_mark(start), content, keys, 1 + sum(node.size for node in content.values()))

    def _key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise DocumentError(_mark(event), "a key that is not plain text", "expected key: value")
        if event.value == "<<" and not event.style:
            wrong = "<< is not known: merging is YAML 1.1"
            raise DocumentError(_mark(event), wrong, "expected the keys themselves, or an alias for a value")
        return event.value.replace(self._stand_in, ">")

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text = event.value.replace(self._stand_in, ">")
        if event.style:
            return text
        if text in _TYPED:
            return _TYPED[text]
        return NumberText(text) if is_number(text) else text


_TYPED: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def _mark(event: yaml.Event) -> Mark:
    assert event.start_mark is not None
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _translated(error: yaml.MarkedYAMLError, text: str) -> DocumentError:
    """The scanner's complaint in the words of somebody who wrote a config."""
    found, begun = error.problem_mark, error.context_mark
    if found is None:
        return DocumentError(Mark(1, 1), str(error.problem), "expected YAML")
    if begun is not None and str(error.problem) == _NO_COLON:
        found = begun  # the scanner notices at the next line only
    line = "".join(text.splitlines(keepends=True)[found.line : found.line + 1])
    place = Mark(found.line + 1, found.column + 1)
    if "\t" in line[: found.column + 1]:
        return DocumentError(place, "a tab in the indentation", "expected blanks")
    if _NO_CONTENT in str(error.problem) and line[found.column :].strip() in ("", "..."):
        return DocumentError(place, "a [ or { that is not closed", "expected the ] or } before the end")
    since = f" (begun in line {begun.line + 1})" if begun is not None and begun.line != found.line else ""
    for words, (message, expected) in _COMPLAINTS.items():
        if words in str(error.problem):
            return DocumentError(place, message + since, expected)
    context = f" {error.context}" if error.context else ""
    return DocumentError(place, f"{error.problem}{context}{since}", "expected YAML")


_NO_COLON = "could not find expected ':'"
_NO_CONTENT = "did not find expected node content"
_QUOTES = "expected the value in quotes, if it is text"
_COMPLAINTS = {
    "mapping values are not allowed": (
        "a second ': ' on one line, or wrong indentation",
        "expected key: value, with text that holds ': ' in quotes",
    ),
    _NO_COLON: ("a key without a colon", "expected key: value"),
    "did not find expected key": (
        "wrong indentation, or text behind a finished value",
        "expected another key: value",
    ),
    "did not find expected '-' indicator": ("wrong indentation in a list", "expected another '- item'"),
    "did not find expected ',' or '}'": ("a { that is not closed", "expected a comma or }"),
    "did not find expected ',' or ']'": ("a [ that is not closed", "expected a comma or ]"),
    _NO_CONTENT: ("a mark where a value should stand", _QUOTES),
    "block sequence entries are not allowed": ("a '- item' behind a key", "expected it on a line of its own"),
    "found unexpected end of stream": ("a quote that is not closed", "expected a closing quote"),
    "found unknown escape character": ("an unknown escape with \\", "expected text in single quotes"),
    "did not find expected alphabetic or numeric": ("a * or & without the name of an anchor", _QUOTES),
    "found character that cannot start any token": ("a character that cannot begin a value", _QUOTES),
    "did not find expected comment or line break": (
        "text behind the | or > that begins a block",
        "expected the text on the next lines, or the value in quotes",
    ),
    "did not find expected <document start>": ("the line --- is missing", "expected it behind %YAML 1.2"),
    "found incompatible YAML document": ("another version of YAML", "expected %YAML 1.2"),
    "found unknown directive name": ("an unknown directive", "expected %YAML 1.2 or none"),
}
"""What the scanner says, and what it means to somebody who wrote a config."""
