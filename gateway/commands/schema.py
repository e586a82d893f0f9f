"""`gateway schema`: the JSON Schema of the config file, for editors.

The descriptions of keys are read from the source of the model, and only here. pydantic could do that at every
import, but then every start of a control process would have to parse all of it.
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from gateway.exits import Exit
from gateway.model.config import Config
from gateway.model.fields import Section

_DESCRIPTION = """\
Print the JSON Schema (draft 2020-12) of the config file. An editor that is told of it completes and
checks keys while they are typed; `gateway check` checks more."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser("schema", help="JSON Schema of the config file", description=_DESCRIPTION)
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Print the schema; always 0."""
    print(json.dumps(document(), indent=2))
    return Exit.DONE


def document() -> dict[str, Any]:
    """The schema of the whole file."""
    schema = Config.model_json_schema(mode="validation")
    models = {model.__name__: model for model in _below(Section)}
    for mapping in _mappings(schema):
        if mapping.get("title") in models:
            _describe(mapping["properties"], models[mapping["title"]])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gateway",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _below(model: type[Section]) -> Iterator[type[Section]]:
    for below in model.__subclasses__():
        yield below
        yield from _below(below)


def _mappings(node: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema that has properties."""
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _mappings(part)


def _describe(properties: dict[str, Any], model: type[Section]) -> None:
    """Give the properties of a model what its source says of them."""
    described = _docstrings(model)
    for name, field in model.model_fields.items():
        written = field.alias or name
        if name in described and written in properties:
            properties[written].setdefault("description", described[name])


def _docstrings(model: type[Section]) -> Mapping[str, str]:
    """The text under each annotated name of a class and of those that it is made from (PEP 258)."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, Section):
            for statement, following in pairwise(_classes_of(kind.__module__)[kind.__name__].body):
                match statement, following:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        found[name] = inspect.cleandoc(text)
    return found


@functools.cache
def _classes_of(module: str) -> Mapping[str, ast.ClassDef]:
    """The classes of a module as its source has them, by name.

    `inspect.getsource` of a class parses the whole module, each time.
    """
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
