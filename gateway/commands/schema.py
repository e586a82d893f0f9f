"""`gateway schema`: the JSON Schema of the config file, for editors."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.exits import Exit
from gateway.model.config import Config

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
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gateway",
        **{key: value for key, value in schema.items() if key != "title"},
    }
