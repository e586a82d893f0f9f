"""The values of the rollout: its rules, its state, the events that change it, and the effects that
follow.

Frozen values only: no rule is applied here. `core.rollout` says what an event does to a
state; the control process carries out the effects. Times are Unix seconds, durations seconds,
percentages exact fractions from 0 to 100.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from gateway.model.alerts import Severity
from gateway.model.gates import Gate, GateResult, Judgement, TestResult
from gateway.model.latch import LatchKind

ROLLBACK_GATE = "rollback"
"""Id of the gate of an automatic rollback that a person must approve first."""


# --- the rules: what the config says ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Binding:
    """What an approval is valid for: digests of the deployment section and of treatment's upstreams."""

    deployment: str
    treatment: str


class AdvanceMode(enum.StrEnum):
    """Who moves on to the next phase once the gates pass."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"


@dataclass(frozen=True, slots=True)
class PhaseRules:
    """A phase: which users it enrols, and the gates between it and the next phase."""

    name: str
    user_percentage: Fraction
    dspy_enabled: bool = True
    advance: AdvanceMode = AdvanceMode.MANUAL
    gates: tuple[Gate, ...] = ()

    @property
    def share(self) -> Fraction:
        """The percentage that is enrolled: 0 if the phase has dspy switched off."""
        return self.user_percentage if self.dspy_enabled else Fraction(0)


@dataclass(frozen=True, slots=True)
class Rules:
    """All that the config says about the rollout. The phases are in order."""

    phases: tuple[PhaseRules, ...]
    initial_phase: str
    binding: Binding
    rollback_needs_approval: bool = False
    drain_steps: int = 5
    """Of a graceful rollback; 0 for none."""

    def find(self, name: str) -> PhaseRules | None:
        """The phase of that name, or None."""
        return next((phase for phase in self.phases if phase.name == name), None)

    def neighbour(self, name: str, offset: int) -> PhaseRules | None:
        """The phase `offset` places after `name` (before it if negative), or None."""
        names = [phase.name for phase in self.phases]
        if name not in names:
            return None
        place = names.index(name) + offset
        return self.phases[place] if 0 <= place < len(names) else None


# --- the state ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds of service in this epoch, without downtime.

    `service` stops during a pause; `window` does not, and starts again when the share changes.
    Both stop while latched, while draining and while treatment is unhealthy.
    """

    service: float = 0.0
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class Latched:
    """The engagement of the latch that keeps everything on control."""

    kind: LatchKind
    reason: str
    operator: str
    since: float


@dataclass(frozen=True, slots=True)
class RolledBackFrom:
    """The phase, and the percentage in effect, when the latch engaged."""

    phase: str
    percentage: Fraction


@dataclass(frozen=True, slots=True)
class Drain:
    """A graceful rollback in progress: `step` of `steps` steps down to 0 % are done."""

    step: int
    steps: int
    operator: str
    reason: str


@dataclass(frozen=True, slots=True)
class Trial:
    """Everybody was on treatment when it seemed to fail, so some users are back on control for comparison.

    At most `cap` percent are enrolled during the trial.
    """

    cap: Fraction
    reason: str
    since: float


class HoldKind(enum.StrEnum):
    """Why the rollout does not advance, even if the gates pass."""

    EVIDENCE = "evidence"
    SAMPLE_RATIO = "sample_ratio"
    SHARED_OUTAGE = "shared_outage"
    PENDING_ROLLBACK = "pending_rollback"


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold in force: no advance meanwhile."""

    kind: HoldKind
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class PendingRollback:
    """An automatic rollback that waits for a person."""

    cause: Cause
    reason: str
    evidence: Mapping[str, object]
    since: float


class Stance(enum.StrEnum):
    """What an operator said at a gate."""

    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Vote:
    """An operator's decision on a gate; the newest counts. `binding` is what it is valid for.

    `void` says why it is not valid any more; "" while it is valid.
    """

    gate: str
    operator: str
    stance: Stance
    at: float
    expires_at: float | None
    binding: Binding
    reason: str
    metadata: Mapping[str, object] = field(default_factory=dict)
    void: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The state of the rollout. `version` grows with every recorded event and never with a tick.

    `epoch` counts fresh starts of phases: entries, rollbacks and releases. `engagement` is the newest
    engagement of the latch that was handled. Judgements and test results are those that still count;
    votes are those of this epoch, including void ones.
    """

    version: int
    phase: str
    since: float
    epoch: int
    share: Fraction
    """The phase's percentage when it was last looked up, before ceiling, trial, drain and latch."""
    binding: Binding
    clocks: Clocks = Clocks()
    paused: bool = False
    engagement: int = 0
    latch: Latched | None = None
    rolled_back_from: RolledBackFrom | None = None
    ceiling: Fraction | None = None
    drain: Drain | None = None
    trial: Trial | None = None
    pending_rollback: PendingRollback | None = None
    holds: tuple[Hold, ...] = ()
    votes: tuple[Vote, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    tests: tuple[TestResult, ...] = ()
    automatic_off: tuple[str, ...] = ()
    """Phases that failed: there is no automatic advance into them."""

    @property
    def mode(self) -> Mode:
        """The row of the transition table that applies; the latch outranks everything else."""
        if self.latch is not None:
            return Mode.LATCHED
        if self.drain is not None:
            return Mode.DRAINING
        return Mode.PAUSED if self.paused else Mode.RUNNING


class Mode(enum.StrEnum):
    """Determines which events are legal: the rows of the transition table."""

    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    LATCHED = "latched"


# --- the events ---------------------------------------------------------------------------------


class Cause(enum.StrEnum):
    """What caused a rollback."""

    OPERATOR = "operator"
    EVIDENCE = "evidence"
    THRESHOLD = "threshold"
    """With `rollback.decision: threshold`, instead of evidence."""
    ALERT = "alert"
    SYSTEM_FAILURE = "system_failure"
    DRAINED = "drained"

    @property
    def is_judgement(self) -> bool:
        """True if the gateway judged by itself, so that a person may be asked first."""
        return self in (Cause.EVIDENCE, Cause.THRESHOLD, Cause.ALERT)

    @property
    def is_repeated(self) -> bool:
        """True if the gateway's own looks go on to find it for as long as it is so."""
        return self in (Cause.EVIDENCE, Cause.THRESHOLD)


class Authority(enum.StrEnum):
    """Who or what allows an advance."""

    GATES = "gates"
    FORCE = "force"
    AUTOMATIC = "automatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """What happened, who did it, and why; `metadata` is given by the operator, for the history."""

    operator: str
    reason: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(_Event):
    """Go to the next phase. FORCE skips gates and holds."""

    authority: Authority = Authority.GATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(_Event):
    """Everything to control and one phase back. `engagement` None: the latch is not flipped yet."""

    cause: Cause = Cause.OPERATOR
    engagement: int | None = None
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency(_Event):
    """Everything to control at once. `engagement` None: the latch is not flipped yet."""

    engagement: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatchInPlace(_Event):
    """Everything to control, in the same phase, because state or config cannot be trusted."""

    kind: LatchKind
    engagement: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(_Event):
    """Lift the latch, or set the ceiling by hand with `percentage`.

    `engagement` is the number of the latch that the operator saw: a release never lifts an engagement
    that was not handled yet.
    """

    percentage: Fraction | None = None
    engagement: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(_Event):
    """No advance and no time gate from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(_Event):
    """The pause ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginDrain(_Event):
    """A graceful rollback begins: the share goes down in steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStep(_Event):
    """One step further down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTrial(_Event):
    """Almost nobody is on control to compare treatment with: enrol at most `cap` percent from now on."""

    cap: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTrial(_Event):
    """The trial is over: the share is again that of the phase and the ceiling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve(_Event):
    """An operator approves the gate with that id. `named`: the operator used a token of their own."""

    gate: str
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(_Event):
    """An operator rejects the gate with that id; it fails until the same operator approves."""

    gate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload(_Event):
    """The config was loaded: at start, and whenever it changed. `rules` are the new ones."""

    rules: Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginHold(_Event):
    """Evidence grows, or the sample ratio is wrong: no advance from now on."""

    kind: HoldKind


@dataclass(frozen=True, slots=True, kw_only=True)
class EndHold(_Event):
    """The reason for a hold is gone."""

    kind: HoldKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge(_Event):
    """A metrics gate was judged."""

    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTest(_Event):
    """An automated test ended."""

    result: TestResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Retest(_Event):
    """Forget the failed tests, so that they run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTick(_Event):
    """So many seconds passed on the monotonic clock. Never in the history."""

    seconds: float
    treatment_healthy: bool


Event: TypeAlias = (
    Advance
    | Rollback
    | Emergency
    | LatchInPlace
    | Release
    | Pause
    | Resume
    | BeginDrain
    | DrainStep
    | BeginTrial
    | EndTrial
    | Approve
    | Reject
    | Reload
    | BeginHold
    | EndHold
    | Judge
    | FinishTest
    | Retest
    | ServiceTick
)


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the rollout's history. Folding the records gives the state again.

    `clocks` are those before the event; `gates` are the results of the gates at that time.
    """

    version: int
    at: float
    event: Event
    clocks: Clocks
    source: str
    target: str
    percentage: Fraction
    """The percentage in effect afterwards."""
    gates: tuple[GateResult, ...] = ()


# --- the effects --------------------------------------------------------------------------------


class Durability(enum.StrEnum):
    """Whether a step may take effect before it is on disk."""

    REQUIRED = "required"
    BEST_EFFORT = "best_effort"


@dataclass(frozen=True, slots=True)
class EngageLatch:
    """Flip the latch, then step `then` with the engagement's number in it."""

    kind: LatchKind
    then: Rollback | Emergency | LatchInPlace


@dataclass(frozen=True, slots=True)
class Persist:
    """Write the state and its record in one transaction.

    REQUIRED: if the store refuses, the step has no effect, because it would let more users in.
    """

    record: Record
    durability: Durability


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand the workers a snapshot of this phase and percentage (0 under the latch)."""

    phase: str
    percentage: Fraction


@dataclass(frozen=True, slots=True)
class RestartEvidence:
    """Restart every evidence process, trial and window."""


@dataclass(frozen=True, slots=True)
class RestartWindows:
    """Restart the gates' windows; evidence for a rollback is kept."""


@dataclass(frozen=True, slots=True)
class ReleaseLatch:
    """Lift this engagement, on disk first; a newer one is not affected."""

    engagement: int


@dataclass(frozen=True, slots=True)
class RunHooks:
    """Run the rollback's hooks, such as clearing a cache."""


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell people. `advice` says what they can do, "" for nothing."""

    severity: Severity
    title: str
    text: str
    advice: str = ""


Effect: TypeAlias = (
    EngageLatch | Persist | Publish | RestartEvidence | RestartWindows | ReleaseLatch | RunHooks | Notify
)


# --- the answer ---------------------------------------------------------------------------------


class RefusalCode(enum.StrEnum):
    """Why a step was not taken."""

    LATCHED = "latched"
    PAUSED = "paused"
    DRAINING = "draining"
    NOT_APPLICABLE = "not_applicable"
    GATES = "gates"
    HELD = "held"
    LAST_PHASE = "last_phase"
    AUTOMATIC_OFF = "automatic_off"
    UNKNOWN_GATE = "unknown_gate"
    UNNAMED = "unnamed"
    STALE = "stale"
    PHASE_MISSING = "phase_missing"
    CONTROL_UNHEALTHY = "control_unhealthy"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the state did not change, for people; `gates` is what each gate said, for GATES."""

    code: RefusalCode
    reason: str
    gates: tuple[GateResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """The result of an event: the state after it, and the effects to carry out, in this order.

    With a `refusal` the state is unchanged and there are no effects.
    """

    state: Rollout
    effects: tuple[Effect, ...] = ()
    refusal: Refusal | None = None
