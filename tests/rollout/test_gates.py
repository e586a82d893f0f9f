"""What gates wait for, when they are looked at, and when they could pass at the earliest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core import gates
from gateway.core.judging import judge
from gateway.model.gates import Evidence, Proportion, Threshold, TimeBased, Verdict
from gateway.model.gates import TestResult as Result
from gateway.model.rollout import Approve, FinishTest, Judge, Pause, RefusalCode, Retest, ServiceTick
from gateway.model.units import Comparison, Operator
from tests.support.rollouts import ANN, APPROVAL, METRICS, NOW, SOAK, TEST, Drive, make_rules


def measured(drive: Drive, bad: int, trials: int) -> Judge:
    """The look that is due, at these counts."""
    (look,) = gates.due_looks(drive.state, drive.rules)
    return Judge(
        operator="gateway",
        judgement=judge(
            look.gate,
            look.number,
            Evidence(trials, {"error_rate": Proportion(trials, bad)}),
            epoch=drive.state.epoch,
            window=drive.state.clocks.window,
            at=drive.now,
            passed_at=look.passed_at,
        ),
    )


def in_canary() -> Drive:
    """In canary, with the metrics gate ahead."""
    return Drive(make_rules(gates={"canary": (METRICS,)})).go_to("canary")


def only(drive: Drive) -> gates.GateResult:
    """The one gate ahead."""
    (result,) = gates.evaluate(drive.state, drive.rules, drive.now)
    return result


def test_the_first_look_is_at_the_windows_end_and_then_every_half_window() -> None:
    """Asking judges nothing: between two looks the last one stands, before the first it is pending."""
    drive = in_canary()
    looks = []
    for _ in range(10):
        drive.serve(600)
        due = gates.due_looks(drive.state, drive.rules)
        looks.append(due[0].number if due else 0)
        if due:
            drive.apply(measured(drive, 4, 864))
    assert looks == [0, 0, 0, 0, 0, 1, 0, 0, 2, 0]
    assert only(drive).verdict is Verdict.INCONCLUSIVE


def test_before_the_first_look_a_metrics_gate_says_how_long_it_waits() -> None:
    """Pending, with the time of healthy service that is left."""
    drive = in_canary()
    drive.serve(600)
    result = only(drive)
    assert (result.verdict, result.worst.value) == (Verdict.PENDING, None)
    assert result.worst.reason == "look 1 in 50m of healthy service"


def test_a_gate_that_does_not_pass_says_when_it_is_looked_at_next() -> None:
    """Whoever waits for it knows for how long; one that passes is waited for by nobody."""
    drive = in_canary()
    drive.serve(3600)
    drive.apply(measured(drive, 4, 864))
    drive.serve(600)
    assert only(drive).worst.reason.endswith(" would do at this rate; look 2 in 20m of healthy service")
    (earliest, *_) = gates.schedule(drive.state, drive.rules, NOW)
    assert earliest.at == NOW + 1200
    drive.serve(1200)
    drive.apply(measured(drive, 0, 1296))
    assert "look" not in only(drive).worst.reason


def test_after_a_gap_only_the_newest_look_is_due() -> None:
    """Looks that nobody made cost nothing and are not made up for."""
    drive = in_canary()
    drive.serve(3600 + 3 * 1800)
    (look,) = gates.due_looks(drive.state, drive.rules)
    assert look.number == 4


def test_a_judgement_of_another_epoch_or_an_old_look_is_refused() -> None:
    """What was measured before a rollback says nothing of what is served after it."""
    drive = in_canary()
    drive.serve(3600)
    event = measured(drive, 0, 1000)
    stale = replace(event, judgement=replace(event.judgement, epoch=drive.state.epoch - 1))
    early = replace(event, judgement=replace(event.judgement, window=3601.0))
    assert drive.refused(stale).code is RefusalCode.STALE
    assert drive.refused(early).code is RefusalCode.STALE
    assert drive.apply(event).refusal is None
    assert drive.refused(event).code is RefusalCode.STALE


def test_a_look_that_finds_what_was_found_before_moves_numbers_and_writes_no_line() -> None:
    """A gate that stays inconclusive for a week says so once; versions move with what is news alone."""
    drive = in_canary()
    drive.serve(3600)
    drive.apply(measured(drive, 8, 864))
    version = drive.state.version
    drive.serve(1800)
    step = drive.apply(measured(drive, 12, 1300))
    assert (step.effects, drive.state.version) == ((), version)
    (judgement,) = drive.state.judgements
    assert (judgement.look, only(drive).worst.value) == (2, 12 / 1300)
    drive.serve(1800)
    drive.apply(measured(drive, 0, 1700))
    assert (only(drive).verdict, drive.state.version) == (Verdict.PASS, version + 1)


def test_a_gate_that_has_passed_is_not_taken_back_by_a_stricter_look() -> None:
    """6 of 1296 pass at the error of the first look and not at that of the second: it was shown already."""
    drive = in_canary()
    drive.serve(3600)
    drive.apply(measured(drive, 3, 864))
    for look in (2, 3):
        drive.serve(1800)
        drive.apply(measured(drive, 6, 1296))
        (judgement,) = drive.state.judgements
        assert (judgement.look, judgement.passed_at) == (look, 1)
        assert only(drive).verdict is Verdict.PASS
    late = in_canary()
    late.serve(3600 + 1800)
    late.apply(measured(late, 6, 1296))
    assert only(late).verdict is Verdict.INCONCLUSIVE


def test_a_gate_that_has_passed_is_taken_back_by_what_it_would_not_have_passed_with() -> None:
    """And has to be shown anew then, with what later looks may spend."""
    drive = in_canary()
    drive.serve(3600)
    drive.apply(measured(drive, 3, 864))
    drive.serve(1800)
    drive.apply(measured(drive, 8, 1296))
    assert only(drive).verdict is Verdict.INCONCLUSIVE
    drive.serve(1800)
    drive.apply(measured(drive, 6, 1296))
    assert only(drive).verdict is Verdict.INCONCLUSIVE
    drive.serve(1800)
    drive.apply(measured(drive, 60, 1296))
    assert only(drive).verdict is Verdict.FAIL


def test_a_judgement_of_another_limit_does_not_count() -> None:
    """The limit was edited: the gate waits for its next look."""
    drive = in_canary()
    drive.serve(3600)
    drive.apply(measured(drive, 0, 1000))
    assert only(drive).verdict is Verdict.PASS
    stricter = replace(METRICS, thresholds=(Threshold("error_rate", Comparison(Operator.LESS, 0.001)),))
    drive.rules = make_rules(gates={"canary": (stricter,)})
    assert only(drive).verdict is Verdict.PENDING


def finished(drive: Drive, succeeded: bool, subject: str = TEST.subject) -> FinishTest:
    """The test, ended."""
    detail = "exit 0" if succeeded else "exit 1"
    result = Result(TEST.id, drive.state.epoch, subject, succeeded, detail, "...", NOW)
    return FinishTest(operator="gateway", result=result)


def test_a_test_runs_once_the_gates_before_it_have_passed() -> None:
    """In order, and not while paused; a result ends it until it is asked for again."""
    drive = Drive(make_rules(gates={"staging": (APPROVAL, TEST)})).go_to("staging")
    assert gates.due_tests(drive.state, drive.rules, drive.now) == ()
    waiting = gates.evaluate(drive.state, drive.rules, drive.now)[1].worst.reason
    assert waiting == f"begins once {APPROVAL.id} has passed: {TEST.subject}"
    drive.apply(Approve(operator=ANN, gate=APPROVAL.id))
    assert gates.evaluate(drive.state, drive.rules, drive.now)[1].worst.reason.startswith("has not ended")
    assert gates.due_tests(drive.state, drive.rules, drive.now) == (TEST,)
    paused = replace(drive.state, paused=True)
    assert gates.due_tests(paused, drive.rules, drive.now) == ()
    drive.apply(finished(drive, succeeded=False))
    result = gates.evaluate(drive.state, drive.rules, drive.now)[1]
    assert (result.verdict, result.worst.reason) == (Verdict.FAIL, "exit 1")
    assert gates.due_tests(drive.state, drive.rules, drive.now) == ()
    drive.apply(Retest(operator=ANN))
    assert gates.due_tests(drive.state, drive.rules, drive.now) == (TEST,)
    drive.apply(finished(drive, succeeded=True))
    drive.apply(Retest(operator=ANN))
    assert gates.evaluate(drive.state, drive.rules, drive.now)[1].verdict is Verdict.PASS


def test_a_result_counts_for_what_was_run_only() -> None:
    """Another command under the same gate has not ended yet."""
    drive = Drive(make_rules(gates={"staging": (TEST,)})).go_to("staging")
    drive.apply(finished(drive, succeeded=True, subject="true"))
    assert only(drive).verdict is Verdict.PENDING


def test_no_tick_adds_more_than_a_minute_and_none_takes_away() -> None:
    """A process that slept, or a clock that jumped, opens no gate."""
    drive = Drive().go_to("canary")
    for seconds in (86_400.0, -5.0, float("nan"), float("inf"), float("-inf")):
        drive.apply(ServiceTick(operator="gateway", seconds=seconds, treatment_healthy=True))
    assert drive.state.clocks.service == 120.0


def test_the_schedule_says_when_each_gate_could_pass() -> None:
    """From here to the last phase: what stands, what is left, what comes after it."""
    later = TimeBased("limited_production.full_production.time_based", 7200.0)
    drive = Drive(make_rules(gates={"canary": (SOAK, METRICS, APPROVAL), "limited_production": (later,)}))
    drive.go_to("canary")
    drive.serve(600)
    entries = {entry.gate: entry.at for entry in gates.schedule(drive.state, drive.rules, NOW)}
    assert entries == {
        SOAK.id: NOW + 3000,
        METRICS.id: NOW + 3000,
        APPROVAL.id: NOW,
        later.id: NOW + 3000 + 7200,
    }


def test_the_schedule_has_no_time_while_nothing_brings_it_nearer() -> None:
    """Paused: not for the time gate, nor for what comes after it. Latched: for nothing."""
    drive = Drive(make_rules(gates={"canary": (SOAK, METRICS)})).go_to("canary")
    drive.apply(Pause(operator=ANN))
    assert [entry.at for entry in gates.schedule(drive.state, drive.rules, NOW)] == [None, NOW + 3600]
    drive.emergency()
    assert {entry.at for entry in gates.schedule(drive.state, drive.rules, NOW)} == {None}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (APPROVAL.id, APPROVAL.id),
        ("manual_approval", APPROVAL.id),
        ("automated_test", TEST.id),
        ("time_based", None),
        ("nonsense", None),
    ],
)
def test_a_gate_goes_by_its_id_or_by_its_type_where_one_is_open(name: str, found: str | None) -> None:
    """Where two of a type are open, the id must be said."""
    drive = Drive(make_rules(gates={"staging": (TEST, APPROVAL)})).go_to("staging")
    assert gates.resolve(name, drive.state, drive.rules, NOW) == found
    second = replace(APPROVAL, id=f"{APPROVAL.id}.2")
    drive.rules = make_rules(gates={"staging": (TEST, APPROVAL, second)})
    assert gates.resolve("manual_approval", drive.state, drive.rules, NOW) is None
    drive.apply(Approve(operator=ANN, gate=APPROVAL.id))
    assert gates.resolve("manual_approval", drive.state, drive.rules, NOW) == second.id
    drive.apply(Approve(operator=ANN, gate=second.id))
    assert gates.resolve("manual_approval", drive.state, drive.rules, NOW) is None


def test_an_approval_is_taken_back_by_the_gate_s_type() -> None:
    """Passed or not, the only gate of its type is the one that is meant."""
    drive = Drive(make_rules(gates={"staging": (APPROVAL,)})).go_to("staging")
    drive.apply(Approve(operator=ANN, gate=APPROVAL.id))
    assert gates.resolve("manual_approval", drive.state, drive.rules, NOW) == APPROVAL.id
