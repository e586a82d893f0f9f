"""Experiments as the admin API accepts them: in the config file's own grammar.

Errors have the same words as for the file. Unknown routes and upstreams are found
when the experiment is created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from gateway.control.config import diagnosis
from gateway.control.config.cautions import experiment_cautions
from gateway.control.config.crosscheck import experiment_faults
from gateway.control.config.problems import Finding, KeyPath, path_text
from gateway.core.experiments import define
from gateway.model.experiment import Experiment
from gateway.model.fields import Name, Section
from gateway.model.lifecycle import Definition

KEYS = tuple(key for key in Experiment.model_fields if key != "enabled")
"""What a definition holds beside its id and its routes: all that the file takes, but for `enabled`."""


class _Deployment(Section):
    """The key `deployment`, as far as experiments go."""

    experiments: Mapping[Name, Experiment]


class _Config(Section):
    """A config of nothing but experiments: paths of errors are those of a whole one."""

    deployment: _Deployment


class DefinitionError(Exception):
    """The definition makes no sense; `problems` has a sentence for each reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def read_definition(
    name: str, routes: Sequence[str], values: Mapping[str, Any]
) -> tuple[Definition, tuple[str, ...]]:
    """The experiment that `values` (of KEYS) define, and warnings about it. Raises DefinitionError."""
    written = {"deployment": {"experiments": {name: dict(values)}}}
    try:
        experiment = _Config.model_validate(written).deployment.experiments[name]
    except ValidationError as error:
        raise DefinitionError([_text(found) for found in diagnosis.findings(error, written)]) from error
    path: KeyPath = ("deployment", "experiments", name)
    if found := [_text(fault) for fault in experiment_faults(path, experiment)]:
        raise DefinitionError(found)
    warnings = tuple(_text(found) for found in experiment_cautions(path, experiment, values))
    return define(name, experiment, dict.fromkeys(routes)), warnings


def _text(finding: Finding) -> str:
    """Path, what is wrong and what was expected; the path from the experiment on."""
    path = path_text(finding.path[3:]) or "id"
    expected = f" ({finding.expected})" if finding.expected else ""
    return f"{path}: {finding.message}{expected}"
