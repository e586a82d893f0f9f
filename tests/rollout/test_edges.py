"""The rollout's rules at the edges: every row of the contract's table that the machine decides."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.core import gates
from gateway.core.percentage import effective_percentage, percentage_after_release
from gateway.core.rollout import automatic_advance, reconcile, step
from gateway.model.alerts import Severity
from gateway.model.gates import Finding, Judgement, ManualApproval, Verdict
from gateway.model.gates import TestResult as Result
from gateway.model.latch import LatchKind, LatchView
from gateway.model.rollout import (
    ROLLBACK_GATE,
    Advance,
    Approve,
    Authority,
    BeginDrain,
    BeginHold,
    BeginTrial,
    Binding,
    Cause,
    DrainStep,
    Emergency,
    EndHold,
    EndTrial,
    EngageLatch,
    Event,
    FinishTest,
    HoldKind,
    Judge,
    Mode,
    Notify,
    Pause,
    Persist,
    Publish,
    RefusalCode,
    Reject,
    Release,
    ReleaseLatch,
    Reload,
    RestartEvidence,
    RestartWindows,
    Resume,
    Rollback,
    Rules,
    RunHooks,
)
from tests.support.rollouts import (
    ANN,
    APPROVAL,
    BEN,
    ERROR_LIMIT,
    METRICS,
    NOW,
    SOAK,
    TEST,
    Drive,
    make_rules,
)

FALLS: list[Event] = [Rollback(operator=ANN, reason="bad"), Emergency(operator=ANN, reason="now")]
fall = pytest.mark.parametrize("fall", FALLS, ids=["rollback", "emergency"])


def share(drive: Drive) -> Fraction:
    """The percentage in effect."""
    return effective_percentage(drive.state, drive.rules)


def judgement(verdict: Verdict, look: int, drive: Drive) -> Judge:
    """The metrics gate, judged."""
    finding = Finding("error_rate", verdict, 0.0, ERROR_LIMIT, "")
    return Judge(
        operator="gateway",
        judgement=Judgement(METRICS.id, drive.state.epoch, look, drive.state.clocks.window, NOW, (finding,)),
    )


def verdicts(drive: Drive) -> list[Verdict]:
    """What the gates ahead say."""
    return [result.verdict for result in gates.evaluate(drive.state, drive.rules, drive.now)]


# --- rollback or emergency in the first phase: stays in it, latched -------------------------------


@fall
def test_in_the_first_phase_it_stays_and_latches(fall: Event) -> None:
    """There is no phase before; the routing flips all the same."""
    drive = Drive()
    drive.apply(fall)
    assert drive.state.phase == "development"
    assert drive.state.mode is Mode.LATCHED
    assert share(drive) == 0
    (notice,) = drive.effects(Notify)
    assert isinstance(notice, Notify)
    assert notice.title.endswith(": development, everything to control")


@fall
def test_in_a_later_phase_it_steps_back_latches_and_says_so(fall: Event) -> None:
    """The design's order: the latch first, then the record, the routing, the hooks, the people."""
    drive = Drive().go_to("limited_production")
    drive.apply(fall)
    assert (drive.state.phase, drive.state.mode, share(drive)) == ("canary", Mode.LATCHED, 0)
    kinds = [type(effect) for effect in drive.last.effects]
    assert kinds == [Persist, Publish, RestartEvidence, RunHooks, Notify]
    (notice,) = drive.effects(Notify)
    assert isinstance(notice, Notify)
    assert notice.severity is Severity.CRITICAL


@pytest.mark.parametrize(("reason", "words"), [("looks odd", "ann: looks odd"), ("", "ann: no reason given")])
def test_people_are_told_who_it_was_and_why_or_that_nobody_said_why(reason: str, words: str) -> None:
    """Never a colon with nothing behind it."""
    drive = Drive().go_to("limited_production")
    drive.apply(Rollback(operator=ANN, reason=reason))
    (notice,) = drive.effects(Notify)
    assert isinstance(notice, Notify)
    assert notice.text == words


# --- a second one while latched: recorded, no further step back -----------------------------------


@fall
def test_a_second_one_while_latched_is_recorded_and_steps_no_further(fall: Event) -> None:
    """Two alarms for one fire are two lines in the history and one step back."""
    drive = Drive().go_to("limited_production")
    drive.roll_back()
    records = len(drive.records)
    drive.apply(fall)
    assert drive.state.phase == "canary"
    assert len(drive.records) == records + 1
    assert drive.state.engagement == 2


def test_an_emergency_while_latched_takes_over_the_description_and_is_told_once() -> None:
    """As on the latch's page, which people are shown; since when, and who was first, stays on record."""
    drive = Drive().go_to("canary")
    drive.roll_back()
    before = drive.state.latch
    drive.emergency()
    latch = drive.state.latch
    assert before is not None
    assert latch == replace(before, kind=LatchKind.EMERGENCY, reason="now")
    (notice,) = drive.effects(Notify)
    assert isinstance(notice, Notify)
    assert notice.severity is Severity.HIGH
    assert notice.title == "emergency in staging, latched already (rollback): everything stays on control"
    drive.emergency()
    assert drive.state.latch == latch
    assert drive.effects(Notify) == []


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        (HoldKind.EVIDENCE, Severity.MEDIUM),
        (HoldKind.SAMPLE_RATIO, Severity.HIGH),
        (HoldKind.SHARED_OUTAGE, Severity.CRITICAL),
    ],
)
def test_a_hold_wakes_people_only_if_they_can_do_something(kind: HoldKind, severity: Severity) -> None:
    """Evidence that gathers is decided without them within seconds, one way or the other."""
    drive = Drive().go_to("canary")
    drive.apply(BeginHold(operator=ANN, reason="so", kind=kind))
    (notice,) = drive.effects(Notify)
    assert isinstance(notice, Notify)
    assert notice.severity is severity


@fall
def test_an_engagement_is_worked_off_once(fall: Event) -> None:
    """The number says so, also to a control process that was dead at the time."""
    drive = Drive().go_to("limited_production")
    drive.apply(fall)
    before = drive.state
    drive.apply(replace(fall, engagement=drive.state.engagement))  # type: ignore[call-arg]
    assert drive.state == before
    assert drive.last.effects == ()


# --- advance, approve, resume while latched: refused -----------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        Advance(operator=ANN),
        Advance(operator=ANN, authority=Authority.FORCE),
        Approve(operator=ANN, gate=APPROVAL.id),
        Resume(operator=ANN),
    ],
    ids=["advance", "advance --force", "approve", "resume"],
)
@pytest.mark.parametrize("paused", [False, True])
def test_while_latched_it_is_refused(event: Event, paused: bool) -> None:
    """The way out is a release, and the message says so."""
    drive = Drive(make_rules(gates={"staging": (APPROVAL,)})).go_to("canary")
    if paused:
        drive.apply(Pause(operator=ANN))
    drive.roll_back()
    refusal = drive.refused(event)
    assert refusal.code is RefusalCode.LATCHED
    assert "release it first" in refusal.reason


# --- release ----------------------------------------------------------------------------------------


def test_a_release_comes_back_at_most_at_the_percentage_that_failed() -> None:
    """Canary's 1 % failed; staging would send everybody: the ceiling is 1 %."""
    drive = Drive().go_to("canary")
    drive.roll_back()
    assert percentage_after_release(drive.state, drive.rules) == 1
    drive.release()
    assert (drive.state.phase, drive.state.ceiling, share(drive)) == ("staging", 1, 1)
    assert drive.published[-1] == Publish("staging", Fraction(1))


def test_a_release_under_a_smaller_phase_has_no_ceiling() -> None:
    """Where the phase itself sends less than what failed there is nothing to cap."""
    drive = Drive().go_to("limited_production")
    drive.roll_back()
    drive.release()
    assert (drive.state.phase, drive.state.ceiling, share(drive)) == ("canary", None, 1)


def test_the_next_advance_lifts_the_ceiling() -> None:
    """And so does a release with a percentage that is none."""
    for lift in ("advance", "release"):
        drive = Drive().go_to("canary")
        drive.roll_back()
        drive.release()
        if lift == "advance":
            drive.apply(Advance(operator=ANN))
            assert (drive.state.phase, drive.state.ceiling) == ("canary", None)
        else:
            drive.release(100)
            assert (drive.state.phase, drive.state.ceiling, share(drive)) == ("staging", None, 100)


def test_release_with_a_percentage_sets_the_ceiling() -> None:
    """While latched and afterwards; a moved share begins the windows again."""
    drive = Drive().go_to("canary")
    drive.roll_back()
    drive.release(30)
    assert share(drive) == 30
    drive.serve(600)
    drive.release(40)
    assert (share(drive), drive.state.clocks.window, drive.state.clocks.service) == (40, 0.0, 600.0)
    assert drive.effects(RestartWindows)


def test_after_a_release_evidence_clocks_and_windows_begin_at_zero_and_paused_stays() -> None:
    """Nothing that was gathered before counts; a pause is an operator's own word."""
    drive = Drive(make_rules(gates={"canary": (SOAK,)})).go_to("limited_production")
    drive.roll_back()
    drive.apply(Pause(operator=ANN))
    epoch = drive.state.epoch
    drive.release()
    assert (drive.state.clocks.service, drive.state.clocks.window) == (0.0, 0.0)
    assert drive.state.epoch == epoch + 1
    assert drive.effects(RestartEvidence)
    assert drive.state.mode is Mode.PAUSED


def test_the_latch_is_lifted_after_the_new_share_is_published() -> None:
    """On disk, then with the workers, then off: at no moment does an old share come back."""
    drive = Drive().go_to("canary")
    drive.roll_back()
    drive.release()
    kinds = [type(effect) for effect in drive.last.effects]
    assert kinds == [Persist, Publish, RestartEvidence, ReleaseLatch, Notify]


def test_a_release_names_the_engagement_that_it_lifts() -> None:
    """One that came while the operator was typing stays."""
    drive = Drive().go_to("canary")
    drive.roll_back()
    drive.emergency()
    assert drive.refused(Release(operator=ANN, engagement=1)).code is RefusalCode.STALE


def test_a_release_of_nothing_is_refused() -> None:
    """But for one that moves the ceiling."""
    assert Drive().refused(Release(operator=ANN)).code is RefusalCode.NOT_APPLICABLE


# --- advance: automatic after a rollback --------------------------------------------------------------


def automatic_drive() -> Drive:
    """Every phase moves on by itself, without gates."""
    return Drive(make_rules(automatic=("development", "staging", "canary")))


def test_automatic_phases_move_by_themselves_when_every_gate_passes() -> None:
    """And only then, and only those."""
    drive = Drive(make_rules(automatic=("canary",), gates={"canary": (SOAK,)}))
    assert automatic_advance(drive.state, drive.rules, drive.now) is None
    drive.go_to("canary")
    assert automatic_advance(drive.state, drive.rules, drive.now) is None
    drive.serve(3600)
    event = automatic_advance(drive.state, drive.rules, drive.now)
    assert event is not None
    drive.apply(event)
    assert drive.state.phase == "limited_production"


@pytest.mark.parametrize("way_out", ["manual advance", "changed deployment"])
def test_after_a_rollback_nothing_advances_by_itself_into_the_phase_that_failed(way_out: str) -> None:
    """Until a person advances, or the deployment is another."""
    drive = automatic_drive().go_to("canary")
    drive.roll_back()
    drive.release()
    assert automatic_advance(drive.state, drive.rules, drive.now) is None
    asked = Advance(operator="gateway", authority=Authority.AUTOMATIC)
    assert drive.refused(asked).code is RefusalCode.AUTOMATIC_OFF
    if way_out == "manual advance":
        drive.apply(Advance(operator=ANN))
        drive.apply(Rollback(operator=ANN, engagement=9))
        assert drive.state.automatic_off == ("canary",)
    else:
        rules = replace(drive.rules, binding=Binding("deployment-2", "treatment-1"))
        drive.apply(Reload(operator=ANN, rules=rules))
        assert automatic_advance(drive.state, rules, drive.now) is not None


# --- pause --------------------------------------------------------------------------------------------


def test_pause_stops_advances_and_time_gates() -> None:
    """Also forced and automatic advances; the windows of metrics go on."""
    drive = Drive(make_rules(gates={"canary": (SOAK,)}, automatic=("canary",))).go_to("canary")
    drive.serve(600)
    drive.apply(Pause(operator=ANN))
    drive.serve(7200)
    assert (drive.state.clocks.service, drive.state.clocks.window) == (600.0, 7800.0)
    for authority in Authority:
        assert drive.refused(Advance(operator=ANN, authority=authority)).code is RefusalCode.PAUSED
    drive.apply(Resume(operator=ANN))
    drive.serve(3000)
    assert verdicts(drive) == [Verdict.PASS]


@fall
def test_rollback_and_emergency_go_on_while_paused(fall: Event) -> None:
    """A pause holds the way up, never the way down."""
    drive = Drive().go_to("canary")
    drive.apply(Pause(operator=ANN))
    drive.apply(fall)
    assert (drive.state.phase, drive.state.mode, drive.state.paused) == ("staging", Mode.LATCHED, True)


# --- emergency or rollback during a drain, a reload, a pending approval: wins ---------------------------


@fall
def test_during_a_drain_it_wins(fall: Event) -> None:
    """The drain ends where it stands; the ceiling is what was served before it."""
    drive = Drive().go_to("limited_production")
    drive.apply(BeginDrain(operator=ANN))
    drive.apply(DrainStep(operator="gateway"))
    assert share(drive) == 5
    drive.apply(fall)
    assert (drive.state.mode, drive.state.drain, share(drive)) == (Mode.LATCHED, None, 0)
    assert drive.state.rolled_back_from is not None
    assert drive.state.rolled_back_from.percentage == 10


def test_a_drain_goes_down_to_nobody_and_ends_in_the_rollback() -> None:
    """Step by step, and nothing goes up meanwhile."""
    drive = Drive().go_to("full_production")
    drive.apply(BeginDrain(operator=ANN))
    shares = [share(drive)]
    while drive.apply(DrainStep(operator="gateway")).refusal is None:
        shares.append(share(drive))
    assert shares == [75, 50, 25, 0]
    assert drive.refused(Advance(operator=ANN)).code is RefusalCode.DRAINING
    drive.apply(Rollback(operator=ANN, cause=Cause.DRAINED))
    assert (drive.state.phase, drive.state.mode) == ("limited_production", Mode.LATCHED)


@fall
def test_during_a_reload_it_wins(fall: Event) -> None:
    """A reload before or after changes nothing about the latch."""
    for order in ("before", "after"):
        drive = Drive().go_to("canary")
        rules = make_rules(percentages={"canary": 50, "staging": 60})
        steps = [Reload(operator=ANN, rules=rules), fall]
        for event in steps if order == "before" else reversed(steps):
            drive.apply(event)
            drive.rules = rules if isinstance(event, Reload) else drive.rules
        assert (drive.state.phase, drive.state.mode, share(drive)) == ("staging", Mode.LATCHED, 0)
        assert drive.published[-1].percentage == 0


@fall
def test_during_a_pending_approval_it_wins(fall: Event) -> None:
    """What was approved before is void after it."""
    drive = Drive(make_rules(gates={"staging": (APPROVAL,)})).go_to("staging")
    drive.apply(Approve(operator=ANN, gate=APPROVAL.id))
    drive.apply(fall)
    assert drive.state.mode is Mode.LATCHED
    drive.release()
    drive.go_to("staging")
    assert verdicts(drive) == [Verdict.PENDING]


@fall
def test_during_an_advance_it_wins(fall: Event) -> None:
    """The advance that was being written comes first, and is taken back."""
    drive = Drive().go_to("canary")
    drive.apply(Advance(operator=ANN))
    drive.apply(fall)
    assert (drive.state.phase, drive.state.mode) == ("canary", Mode.LATCHED)


# --- approvals ---------------------------------------------------------------------------------------


def approved_drive() -> Drive:
    """In canary, with an approval given and a metrics gate judged to pass."""
    approval = ManualApproval("canary.limited_production.manual_approval", 1, 3600.0)
    drive = Drive(make_rules(gates={"canary": (METRICS, approval)})).go_to("canary")
    drive.serve(3600)
    drive.apply(judgement(Verdict.PASS, 1, drive))
    drive.apply(Approve(operator=ANN, gate=approval.id, metadata={"ticket": 7}))
    assert verdicts(drive) == [Verdict.PASS, Verdict.PASS]
    return drive


def test_an_approval_expires() -> None:
    """At its very second, and not by a clock that runs backwards before it."""
    drive = approved_drive()
    drive.now = NOW + 3599.9
    assert verdicts(drive)[1] is Verdict.PASS
    drive.now = NOW + 3600.0
    assert verdicts(drive)[1] is Verdict.PENDING
    (_, approval) = gates.evaluate(drive.state, drive.rules, drive.now)
    assert approval.worst.reason == f"0 of 1 approvals; expired: {ANN}"


def said_of_approval(drive: Drive) -> str:
    """What the gate of an `approved_drive` says of itself."""
    return gates.evaluate(drive.state, drive.rules, drive.now)[1].worst.reason


def test_a_reload_voids_rejections_too_and_the_first_reason_stays() -> None:
    """What was rejected was another deployment as well; a hold after it says nothing new."""
    drive = approved_drive()
    drive.apply(Reject(operator=BEN, gate="canary.limited_production.manual_approval", reason="no"))
    drive.apply(
        Reload(operator=ANN, rules=replace(drive.rules, binding=Binding("deployment-2", "treatment-1")))
    )
    drive.apply(BeginHold(operator="gateway", kind=HoldKind.SAMPLE_RATIO, reason="off"))
    why = "a reload changed what it was given for"
    assert said_of_approval(drive) == f"0 of 1 approvals; void: {ANN} ({why}), {BEN} ({why})"


@pytest.mark.parametrize(
    "binding", [Binding("deployment-2", "treatment-1"), Binding("deployment-1", "treatment-2")]
)
def test_an_approval_is_void_when_what_was_approved_changes(binding: Binding) -> None:
    """The deployment section, or the upstream behind treatment."""
    drive = approved_drive()
    drive.apply(Reload(operator=ANN, rules=replace(drive.rules, binding=binding)))
    assert verdicts(drive)[1] is Verdict.PENDING


def test_an_approval_survives_a_reload_that_changes_nothing_of_it() -> None:
    """A log level is no reason to ask again."""
    drive = approved_drive()
    drive.apply(Reload(operator=ANN, rules=drive.rules))
    assert verdicts(drive)[1] is Verdict.PASS


@pytest.mark.parametrize(
    ("before", "after", "stands"),
    [
        (Verdict.PASS, Verdict.INCONCLUSIVE, False),
        (Verdict.PASS, Verdict.FAIL, False),
        (Verdict.PASS, Verdict.PASS, True),
    ],
)
def test_an_approval_is_void_when_a_metrics_verdict_worsens(
    before: Verdict, after: Verdict, stands: bool
) -> None:
    """Who approved had seen better."""
    drive = approved_drive()
    drive.serve(1800)
    drive.apply(judgement(after, 2, drive))
    assert verdicts(drive) == [after, Verdict.PASS if stands else Verdict.PENDING]
    void = f"0 of 1 approvals; void: {ANN} ({METRICS.id} became worse)"
    assert said_of_approval(drive) == (f"approved by {ANN}" if stands else void)


@pytest.mark.parametrize(("found", "stands"), [(Verdict.FAIL, False), (Verdict.INCONCLUSIVE, True)])
def test_an_approval_from_before_the_first_look_is_void_when_that_fails(found: Verdict, stands: bool) -> None:
    """Nobody had seen the failure; too little data is what was known."""
    approval = ManualApproval("canary.limited_production.manual_approval", 1, None)
    drive = Drive(make_rules(gates={"canary": (METRICS, approval)})).go_to("canary")
    drive.apply(Approve(operator=ANN, gate=approval.id))
    drive.serve(3600)
    drive.apply(judgement(found, 1, drive))
    assert verdicts(drive) == [found, Verdict.PASS if stands else Verdict.PENDING]


def test_an_approval_is_void_when_a_drain_begins_and_its_operator_sees_why() -> None:
    """It is not forgotten as if nobody had given it; a rejection stands."""
    drive = Drive(make_rules(gates={"canary": (APPROVAL,)})).go_to("canary")
    drive.apply(Approve(operator=ANN, gate=APPROVAL.id))
    drive.apply(Reject(operator=BEN, gate=APPROVAL.id))
    drive.apply(BeginDrain(operator=BEN))
    approval, rejection = drive.state.votes
    assert (approval.operator, approval.void) == (ANN, f"{BEN} began to drain canary")
    assert (rejection.operator, rejection.void) == (BEN, "")


@pytest.mark.parametrize("kind", [HoldKind.EVIDENCE, HoldKind.SAMPLE_RATIO, HoldKind.SHARED_OUTAGE])
def test_an_approval_is_void_when_a_hold_begins(kind: HoldKind) -> None:
    """And the hold's end does not bring it back."""
    drive = approved_drive()
    drive.apply(BeginHold(operator="gateway", kind=kind, reason="E = 12"))
    assert drive.refused(Advance(operator=ANN)).code is RefusalCode.HELD
    drive.apply(EndHold(operator="gateway", kind=kind))
    assert verdicts(drive)[1] is Verdict.PENDING
    assert drive.refused(Advance(operator=ANN)).code is RefusalCode.GATES
    assert said_of_approval(drive) == f"0 of 1 approvals; void: {ANN} (held by {kind})"


def test_an_approval_is_bound_to_its_transition() -> None:
    """Of another gate, or of no gate that waits for approval, it is refused."""
    drive = approved_drive()
    for name in (APPROVAL.id, METRICS.id, "nonsense", ROLLBACK_GATE):
        assert drive.refused(Approve(operator=ANN, gate=name)).code is RefusalCode.UNKNOWN_GATE


def test_two_approvals_need_two_named_operators() -> None:
    """One person twice is one, and a name that no token vouches for is none."""
    gate = replace(APPROVAL, approvals=2)
    drive = Drive(make_rules(gates={"staging": (gate,)})).go_to("staging")
    assert drive.refused(Approve(operator=ANN, gate=gate.id)).code is RefusalCode.UNNAMED
    drive.apply(Approve(operator=ANN, gate=gate.id, named=True))
    drive.apply(Approve(operator=ANN, gate=gate.id, named=True))
    assert verdicts(drive) == [Verdict.PENDING]
    drive.apply(Approve(operator=BEN, gate=gate.id, named=True))
    assert verdicts(drive) == [Verdict.PASS]


def test_a_rejection_fails_the_gate_until_its_operator_approves() -> None:
    """One no outweighs the yes of another."""
    drive = Drive(make_rules(gates={"staging": (APPROVAL,)})).go_to("staging")
    drive.apply(Approve(operator=ANN, gate=APPROVAL.id))
    drive.apply(Reject(operator=BEN, gate=APPROVAL.id, reason="not on a Friday"))
    (result,) = gates.evaluate(drive.state, drive.rules, drive.now)
    assert (result.verdict, result.worst.reason) == (Verdict.FAIL, "rejected by ben: not on a Friday")
    drive.apply(Approve(operator=BEN, gate=APPROVAL.id))
    assert verdicts(drive) == [Verdict.PASS]


# --- manual_approval_required ------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.EVIDENCE, Cause.THRESHOLD, Cause.ALERT])
def test_an_automatic_rollback_waits_for_approval_where_that_is_required(cause: Cause) -> None:
    """It adds a gate, pages and holds; asked twice it waits once."""
    drive = Drive(make_rules(rollback_needs_approval=True)).go_to("canary")
    trigger = Rollback(operator="gateway", cause=cause, reason="E = 1200", evidence={"value": 1200})
    drive.apply(trigger)
    waiting = gates.pending_rollback(drive.state, drive.rules)
    assert waiting is not None
    assert (waiting.id, waiting.verdict) == (ROLLBACK_GATE, Verdict.PENDING)
    (notice,) = drive.effects(Notify)
    assert isinstance(notice, Notify)
    assert notice.severity is Severity.CRITICAL
    assert (drive.state.phase, share(drive)) == ("canary", 1)
    for authority in (Authority.GATES, Authority.FORCE):
        assert drive.refused(Advance(operator=ANN, authority=authority)).code is RefusalCode.HELD
    version = drive.state.version
    drive.apply(trigger)
    assert drive.state.version == version
    drive.apply(Approve(operator=BEN, gate=ROLLBACK_GATE, reason="yes", metadata={"ticket": 7}))
    assert (drive.state.phase, drive.state.mode) == ("staging", Mode.LATCHED)
    event = drive.records[-1].event
    assert isinstance(event, Rollback)
    assert (event.operator, event.cause, event.evidence) == (BEN, cause, {"value": 1200})
    assert event.metadata == {"ticket": 7}


@pytest.mark.parametrize(
    ("said", "reason"), [("", "E = 1200 (approved)"), ("yes", "E = 1200 (approved: yes)")]
)
def test_an_approved_rollback_says_why_it_was_asked_for_and_approved(said: str, reason: str) -> None:
    drive = Drive(make_rules(rollback_needs_approval=True)).go_to("canary")
    drive.apply(Rollback(operator="gateway", cause=Cause.EVIDENCE, reason="E = 1200"))
    drive.apply(Approve(operator=BEN, gate=ROLLBACK_GATE, reason=said))
    event = drive.records[-1].event
    assert isinstance(event, Rollback)
    assert event.reason == reason


def test_a_rejected_rollback_goes_on_with_fresh_evidence() -> None:
    """What was judged not to be a reason is not held against treatment again."""
    drive = Drive(make_rules(rollback_needs_approval=True)).go_to("canary")
    drive.apply(Rollback(operator="gateway", cause=Cause.EVIDENCE, reason="E = 1200"))
    drive.apply(Reject(operator=BEN, gate=ROLLBACK_GATE, reason="a test of ours"))
    assert (drive.state.pending_rollback, drive.state.holds) == (None, ())
    assert drive.effects(RestartEvidence)


def test_a_rejected_rollback_begins_the_gates_windows_too() -> None:
    """What restarts the evidence restarts the windows: the clock says how much they cover."""
    drive = Drive(make_rules(rollback_needs_approval=True)).go_to("canary")
    drive.serve(600)
    drive.apply(Rollback(operator="gateway", cause=Cause.EVIDENCE, reason="E = 1200"))
    drive.apply(Reject(operator=BEN, gate=ROLLBACK_GATE, reason="a test of ours"))
    assert (drive.state.clocks.window, drive.state.clocks.service) == (0.0, 600.0)


PAGE = LatchView(0, False, LatchKind.EMERGENCY, "", "")
"""Of a latch that nobody ever engaged."""


def waiting(cause: Cause) -> Drive:
    """In canary, where a rollback waits for approval beside another hold."""
    drive = Drive(make_rules(rollback_needs_approval=True)).go_to("canary")
    drive.apply(BeginHold(operator="gateway", kind=HoldKind.SAMPLE_RATIO))
    drive.apply(Rollback(operator="gateway", cause=cause, reason="E = 1200", evidence={"value": 1200}))
    return drive


def reload(drive: Drive, rules: Rules) -> None:
    """Put other rules in force."""
    drive.apply(Reload(operator=ANN, rules=rules))
    drive.rules = rules


@pytest.mark.parametrize("cause", [Cause.EVIDENCE, Cause.THRESHOLD, Cause.ALERT])
@pytest.mark.parametrize("asks", [True, False])
def test_another_upstream_behind_treatment_takes_the_question_back(cause: Cause, asks: bool) -> None:
    """What it was about is gone: neither the gate nor its hold stays, and nothing is rolled back."""
    drive = waiting(cause)
    other = Binding("deployment-1", "treatment-2")
    reload(drive, replace(drive.rules, binding=other, rollback_needs_approval=asks))
    assert drive.effects(RestartEvidence)
    assert (drive.state.pending_rollback, [hold.kind for hold in drive.state.holds]) == (
        None,
        [HoldKind.SAMPLE_RATIO],
    )
    assert reconcile(drive.state, PAGE, drive.rules) is None


@pytest.mark.parametrize("cause", [Cause.EVIDENCE, Cause.THRESHOLD])
def test_where_nobody_is_asked_any_more_the_next_look_decides(cause: Cause) -> None:
    """The question is gone with its hold; what convicts still is a rollback, what does not is none."""
    drive = waiting(cause)
    reload(drive, replace(drive.rules, rollback_needs_approval=False))
    assert (drive.state.pending_rollback, len(drive.state.holds)) == (None, 1)
    assert not drive.effects(RestartEvidence)
    assert reconcile(drive.state, PAGE, drive.rules) is None
    drive.apply(Rollback(operator="gateway", cause=cause, reason="E = 1300"))
    assert (drive.state.mode, drive.records[-1].event.reason) == (Mode.LATCHED, "E = 1300")


def test_where_nobody_is_asked_any_more_what_an_alert_asked_for_is_done() -> None:
    """Alertmanager does not look again: it told once, and somebody relies on it."""
    drive = waiting(Cause.ALERT)
    reload(drive, replace(drive.rules, rollback_needs_approval=False))
    event = reconcile(drive.state, PAGE, drive.rules)
    assert isinstance(event, Rollback)
    drive.apply(event)
    assert (drive.state.mode, drive.state.phase) == (Mode.LATCHED, "staging")
    assert (event.cause, event.reason, event.evidence) == (Cause.ALERT, "E = 1200", {"value": 1200})


def test_another_reload_leaves_the_question() -> None:
    """What changed has nothing to do with it."""
    drive = waiting(Cause.EVIDENCE)
    reload(drive, replace(drive.rules, binding=Binding("deployment-2", "treatment-1")))
    assert drive.state.pending_rollback is not None
    assert len(drive.state.holds) == 2
    assert reconcile(drive.state, PAGE, drive.rules) is None


@pytest.mark.parametrize(
    "event",
    [
        Emergency(operator=ANN),
        Rollback(operator="gateway", cause=Cause.SYSTEM_FAILURE),
        Rollback(operator=ANN, cause=Cause.OPERATOR),
    ],
    ids=["emergency", "system failure", "operator"],
)
def test_an_emergency_a_system_failure_and_a_person_never_wait(event: Event) -> None:
    """Approval is for what a machine judged."""
    drive = Drive(make_rules(rollback_needs_approval=True)).go_to("canary")
    drive.apply(event)
    assert drive.state.mode is Mode.LATCHED


# --- a trial: nobody is left on control to compare with -------------------------------------------------

TRIAL = BeginTrial(operator="gateway", reason="nobody to compare with", cap=Fraction(50))


def trial_drive(rules: Rules | None = None) -> Drive:
    """In full production, with a trial."""
    drive = Drive(rules or make_rules()).go_to("full_production")
    drive.serve(600)
    drive.apply(TRIAL)
    return drive


def test_a_trial_caps_the_share_and_begins_the_windows_again() -> None:
    """It pages, and the time gate's clock runs on; begun twice it is one."""
    drive = trial_drive()
    assert drive.published[-1] == Publish("full_production", Fraction(50))
    assert drive.effects(RestartWindows)
    assert not drive.effects(RestartEvidence)
    (notice,) = drive.effects(Notify)
    assert isinstance(notice, Notify)
    assert notice.severity is Severity.CRITICAL
    assert (drive.state.clocks.window, drive.state.clocks.service) == (0.0, 600.0)
    before = drive.state
    drive.apply(TRIAL)
    assert drive.state == before


def test_a_trial_lets_nobody_in() -> None:
    """A share that is less already stays: the cap is no percentage of its own."""
    drive = Drive().go_to("limited_production")
    drive.apply(TRIAL)
    assert share(drive) == 10


def test_the_end_of_a_trial_brings_everybody_back() -> None:
    """To what phase and ceiling say; ended twice it has ended once."""
    drive = trial_drive()
    drive.apply(EndTrial(operator="gateway"))
    assert (drive.state.trial, share(drive)) == (None, 100)
    before = drive.state
    drive.apply(EndTrial(operator="gateway"))
    assert drive.state == before


@fall
def test_during_a_trial_it_wins(fall: Event) -> None:
    """Latched, and the trial is over: nothing of it is left after the release."""
    drive = trial_drive()
    drive.apply(fall)
    assert (drive.state.mode, drive.state.trial, share(drive)) == (Mode.LATCHED, None, 0)
    assert drive.refused(TRIAL).code is RefusalCode.LATCHED
    drive.release()
    assert (drive.state.trial, share(drive)) == (None, 10)


def test_a_trial_goes_on_while_paused_and_under_a_drain_that_began() -> None:
    """A drain takes its steps from what the trial left; a pause is about the way up."""
    drive = trial_drive()
    drive.apply(Pause(operator=ANN))
    assert share(drive) == 50
    drive.apply(BeginDrain(operator=ANN))
    assert share(drive) == Fraction(75, 2)
    assert drive.refused(EndTrial(operator="gateway")).code is RefusalCode.DRAINING


def test_other_evidence_ends_a_trial() -> None:
    """Another upstream behind treatment, or a person's word that there was nothing: all begins afresh."""
    drive = trial_drive()
    other = replace(drive.rules, binding=Binding("deployment-1", "treatment-2"))
    drive.apply(Reload(operator=ANN, rules=other))
    assert (drive.state.trial, share(drive)) == (None, 100)
    drive = trial_drive(make_rules(rollback_needs_approval=True))
    drive.apply(Rollback(operator="gateway", cause=Cause.EVIDENCE, reason="E = 1200"))
    drive.apply(Reject(operator=BEN, gate=ROLLBACK_GATE, reason="a test of ours"))
    assert (drive.state.trial, share(drive)) == (None, 100)


# --- time gates ---------------------------------------------------------------------------------------


def test_time_gates_add_up_seconds_of_healthy_service() -> None:
    """Not while latched, not while treatment is unhealthy; and downtime is simply no tick."""
    drive = Drive(make_rules(gates={"canary": (SOAK,)})).go_to("canary")
    drive.serve(1800)
    drive.serve(7200, healthy=False)
    assert drive.state.clocks.service == 1800
    drive.now += 7 * 86_400
    assert verdicts(drive) == [Verdict.PENDING]
    drive.serve(1800)
    assert verdicts(drive) == [Verdict.PASS]
    drive.emergency()
    drive.serve(7200)
    assert drive.state.clocks.service == 0


# --- reload -------------------------------------------------------------------------------------------


def test_a_changed_percentage_of_the_current_phase_applies_at_once_and_restarts_the_windows() -> None:
    """It is in the history; the time gate's clock runs on."""
    drive = Drive().go_to("canary")
    drive.serve(600)
    rules = make_rules(percentages={"canary": 2}, binding=Binding("deployment-2", "treatment-1"))
    drive.apply(Reload(operator=ANN, rules=rules))
    assert drive.published[-1] == Publish("canary", Fraction(2))
    assert (drive.state.clocks.window, drive.state.clocks.service) == (0.0, 600.0)
    assert drive.effects(RestartWindows)
    assert isinstance(drive.records[-1].event, Reload)


def test_another_upstream_behind_treatment_begins_evidence_tests_and_windows_afresh() -> None:
    """What was measured was something else."""
    drive = Drive(make_rules(gates={"staging": (TEST,)})).go_to("staging")
    drive.serve(600)
    result = Result(TEST.id, drive.state.epoch, TEST.subject, True, "exit 0", "", NOW)
    drive.apply(FinishTest(operator="gateway", result=result))
    assert verdicts(drive) == [Verdict.PASS]
    drive.apply(
        Reload(operator=ANN, rules=replace(drive.rules, binding=Binding("deployment-1", "treatment-2")))
    )
    assert drive.effects(RestartEvidence)
    assert drive.state.clocks.window == 0.0
    assert verdicts(drive) == [Verdict.PENDING]


def test_a_reload_is_published_though_neither_phase_nor_share_moved() -> None:
    """Flags, limits and endpoints are in the snapshot too."""
    drive = Drive().go_to("canary")
    drive.apply(Reload(operator=ANN, rules=drive.rules))
    assert drive.effects(Publish) == [Publish("canary", Fraction(1))]


def test_removing_the_current_phase_is_refused() -> None:
    """Whole, with the reason."""
    drive = Drive().go_to("canary")
    rules = make_rules(ladder=(("development", 100), ("full_production", 100)))
    assert drive.refused(Reload(operator=ANN, rules=rules)).code is RefusalCode.PHASE_MISSING


def test_a_phase_with_dspy_switched_off_enrols_nobody() -> None:
    """Whatever its percentage says."""
    drive = Drive(make_rules(disabled=("staging",))).go_to("staging")
    assert share(drive) == 0


def test_an_unflipped_fall_asks_for_the_latch_and_nothing_else() -> None:
    """Flip first, then persist, then tell."""
    drive = Drive().go_to("canary")
    for event in FALLS:
        taken = step(drive.state, event, drive.now, drive.rules)
        assert taken.state == drive.state
        assert [type(effect) for effect in taken.effects] == [EngageLatch]
