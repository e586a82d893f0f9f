"""The demo's scenarios: each is a deployment to begin with and a story in steps.

Pure values. A story says what to do and what to wait for; `demo.play` does it. In a scenario
without steps the viewer decides.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.demo.faults import Fault, FaultKind
from gateway.demo.readings import Status
from gateway.model.snapshot import Arm

EXPERIMENT = "dspy_vs_traditional"
_PATIENCE = 90.0
"""Seconds after which a story goes on though what it waits for did not come."""


class Verb(enum.StrEnum):
    """What an operator does in a story: the path of the admin API under `/api/v1`."""

    ADVANCE = "rollout/advance"
    APPROVE = "gates/manual_approval/approve"
    EMERGENCY = "emergency"
    RELEASE = "release"


class Heal(enum.Enum):
    """The pipelines are well again."""

    HEAL = "heal"


Act: TypeAlias = Verb | Fault | Heal


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a story.

    `says` is told, then `acts` are done, then the story waits until `until` holds, and `rests` seconds
    more, in which there is something to see.
    """

    says: str
    acts: tuple[Act, ...] = ()
    until: Callable[[Status], bool] | None = None
    rests: float = 6.0
    patience: float = _PATIENCE


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story and the deployment that it begins in. `deployment` is YAML, indented by two."""

    name: str
    about: str
    deployment: str
    steps: tuple[Step, ...] = ()


def _ready_to_approve(status: Status) -> bool:
    return all(verdict == "pass" for gate, verdict in status.gates if gate != "manual_approval")


def _latched(status: Status) -> bool:
    return status.latch.engaged


def _held(status: Status) -> bool:
    return bool(status.holds)


def _fault(arm: Arm, kind: FaultKind, value: float) -> Fault:
    return Fault(arm, kind, value, 0.0)


_LADDER = """\
  initial_phase: canary
  rollout_salt: demo
  phases:
    canary: {user_percentage: 20, advance: manual}
    limited_production: {user_percentage: 50, advance: manual}
    full_production: {user_percentage: 90}
  gates:
    canary -> limited_production:
      - {type: time_based, minimum: 8s}
      - {type: metrics_threshold, thresholds: {error_rate: < 0.1}, minimum_samples: 20, window: 12s}
      - {type: manual_approval}
    limited_production -> full_production:
      - {type: time_based, minimum: 15s}
      - {type: manual_approval}
"""
_HALF = """\
  initial_phase: limited_production
  rollout_salt: demo
  phases:
    limited_production: {user_percentage: 50, advance: manual}
"""
_TREATMENT_FAILS = Step(
    "Now treatment breaks: every other answer of it is an error.",
    (_fault(Arm.TREATMENT, FaultKind.ERRORS, 0.5),),
    _latched,
    8.0,
)
_CANARY = Step(
    "Canary: a fifth of the users is enrolled, half of those get DSPy. The gates gather evidence.",
    until=_ready_to_approve,
    rests=3.0,
)
_TOUR = (
    _CANARY,
    Step("Time and metrics have passed. The last gate is a person: approved.", (Verb.APPROVE,), rests=4.0),
    Step(
        "On to limited production: half of the users. Nobody who had DSPy loses it.",
        (Verb.ADVANCE,),
        lambda status: status.phase == "limited_production",
        14.0,
    ),
    _TREATMENT_FAILS,
    Step("The evidence was enough: everything is on control, one phase back, and stays so.", rests=8.0),
    Step("The pipeline is mended. The gateway does not try again by itself.", (Heal.HEAL,), rests=6.0),
    Step(
        "An operator releases: treatment comes back, with no more users than the phase before had.",
        (Verb.RELEASE,),
        lambda status: not status.latch.engaged,
        10.0,
    ),
)
_EMERGENCY = (
    Step("Half of the users are enrolled, half of those get DSPy.", rests=8.0),
    Step("Emergency: one signal, and the next request goes to control.", (Verb.EMERGENCY,), _latched, 8.0),
    Step("It holds until an operator releases it, over any restart.", (Verb.RELEASE,), rests=8.0),
)
_OUTAGE = (
    Step("Half of the users are enrolled, half of those get DSPy.", rests=10.0),
    Step(
        "Both pipelines fail alike, as when a model's provider is down.",
        (_fault(Arm.CONTROL, FaultKind.ERRORS, 0.5), _fault(Arm.TREATMENT, FaultKind.ERRORS, 0.5)),
        _held,
        8.0,
    ),
    Step("Treatment is not to blame: the rollout holds and people are told.", rests=8.0),
    Step("The provider is back.", (Heal.HEAL,), rests=8.0),
)
_SLOW = (
    Step("Half of the users are enrolled, half of those get DSPy.", rests=10.0),
    Step(
        "Treatment becomes three times as slow, and answers rightly all the same.",
        (_fault(Arm.TREATMENT, FaultKind.LATENCY, 3.0),),
        _latched,
        8.0,
    ),
    Step("Too slow is a reason to go back too. The pipeline is mended.", (Heal.HEAL,), rests=6.0),
    Step("Released.", (Verb.RELEASE,), rests=8.0),
)

SANDBOX = Scenario("sandbox", "half of the users are enrolled; nothing happens but what you do", _HALF)
TOUR = Scenario("tour", "phases advance, treatment fails, a rollback by itself, a release", _LADDER, _TOUR)
SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        TOUR,
        SANDBOX,
        Scenario("emergency", "everything to control by hand, and back", _HALF, _EMERGENCY),
        Scenario("outage", "both arms fail alike: treatment is not blamed", _HALF, _OUTAGE),
        Scenario("slow", "treatment becomes slow: a rollback without a single error", _HALF, _SLOW),
    )
}
OVER = "The story is over. Everything goes on until Ctrl-C: open the dashboard, play with the keys."
