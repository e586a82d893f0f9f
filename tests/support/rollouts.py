"""Rollouts for tests: rules, states, and a driver that steps as the control process would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from gateway.core.rollout import TRANSITIONS, begin, step
from gateway.model.gates import (
    AutomatedTest,
    Gate,
    ManualApproval,
    MetricsThreshold,
    OnNoData,
    Threshold,
    TimeBased,
)
from gateway.model.rollout import (
    Advance,
    AdvanceMode,
    Authority,
    Binding,
    Effect,
    Emergency,
    EngageLatch,
    Event,
    Mode,
    Persist,
    PhaseRules,
    Publish,
    Record,
    Refusal,
    Release,
    Reload,
    Rollback,
    Rollout,
    Rules,
    ServiceTick,
    Step,
)
from gateway.model.units import Comparison, Operator

NOW = 1_800_000_000.0
LADDER = (
    ("development", 100),
    ("staging", 100),
    ("canary", 1),
    ("limited_production", 10),
    ("full_production", 100),
)
BINDING = Binding("deployment-1", "treatment-1")
ANN, BEN = "ann", "ben"

APPROVAL = ManualApproval("staging.canary.manual_approval", 1, 86_400.0)
SOAK = TimeBased("canary.limited_production.time_based", 3600.0)
TEST = AutomatedTest("staging.canary.automated_test", ("pytest", "-q"), None, 300.0)
ERROR_LIMIT = Comparison(Operator.LESS, 0.01)
METRICS = MetricsThreshold(
    "canary.limited_production.metrics_threshold",
    (Threshold("error_rate", ERROR_LIMIT),),
    3600.0,
    300,
    OnNoData.HOLD,
    0.95,
)


def make_rules(
    *,
    gates: dict[str, tuple[Gate, ...]] | None = None,
    automatic: tuple[str, ...] = (),
    percentages: dict[str, int] | None = None,
    disabled: tuple[str, ...] = (),
    initial: str = "development",
    ladder: tuple[tuple[str, int], ...] = LADDER,
    binding: Binding = BINDING,
    rollback_needs_approval: bool = False,
    drain_steps: int = 4,
) -> Rules:
    """The mission's ladder, or another, with these gates by the phase that they lead out of."""
    phases = tuple(
        PhaseRules(
            name,
            Fraction((percentages or {}).get(name, percentage)),
            name not in disabled,
            AdvanceMode.AUTOMATIC if name in automatic else AdvanceMode.MANUAL,
            (gates or {}).get(name, ()),
        )
        for name, percentage in ladder
    )
    return Rules(phases, initial, binding, rollback_needs_approval, drain_steps)


@dataclass
class Drive:
    """Steps a rollout as the control process does: flips the latch when asked to, keeps the history."""

    rules: Rules = field(default_factory=make_rules)
    now: float = NOW
    latch_number: int = 0
    records: list[Record] = field(default_factory=list)
    published: list[Publish] = field(default_factory=list)
    last: Step = field(init=False)
    state: Rollout = field(init=False)

    def __post_init__(self) -> None:
        self.state = begin(self.rules, self.now)

    def apply(self, event: Event) -> Step:
        """Step, carry the effects out, and the step that follows a flip."""
        taken = step(self.state, event, self.now, self.rules)
        self.last, self.state = taken, taken.state
        for effect in taken.effects:
            match effect:
                case EngageLatch():
                    self.latch_number += 1
                    return self.apply(replace(effect.then, engagement=self.latch_number))
                case Persist():
                    self.records.append(effect.record)
                case Publish():
                    self.published.append(effect)
                case _:
                    pass
        return taken

    def refused(self, event: Event) -> Refusal:
        """Apply what must be refused; why it was."""
        before = self.state
        refusal = self.apply(event).refusal
        assert refusal is not None
        assert self.state == before
        return refusal

    def serve(self, seconds: float, *, healthy: bool = True) -> None:
        """Healthy service, tick by tick."""
        while seconds > 0:
            self.apply(ServiceTick(operator="gateway", seconds=min(seconds, 60.0), treatment_healthy=healthy))
            seconds -= 60.0

    def go_to(self, phase: str) -> Drive:
        """Advance by force until the phase is reached."""
        while self.state.phase != phase:
            assert self.apply(Advance(operator=ANN, authority=Authority.FORCE)).refusal is None
        return self

    def roll_back(self) -> Step:
        """A rollback by hand."""
        return self.apply(Rollback(operator=ANN, reason="bad answers"))

    def emergency(self) -> Step:
        """An emergency by hand."""
        return self.apply(Emergency(operator=ANN, reason="now"))

    def release(self, percentage: int | None = None) -> Step:
        """A release of what holds."""
        share = None if percentage is None else Fraction(percentage)
        return self.apply(
            Release(operator=ANN, reason="fixed", percentage=share, engagement=self.latch_number)
        )

    def effects(self, kind: type[Effect]) -> list[Effect]:
        """The last step's effects of a kind."""
        return [effect for effect in self.last.effects if isinstance(effect, kind)]


def phase_table(rules: Rules) -> Mapping[tuple[str, Mode, type[Event]], str]:
    """The table for given phases: the phase that each legal event leads to at most."""
    table = {}
    for phase in rules.phases:
        for mode, row in TRANSITIONS.items():
            for event, rule in row.items():
                target = rules.neighbour(phase.name, rule.move.value) or phase
                table[phase.name, mode, event] = target.name
    return table


def replay(state: Rollout, rules: Rules, records: Iterable[Record]) -> Rollout:
    """Fold a history over the state and the rules that it began with.

    Raises ValueError where the records do not follow from one another.
    """
    for record in records:
        if record.version != state.version + 1:
            raise ValueError(f"version {record.version} follows {state.version}")
        taken = step(replace(state, clocks=record.clocks), record.event, record.at, rules)
        if taken.refusal is not None or taken.state.version != record.version:
            raise ValueError(f"version {record.version} does not follow: {taken.refusal}")
        state = taken.state
        rules = record.event.rules if isinstance(record.event, Reload) else rules
    return state
