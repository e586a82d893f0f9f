"""Faults of the demo: how a sample pipeline may misbehave, and the text that describes it.

`treatment.errors=0.3@20s` means: from the 20th second on, 30 % of treatment's answers are errors.
A later fault of the same name replaces an earlier one, so `treatment.errors=0@40s` ends it.

Pure values: how a pipeline carries out a behaviour is in `demo.pipelines`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace

from gateway.model.snapshot import Arm
from gateway.model.units import parse_duration

_SPEC = re.compile(r"(?P<target>[^=@]*)=(?P<value>[^=@]*)(@(?P<at>[^=@]*))?")
_NUMBER = r"\d+(?:\.\d+)?|\.\d+"
MAX_LATENCY_FACTOR = 100.0  # a larger one is a hang, which has a name of its own


class FaultKind(enum.StrEnum):
    """Ways to misbehave. LATENCY is a factor; the others are shares of the requests, 0 to 1."""

    ERRORS = "errors"
    LATENCY = "latency"
    HANG = "hang"
    RESET = "reset"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class Fault:
    """One change of one pipeline's behaviour, `at` seconds after the traffic began."""

    arm: Arm
    kind: FaultKind
    value: float
    at: float

    def __str__(self) -> str:
        value = f"{self.value:g}x" if self.kind is FaultKind.LATENCY else f"{self.value:.0%}"
        return f"{self.arm.label} {self.kind.value} {value}"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a pipeline behaves now: a share of the requests per fault, and a factor on every delay."""

    errors: float = 0.0
    latency: float = 1.0
    hang: float = 0.0
    reset: float = 0.0
    truncate: float = 0.0

    def with_fault(self, fault: Fault) -> Behaviour:
        """This behaviour with the fault's value in place of its own."""
        return replace(self, **{fault.kind.value: fault.value})


HEALTHY = Behaviour()


def parse_fault(text: str) -> Fault:
    """Read `ARM.KIND=VALUE@TIME` (without `@TIME`: from the start). Raises ValueError with the reason."""
    match = _SPEC.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: expected ARM.KIND=VALUE@TIME, for example treatment.errors=0.3@20s")
    arm_name, _, kind_name = match["target"].partition(".")
    arms = {arm.label: arm for arm in Arm}
    if arm_name not in arms:
        raise ValueError(f"{text!r}: no arm {arm_name!r}; expected {_either(arms)}")
    kinds = {kind.value: kind for kind in FaultKind}
    if kind_name not in kinds:
        raise ValueError(f"{text!r}: no fault {kind_name!r}; expected {_either(kinds)}")
    kind = kinds[kind_name]
    try:
        value = _factor(match["value"]) if kind is FaultKind.LATENCY else _share(match["value"])
        at = 0.0 if match["at"] is None else _time(match["at"])
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    return Fault(arms[arm_name], kind, value, at)


def _share(text: str) -> float:
    match = re.fullmatch(rf"({_NUMBER})(%?)", text)
    value = -1.0 if match is None else float(match[1]) / (100.0 if match[2] else 1.0)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{text!r} is not a share; expected 0 to 1, like 0.3 or 30%")
    return value


def _factor(text: str) -> float:
    match = re.fullmatch(rf"({_NUMBER})x?", text)
    value = 0.0 if match is None else float(match[1])
    if not 0.0 < value <= MAX_LATENCY_FACTOR:
        raise ValueError(
            f"{text!r} is not a factor; expected more than 0 up to {MAX_LATENCY_FACTOR:g}, like 2x"
        )
    return value


def _time(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{error}; expected a time like 20s or 1m30s") from None


def _either(names: dict[str, Arm] | dict[str, FaultKind]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"
