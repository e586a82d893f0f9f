"""The gates ahead: what each one says, what it waits for, and when it could pass at the earliest.

A pure function of the rollout's state, the rules and the time. Votes, judgements, test results and clocks are
all part of the state, so asking changes nothing.

`core.judging` has the statistics of a judgement; `core.rollout` decides whether the rollout may move.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gateway.model.gates import (
    AutomatedTest,
    Finding,
    Gate,
    GateResult,
    GateType,
    ManualApproval,
    MetricsThreshold,
    TimeBased,
    Verdict,
)
from gateway.model.rollout import ROLLBACK_GATE, Clocks, Mode, Rollout, Rules, Stance, Vote
from gateway.model.units import Comparison, Operator, Transition, format_duration


@dataclass(frozen=True, slots=True)
class Look:
    """A judgement that is due: which gate, and the how-manieth look it is.

    `passed_at` is the look at which it passed, if it has at every one since.
    """

    gate: MetricsThreshold
    number: int
    passed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Earliest:
    """When a gate could pass at the earliest, in Unix seconds; None while nothing brings it nearer."""

    transition: Transition
    gate: str
    at: float | None


def gates_ahead(state: Rollout, rules: Rules) -> tuple[Gate, ...]:
    """The gates before the next phase, in their order; none before an end of the ladder."""
    phase = rules.find(state.phase)
    if phase is None or rules.neighbour(state.phase, 1) is None:
        return ()
    return phase.gates


def evaluate(state: Rollout, rules: Rules, at: float) -> tuple[GateResult, ...]:
    """What every gate before the next phase says at time `at`, in their order."""
    target = rules.neighbour(state.phase, 1)
    if target is None:
        return ()
    transition = Transition(state.phase, target.name)
    results: list[GateResult] = []
    for gate in gates_ahead(state, rules):
        before = next((result.id for result in results if result.verdict is not Verdict.PASS), None)
        findings = _findings(gate, state, at, before)
        results.append(GateResult(gate.id, transition, gate.type, findings))
    return tuple(results)


def pending_rollback(state: Rollout, rules: Rules) -> GateResult | None:
    """The gate before an automatic rollback that waits for a person, None without one."""
    pending = state.pending_rollback
    if pending is None:
        return None
    previous = rules.neighbour(state.phase, -1)
    transition = Transition(state.phase, previous.name if previous else state.phase)
    finding = Finding(
        "approvals", Verdict.PENDING, 0.0, _at_least(1), f"waits for approval: {pending.reason}"
    )
    return GateResult(ROLLBACK_GATE, transition, GateType.MANUAL_APPROVAL, (finding,))


def asked(state: Rollout, rules: Rules, at: float) -> tuple[GateResult, ...]:
    """Everything that waits for a gate: those ahead, and the one before a rollback."""
    waiting = pending_rollback(state, rules)
    return (*evaluate(state, rules, at), *(() if waiting is None else (waiting,)))


def overall(results: tuple[GateResult, ...]) -> Verdict:
    """The worst verdict; PASS where there is no gate."""
    return max((result.verdict for result in results), default=Verdict.PASS)


def _findings(gate: Gate, state: Rollout, at: float, before: str | None) -> tuple[Finding, ...]:
    """What a gate says; `before` is the first before it that has not passed."""
    match gate:
        case ManualApproval():
            return (_approval(gate, state, at),)
        case TimeBased():
            return (_time(gate, state),)
        case AutomatedTest():
            return (_test(gate, state, before),)
        case MetricsThreshold():
            return _metrics(gate, state)


def standing_votes(state: Rollout, gate: str, at: float) -> tuple[Vote, ...]:
    """The votes at a gate that have force at time `at`: neither void nor expired."""
    return tuple(
        vote
        for vote in state.votes
        if vote.gate == gate and not vote.void and (vote.expires_at is None or at < vote.expires_at)
    )


def _approval(gate: ManualApproval, state: Rollout, at: float) -> Finding:
    votes = standing_votes(state, gate.id, at)
    approvers = sorted({vote.operator for vote in votes if vote.stance is Stance.APPROVED})
    rejection = next((vote for vote in votes if vote.stance is Stance.REJECTED), None)
    if rejection is not None:
        why = f": {rejection.reason}" if rejection.reason else ""
        verdict, reason = Verdict.FAIL, f"rejected by {rejection.operator}{why}"
    elif len(approvers) >= gate.approvals:
        verdict, reason = Verdict.PASS, f"approved by {', '.join(approvers)}"
    else:
        lapsed = [vote for vote in state.votes if vote.gate == gate.id and vote not in votes]
        verdict, reason = Verdict.PENDING, f"{len(approvers)} of {gate.approvals} approvals{_lapses(lapsed)}"
    return Finding("approvals", verdict, float(len(approvers)), _at_least(gate.approvals), reason)


def _lapses(lapsed: Sequence[Vote]) -> str:
    """Whose word is without force now, and why."""
    expired = ", ".join(sorted(vote.operator for vote in lapsed if not vote.void))
    void = ", ".join(sorted(f"{vote.operator} ({vote.void})" for vote in lapsed if vote.void))
    return (f"; expired: {expired}" if expired else "") + (f"; void: {void}" if void else "")


def _time(gate: TimeBased, state: Rollout) -> Finding:
    served = state.clocks.service
    left = gate.minimum - served
    if left <= 0:
        verdict, reason = Verdict.PASS, f"{format_duration(math.floor(served))} of healthy service"
    else:
        stands = "" if state.mode is Mode.RUNNING else f"; the clock stands still while {state.mode}"
        verdict, reason = (
            Verdict.PENDING,
            f"{format_duration(math.ceil(left))} of healthy service left{stands}",
        )
    return Finding("service_seconds", verdict, served, _at_least(gate.minimum), reason)


def _test(gate: AutomatedTest, state: Rollout, before: str | None) -> Finding:
    result = next(
        (test for test in state.tests if test.gate == gate.id and test.subject == gate.subject), None
    )
    if result is None:
        waits = "has not ended" if before is None else f"begins once {before} has passed"
        return Finding("success", Verdict.PENDING, None, _at_least(1), f"{waits}: {gate.subject}")
    verdict = Verdict.PASS if result.succeeded else Verdict.FAIL
    return Finding("success", verdict, float(result.succeeded), _at_least(1), result.detail)


def _metrics(gate: MetricsThreshold, state: Rollout) -> tuple[Finding, ...]:
    """What the last look found, and when the next one is where that is waited for."""
    judgement = next((item for item in state.judgements if item.gate == gate.id), None)
    judged = () if judgement is None else judgement.findings
    look = 1 if judgement is None else judgement.look + 1
    left = format_duration(math.ceil(max(0.0, _look_due(gate, look) - state.clocks.window)))
    waits = f"look {look} in {left} of healthy service"
    found = {
        (finding.metric, finding.threshold): finding
        if finding.verdict is Verdict.PASS
        else replace(finding, reason=f"{finding.reason}; {waits}")
        for finding in judged
    }
    return tuple(
        found.get(
            (threshold.metric, threshold.comparison),
            Finding(threshold.metric, Verdict.PENDING, None, threshold.comparison, waits),
        )
        for threshold in gate.thresholds
    )


def _at_least(value: float) -> Comparison:
    return Comparison(Operator.AT_LEAST, float(value))


# --- what is due --------------------------------------------------------------------------------


def _look_due(gate: MetricsThreshold, look: int) -> float:
    """The window clock at which look number `look` is due: the window's end, then every half window."""
    return gate.window * (1.0 + (look - 1) / 2.0)


def due_looks(state: Rollout, rules: Rules) -> tuple[Look, ...]:
    """The judgements that are due now. After a gap only the newest is: each look costs certainty."""
    looks = []
    for gate in gates_ahead(state, rules):
        if not isinstance(gate, MetricsThreshold) or state.clocks.window < gate.window:
            continue
        number = 1 + math.floor((state.clocks.window / gate.window - 1.0) * 2.0)
        last = next((item for item in state.judgements if item.gate == gate.id), None)
        if last is None:
            looks.append(Look(gate, number))
        elif number > last.look:
            looks.append(Look(gate, number, last.passed_at))
    return tuple(looks)


def due_tests(state: Rollout, rules: Rules, at: float) -> tuple[AutomatedTest, ...]:
    """The tests that should run now: without a result, and every gate before them passed."""
    if state.mode is not Mode.RUNNING:
        return ()
    due = []
    for gate, result in zip(gates_ahead(state, rules), evaluate(state, rules, at), strict=True):
        if isinstance(gate, AutomatedTest) and result.verdict is Verdict.PENDING:
            due.append(gate)
        if result.verdict is not Verdict.PASS:
            break
    return tuple(due)


# --- when ---------------------------------------------------------------------------------------


def schedule(state: Rollout, rules: Rules, at: float) -> tuple[Earliest, ...]:
    """The earliest time of each gate from here to the last phase, phase after phase.

    People and tests are taken to answer at once, metrics to pass at their next look. Nothing has a
    time while the latch is engaged or a drain is under way.
    """
    names = [phase.name for phase in rules.phases]
    if state.phase not in names:
        return ()
    moving = state.mode in (Mode.RUNNING, Mode.PAUSED)
    entered: float | None = at if moving else None
    clocks, paused = state.clocks, state.paused
    entries: list[Earliest] = []
    for source, target in itertools.pairwise(rules.phases[names.index(state.phase) :]):
        waits = {gate.id: _wait(gate, state, clocks, paused) for gate in source.gates}
        times = {gate: _add(entered, wait) for gate, wait in waits.items()}
        transition = Transition(source.name, target.name)
        entries += [Earliest(transition, gate, time) for gate, time in times.items()]
        entered = None if None in times.values() else _latest(entered, times.values())
        clocks = Clocks()
    return tuple(entries)


def _wait(gate: Gate, state: Rollout, clocks: Clocks, paused: bool) -> float | None:
    """Seconds until the gate could pass, by these clocks; None while its clock stands still."""
    match gate:
        case TimeBased():
            left = max(0.0, gate.minimum - clocks.service)
            return None if paused and left > 0 else left
        case MetricsThreshold():
            judgement = next((item for item in state.judgements if item.gate == gate.id), None)
            if judgement is None:
                return max(0.0, gate.window - clocks.window)
            if judgement.verdict is Verdict.PASS:
                return 0.0
            return max(0.0, _look_due(gate, judgement.look + 1) - clocks.window)
        case ManualApproval() | AutomatedTest():
            return 0.0


def _add(begin: float | None, wait: float | None) -> float | None:
    return None if begin is None or wait is None else begin + wait


def _latest(begin: float | None, times: Iterable[float | None]) -> float | None:
    return max((time for time in (begin, *times) if time is not None), default=None)


# --- names --------------------------------------------------------------------------------------


def resolve(name: str, state: Rollout, rules: Rules, at: float) -> str | None:
    """The id of the gate that an operator means: an id, or a type that one unpassed gate has.

    Where all of a type have passed it means the only one: an approval may be taken back.
    """
    results = evaluate(state, rules, at)
    waiting = pending_rollback(state, rules)
    if waiting is not None:
        results += (waiting,)
    if any(result.id == name for result in results):
        return name
    of_type = [result for result in results if result.type == name]
    meant = [result for result in of_type if result.verdict is not Verdict.PASS] or of_type
    return meant[0].id if len(meant) == 1 else None
