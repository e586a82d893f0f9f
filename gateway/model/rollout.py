"""The vocabulary of the rollout: its state, what can happen to it, and what follows.

Frozen values and nothing else: no rule is applied here. `core.rollout` says what an event does to a
state; the control process carries the effects out. Times are Unix seconds, durations seconds,
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
"""Id of the gate that stands before an automatic rollback which a person must approve."""


# --- the rules: what the config says ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Binding:
    """What an approval was given for: digests of the deployment section and of treatment's upstreams."""

    deployment: str
    treatment: str


class AdvanceMode(enum.StrEnum):
    """How a phase is left towards the next one."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"


@dataclass(frozen=True, slots=True)
class PhaseRules:
    """A phase: whom it enrols, and the gates that stand before the phase after it."""

    name: str
    user_percentage: Fraction
    dspy_enabled: bool = True
    advance: AdvanceMode = AdvanceMode.MANUAL
    gates: tuple[Gate, ...] = ()

    @property
    def share(self) -> Fraction:
        """The percentage that is enrolled: nobody where the phase has dspy switched off."""
        return self.user_percentage if self.dspy_enabled else Fraction(0)


@dataclass(frozen=True, slots=True)
class Rules:
    """All that the config says about the rollout. The phases stand in their order."""

    phases: tuple[PhaseRules, ...]
    initial_phase: str
    binding: Binding
    rollback_needs_approval: bool = False
    drain_steps: int = 5
    """Of a graceful rollback; 0 for none."""

    def find(self, name: str) -> PhaseRules | None:
        """The phase of that name, None if the config has none."""
        return next((phase for phase in self.phases if phase.name == name), None)

    def neighbour(self, name: str, offset: int) -> PhaseRules | None:
        """The phase `offset` places after `name` (before it where negative), None where there is none."""
        names = [phase.name for phase in self.phases]
        if name not in names:
            return None
        place = names.index(name) + offset
        return self.phases[place] if 0 <= place < len(names) else None


# --- the state ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds of service in this epoch, which downtime does not move.

    `service` stands still while paused; `window` does not, and begins again when the share changes.
    Both stand still while latched, while draining and while treatment is unhealthy.
    """

    service: float = 0.0
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class Latched:
    """The engagement that holds everything on control."""

    kind: LatchKind
    reason: str
    operator: str
    since: float


@dataclass(frozen=True, slots=True)
class RolledBackFrom:
    """Where the rollout stood, and the percentage in effect there, when the latch engaged."""

    phase: str
    percentage: Fraction


@dataclass(frozen=True, slots=True)
class Drain:
    """A graceful rollback under way: `step` of `steps` steps down to nobody are done."""

    step: int
    steps: int
    operator: str
    reason: str


@dataclass(frozen=True, slots=True)
class Trial:
    """Everybody was on treatment when it seemed to fail: some are taken back, to compare with.

    At most `cap` percent are enrolled while it lasts.
    """

    cap: Fraction
    reason: str
    since: float


class HoldKind(enum.StrEnum):
    """Why nothing advances although the gates may pass."""

    EVIDENCE = "evidence"
    SAMPLE_RATIO = "sample_ratio"
    SHARED_OUTAGE = "shared_outage"
    PENDING_ROLLBACK = "pending_rollback"


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that lasts: no advance meanwhile."""

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
    """An operator's word at a gate: the newest counts. `binding` is what it was given for.

    `void` says what it lost its force by, "" while it has it.
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
    """Where the rollout stands. `version` moves with every event and never with a tick.

    `epoch` counts the phase's fresh starts: entries, rollbacks and releases. `engagement` is the
    newest engagement of the latch that was worked off. Judgements and test results are those that still
    count; votes are those of this epoch, void ones with them.
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
    """Phases that failed: nothing advances into them by itself."""

    @property
    def mode(self) -> Mode:
        """The row of the transition table that applies; the latch outranks all else."""
        if self.latch is not None:
            return Mode.LATCHED
        if self.drain is not None:
            return Mode.DRAINING
        return Mode.PAUSED if self.paused else Mode.RUNNING


class Mode(enum.StrEnum):
    """What governs which events are legal."""

    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    LATCHED = "latched"


# --- the events ---------------------------------------------------------------------------------


class Cause(enum.StrEnum):
    """What wants a rollback."""

    OPERATOR = "operator"
    EVIDENCE = "evidence"
    THRESHOLD = "threshold"
    """`rollback.decision: threshold`, in the place of evidence."""
    ALERT = "alert"
    SYSTEM_FAILURE = "system_failure"
    DRAINED = "drained"

    @property
    def is_judgement(self) -> bool:
        """True where a machine judged, so that a person may be asked first."""
        return self in (Cause.EVIDENCE, Cause.THRESHOLD, Cause.ALERT)


class Authority(enum.StrEnum):
    """By what right an advance is asked for."""

    GATES = "gates"
    FORCE = "force"
    AUTOMATIC = "automatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """Something that happened, by whose hand, and why; `metadata` is the operator's own, for the history."""

    operator: str
    reason: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(_Event):
    """Go to the next phase. FORCE skips gates and holds."""

    authority: Authority = Authority.GATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(_Event):
    """Everything to control and a step back. `engagement` None: the latch is not flipped yet."""

    cause: Cause = Cause.OPERATOR
    engagement: int | None = None
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency(_Event):
    """Everything to control at once. `engagement` None: the latch is not flipped yet."""

    engagement: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatchInPlace(_Event):
    """Everything to control, the phase as it is: state or config cannot be trusted."""

    kind: LatchKind
    engagement: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(_Event):
    """Lift the latch, or set the ceiling by hand with `percentage`.

    `engagement` is the latch's number as the operator's request found it: a release never lifts an
    engagement that is not worked off.
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
    """Nobody is left on control to compare treatment with: no more than `cap` percent from now on."""

    cap: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTrial(_Event):
    """There is nothing left to try: the share is again what the phase and the ceiling say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve(_Event):
    """An operator approves the gate of that id. `named`: a token of the operator's own vouches for it."""

    gate: str
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(_Event):
    """An operator rejects the gate of that id; it fails until the same operator approves."""

    gate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload(_Event):
    """The config was loaded: at start, and whenever it changed. `rules` are the new ones."""

    rules: Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginHold(_Event):
    """Evidence gathers, or the sample ratio is off: nothing advances."""

    kind: HoldKind


@dataclass(frozen=True, slots=True, kw_only=True)
class EndHold(_Event):
    """What held no longer holds."""

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
    """So many seconds went by on the monotonic clock. Never in the history."""

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

    `clocks` are those that the event found; `gates` is what the gates said then.
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
    """Whether a step may stand before it is on disk."""

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

    REQUIRED: where the store refuses, nothing of the step stands, for it would let more users in.
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
    """Begin every evidence process, trial and window afresh."""


@dataclass(frozen=True, slots=True)
class RestartWindows:
    """Begin the gates' windows afresh; evidence for a rollback is kept."""


@dataclass(frozen=True, slots=True)
class ReleaseLatch:
    """Lift this engagement, on disk first; a newer one stays."""

    engagement: int


@dataclass(frozen=True, slots=True)
class RunHooks:
    """Run the rollback's hooks (cache clearing and the like)."""


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
    """What an event came to: the state after it and what is to be done, in this order.

    With a `refusal` the state is the one before and nothing is to be done.
    """

    state: Rollout
    effects: tuple[Effect, ...] = ()
    refusal: Refusal | None = None
