"""What the evidence amounts to: one number, one verdict, one sentence.

If a guardrail has a limit, its evidence is the smaller of "over the limit" and "worse than control", so
an outage of both arms does not convict treatment. The guardrails are averaged with fixed weights. An
average of e-values is an e-value (Vovk and Wang 2021, arXiv 2409.19888), so the result keeps its meaning.
Guardrails without data leave their weight unused.

A pure function of a state and the config's parameters: asking changes nothing. `control.monitoring` acts
on it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from gateway.core.evidence import trials
from gateway.core.evidence.gathering import Limits
from gateway.core.evidence.state import HOLD_FROM, EvidenceState, Guardrail
from gateway.model.metrics import Metric
from gateway.model.safety import OnSharedOutage, Unit

CLIENT_ERRORS = "client_errors"
"""The guardrail that is no metric of the config: a treatment that answers 4xx to what control serves."""
WEIGHTS: Mapping[str, float] = {
    Metric.ERROR_RATE: 0.4,
    Metric.PERFORMANCE_DEGRADATION: 0.3,
    Metric.USER_SATISFACTION: 0.2,
    CLIENT_ERRORS: 0.1,
}
"""What each guardrail counts for in the whole. Errors are bad heads and cut streams, by halves."""
LEAST_USERS = 3
"""Distinct users that must have seen a failure, if treatment had so many."""
LARGEST_SHARE_IN_TRIAL = 0.5
"""Up to this share of treatment's there is as much to compare with as in a trial."""
LEAST_CONTROL = 50
"""Control requests, of the last ten minutes or in a trial, below which there is nothing to compare with."""
TRIAL_MILLISECONDS = 60_000
"""A trial that did not convict by then blames both arms."""
PLAIN = 0.001
"""How likely it may be, of two arms that are alike, that control looks so much worse in a trial that goes on:
it is looked at again and again, and whoever ends a trial without need leaves treatment unjudged."""
SHOWN = 0.05
"""The same where a trial has blamed both arms: only who is to have the users is still open."""
_LEAST_TOLD = 0.001
_MOST_TOLD = 1000.0  # times what is needed; sentences do not count further


class Verdict(enum.IntEnum):
    """What is to be done; the order of the members is the order of severity."""

    QUIET = 0
    """Nothing; what was held for evidence need not be."""
    HOLD = 1
    """Do not advance: something gathers."""
    TRIAL = 2
    """Over its limit, and nobody to compare with: cap the share at half, or keep it capped."""
    SHARED_OUTAGE = 3
    """Both arms are over the limit alike: hold and page."""
    ROLL_BACK = 4
    """Over its limit and worse than control."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """When evidence acts. `alpha` is `rollback.false_rollback_probability`, `unit` what was counted."""

    alpha: float = 0.001
    minimum_failures: int = 5
    on_shared_outage: OnSharedOutage = OnSharedOutage.HOLD
    unit: Unit = Unit.REQUEST


@dataclass(frozen=True, slots=True)
class Part:
    """One guardrail: its weight in the whole, and its evidence; None without any data.

    `against_limit` and `against_control` are the two that `value` is the smaller one of, None where
    there is only the other. `failures` of treatment's `requests` were bad, of at least `users` users.
    """

    name: str
    weight: float
    value: float | None
    against_limit: float | None
    against_control: float | None
    requests: int
    failures: int
    users: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """All that the evidence says. It convicts once `value` reaches `limit`, which is 1/alpha.

    `failures` and `users` are those of the part that says most. `against_limit` is the whole without
    any comparison; `caps_share` is True while treatment may have no more than half of the users, for
    there would be nobody to compare with. `reason` is a sentence for people.
    """

    value: float
    limit: float
    parts: tuple[Part, ...]
    failures: int
    users: int
    verdict: Verdict
    against_limit: float
    caps_share: bool
    reason: str


def assess(
    state: EvidenceState, limits: Limits, parameters: Parameters, *, now: int, control_healthy: bool = True
) -> Assessment:
    """Judge. `now` in monotonic milliseconds; `control_healthy`: has control any healthy endpoint."""
    case = _Case(state, _parts(state, limits), limits, parameters, now, control_healthy)
    finding = _judge(case)
    leading = case.leading
    return Assessment(
        case.value,
        case.needed,
        case.parts,
        leading.failures,
        leading.users,
        finding.verdict,
        case.against_limit,
        finding.caps_share,
        finding.reason,
    )


# --- the guardrails -----------------------------------------------------------------------------


def _parts(state: EvidenceState, limits: Limits) -> tuple[Part, ...]:
    """The four guardrails; one without a limit has no data."""
    failures = (state.errors, state.truncations)
    return (
        _limited(Metric.ERROR_RATE, failures if limits.error_rate is not None else ()),
        _compared(
            Metric.PERFORMANCE_DEGRADATION,
            state.slowness if limits.performance_degradation is not None else (),
        ),
        _limited(
            Metric.USER_SATISFACTION,
            (state.dissatisfaction,) if limits.dissatisfaction is not None else (),
        ),
        _compared(CLIENT_ERRORS, (state.client_errors,)),
    )


def _limited(name: str, guardrails: tuple[Guardrail, ...]) -> Part:
    """Outcomes that are judged by a limit and by control."""
    count = max((guardrail.count for guardrail in guardrails), default=0)
    if not count:
        return Part(name, WEIGHTS[name], None, None, None, 0, 0, 0)
    return Part(
        name,
        WEIGHTS[name],
        fmean(min(_over(one), _worse(one)) for one in guardrails),
        fmean(map(_over, guardrails)),
        fmean(map(_worse, guardrails)),
        count,
        int(sum(guardrail.bad for guardrail in guardrails)),
        max(guardrail.users.most for guardrail in guardrails),
    )


def _compared(name: str, guardrails: tuple[Guardrail, ...]) -> Part:
    """Outcomes that only control can judge. Failures are those of the first, the least strict one."""
    if not any(guardrail.compared for guardrail in guardrails):
        return Part(name, WEIGHTS[name], None, None, None, 0, 0, 0)
    first = guardrails[0]
    value = fmean(map(_worse, guardrails))
    return Part(name, WEIGHTS[name], value, None, value, first.count, int(first.bad), first.users.most)


def _over(guardrail: Guardrail) -> float:
    return guardrail.treatment.value if guardrail.count else 0.0


def _worse(guardrail: Guardrail) -> float:
    return guardrail.relative.value if guardrail.compared else 0.0


# --- the verdict --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Finding:
    verdict: Verdict
    reason: str
    caps_share: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    """All that a judgement is made of."""

    state: EvidenceState
    parts: tuple[Part, ...]
    limits: Limits
    parameters: Parameters
    now: int
    control_healthy: bool

    @property
    def needed(self) -> float:
        return 1.0 / self.parameters.alpha

    @property
    def value(self) -> float:
        return math.fsum(_weighed(part.weight, part.value) for part in self.parts)

    @property
    def against_limit(self) -> float:
        return math.fsum(_weighed(part.weight, part.against_limit) for part in self.parts)

    @property
    def leading(self) -> Part:
        return max(self.parts, key=lambda part: _weighed(part.weight, part.value))

    @property
    def leading_against_limit(self) -> Part:
        return max(self.parts, key=lambda part: _weighed(part.weight, part.against_limit))

    def lacks(self, part: Part) -> str:
        """What is missing before a part may act, "" for nothing: enough failures, of enough users."""
        users = min(LEAST_USERS, self.state.treatment_users.most)
        if part.failures < self.parameters.minimum_failures:
            return f"{part.failures} of {self.parameters.minimum_failures} failures"
        return f"failures of {part.users} of {users} users" if part.users < users else ""

    def fact(self, part: Part) -> str:
        """What a part found, for people."""
        return _what(part, self.parameters.unit)


def _weighed(weight: float, value: float | None) -> float:
    return 0.0 if value is None else weight * value


def _judge(case: _Case) -> _Finding:
    """The first that applies, the gravest first."""
    convicts = case.value >= case.needed
    lacks = case.lacks(case.leading)
    if convicts and not lacks:
        reason = f"{case.fact(case.leading)}: {_how(case.leading)} ({_numbers(case.value, case.needed)})"
        return _Finding(Verdict.ROLL_BACK, reason)
    return (
        _without_control(case)
        or _shared_outage(case)
        or _hold(case, f"would roll back, but has only {lacks}" if convicts else "evidence gathers")
    )


def _without_control(case: _Case) -> _Finding | None:
    """Everybody, or nearly, is on treatment: is a trial due, or one that goes on, or one that still holds?"""
    trial = case.state.trial
    if trial is None or case.state.over < HOLD_FROM:
        return _trial_due(case)
    fact = case.fact(case.leading_against_limit)
    if not case.control_healthy:
        return _nobody_to_send(f"{fact}, and control has no healthy endpoint")
    convicts_nobody = trial.control >= LEAST_CONTROL and case.now - trial.since >= TRIAL_MILLISECONDS
    if trials.control_is_worse(case.state, case.limits, SHOWN if convicts_nobody else PLAIN):
        seen = trials.failures(case.state)
        return _nobody_to_send(
            f"{fact}, and {seen.control_bad:.0f} of {seen.control} requests to control: it is worse"
        )
    if not trial.capped:
        return _trial_due(case) or _nobody_to_send(f"{fact}, and control was away when it was asked for")
    if convicts_nobody:
        return _outage(case, f"{fact}, and {trial.control} requests to control no less", caps_share=True)
    return _Finding(Verdict.TRIAL, f"{fact}; compared with {trial.control} requests to control", True)


def _trial_due(case: _Case) -> _Finding | None:
    """Is treatment over its limit, with nobody to compare it with?"""
    part = case.leading_against_limit
    if (
        case.against_limit < case.needed
        or case.lacks(part)
        or case.state.share <= LARGEST_SHARE_IN_TRIAL
        or case.state.recent_control(case.now) >= LEAST_CONTROL
    ):
        return None
    if not case.control_healthy:
        return _nobody_to_send(f"{case.fact(part)}, and control has no healthy endpoint")
    return _Finding(Verdict.TRIAL, f"{case.fact(part)}, over its limit, with nobody on control", True)


def _nobody_to_send(reason: str) -> _Finding:
    """Both arms are bad, and control is the worse one: neither a trial nor a rollback would help anybody."""
    return _Finding(Verdict.SHARED_OUTAGE, reason)


def _shared_outage(case: _Case) -> _Finding | None:
    """Is control over the limit for certain, and treatment too, and not worse?"""
    for guardrail in case.state.limited:
        together = _over(guardrail) >= HOLD_FROM and guardrail.control.value >= case.needed
        if together and _worse(guardrail) < HOLD_FROM:
            return _outage(case, f"{case.fact(case.leading_against_limit)}, and control fails alike")
    return None


def _outage(case: _Case, reason: str, caps_share: bool = False) -> _Finding:
    acts = case.parameters.on_shared_outage is OnSharedOutage.ROLLBACK
    if acts and not case.lacks(case.leading_against_limit):
        return _Finding(Verdict.ROLL_BACK, f"{reason}; on_shared_outage says rollback")
    return _Finding(Verdict.SHARED_OUTAGE, reason, caps_share)


def _hold(case: _Case, reason: str) -> _Finding:
    strongest = max(part.value or 0.0 for part in case.parts)
    if strongest < HOLD_FROM:
        return _Finding(Verdict.QUIET, f"nothing against treatment ({_numbers(case.value, case.needed)})")
    return _Finding(
        Verdict.HOLD, f"{case.fact(case.leading)}: {reason} ({_numbers(case.value, case.needed)})"
    )


# --- words --------------------------------------------------------------------------------------


def _what(part: Part, unit: Unit) -> str:
    """The fact, for people. They count otherwise: a failure that a user meets again is none here."""
    of = f"{part.failures} of {part.requests}"
    requests = "treatment requests"
    if unit is Unit.USER:
        requests += " (each user's first in ten minutes)"
    match part.name:
        case Metric.ERROR_RATE:
            return f"{of} {requests} failed"
        case Metric.PERFORMANCE_DEGRADATION:
            return f"{of} {requests} were slow"
        case Metric.USER_SATISFACTION:
            return f"{of} ratings of treatment are missing to the best"
        case _:
            return f"{of} {requests} were refused as client errors"


def _how(part: Part) -> str:
    return "worse than control" if part.against_limit is None else "over the limit and worse than control"


def _numbers(value: float, needed: float) -> str:
    """What was found and what it takes, without exponents: nobody asks how far over the line it is."""
    most = _MOST_TOLD * needed
    if value > most:
        told = f"over {most:,.0f}"
    elif 0.0 < value < _LEAST_TOLD:
        told = f"under {_LEAST_TOLD:g}"
    else:
        told = f"{value:,.0f}" if value >= 1000.0 else f"{value:.3g}"
    return f"evidence {told}, {needed:,.0f} convicts"
