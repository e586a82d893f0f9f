"""The key `deployment` of the config file: the phases and everything that watches them.

It has the grammar and the defaults of the strategy's `production_deployment.yaml`, which loads unchanged.
It does not know the rest of the config: names that refer to other sections are checked elsewhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from gateway.model.experiment import Experiment
from gateway.model.fields import AnyText, Arrow, Name, Section, default, fault
from gateway.model.phases import DEFAULT_PHASES, Gate, Phase
from gateway.model.safety import Monitoring, Rollback
from gateway.model.units import Transition


class Deployment(Section):
    """The rollout: phases in their order, the gates between them, experiments, safety."""

    initial_phase: Name = default("development")
    """The phase of an empty state directory. The first of the ladder where it is not written."""
    rollout_salt: AnyText = default("gateway")
    """Part of the enrolment's hash: another salt enrols other users."""
    ladder: Annotated[tuple[Name, ...], Field(min_length=1)] = default(list(DEFAULT_PHASES))
    """The phases in their order. Without it: the five, or, where `phases` holds a name that is none of
    the five, the phases that are written."""
    phases: Mapping[Name, Phase] = default({})
    """The phases; keys of the five that are not written have the strategy's defaults."""
    gates: Mapping[Annotated[Transition, Arrow()], tuple[Gate, ...]] = default({})
    """Gates by transition, `staging -> canary`. They stand beside those that `duration` and
    `success_criteria` make; one of the same type replaces the made one."""
    experiments: Mapping[Name, Experiment] = default({})
    """A/B experiments by id; routes name them."""
    monitoring: Monitoring = default({})
    """Ticks, windows, alerts."""
    rollback: Rollback = default({})
    """When and how treatment is taken away."""

    def previous(self, phase: str) -> str | None:
        """The phase before, None before the first."""
        index = self.ladder.index(phase)
        return self.ladder[index - 1] if index else None

    def next(self, phase: str) -> str | None:
        """The phase after, None after the last."""
        index = self.ladder.index(phase)
        return self.ladder[index + 1] if index + 1 < len(self.ladder) else None

    @model_validator(mode="before")
    @classmethod
    def _merge_phases(cls, value: Any) -> Any:
        """Settle the ladder, and put the defaults under what is written."""
        if not isinstance(value, dict) or not isinstance(value.get("phases", {}), dict):
            return value
        written = value.get("phases", {})
        ladder = value.get("ladder", ladder_of(written))
        if not isinstance(ladder, (list, tuple)) or not all(isinstance(name, str) for name in ladder):
            return value
        known = {
            name: merge(DEFAULT_PHASES[name], written.get(name, {}))
            for name in ladder
            if name in DEFAULT_PHASES
        }
        phases = {
            name: known.get(name, written.get(name)) for name in ladder if name in known or name in written
        }
        rest = {name: phase for name, phase in written.items() if name not in phases}
        first = {"initial_phase": ladder[0]} if ladder else {}
        return {**first, **value, "ladder": ladder, "phases": {**phases, **rest}}

    @field_validator("gates", mode="before")
    @classmethod
    def _unique_gates(cls, gates: Any) -> Any:
        """Two spellings of one transition would hide one of its lists."""
        if isinstance(gates, dict):
            spelt = ["->".join(part.strip() for part in str(key).split("->")) for key in gates]
            for name in spelt:
                if spelt.count(name) > 1:
                    raise fault(f"{name!r} is written twice, with different blanks", "expected it once")
        return gates


def ladder_of(written: Mapping[Any, Any]) -> list[Any]:
    """The ladder where none is written (see `Deployment.ladder`)."""
    if all(name in DEFAULT_PHASES for name in written):
        return list(DEFAULT_PHASES)
    return list(written)


def merge(under: Mapping[str, Any], over: Any) -> Any:
    """`over` laid upon `under`, mapping by mapping; what is no mapping replaces."""
    if not isinstance(over, dict):
        return over
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) else value
    return merged


def misspelt_phase(name: str) -> str | None:
    """The one of the five phases that a name seems to mean, if any."""
    close = difflib.get_close_matches(name, list(DEFAULT_PHASES), 1, 0.8)
    return close[0] if close and name not in DEFAULT_PHASES else None
