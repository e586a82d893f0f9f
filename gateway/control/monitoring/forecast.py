"""How long it would take to detect a broken treatment: told in advance, to people who choose shares and
limits.

For a few kinds of faults, from traffic and share. `check` and `status` print it. The formula is in
`core.evidence.detection`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from gateway.core.evidence.detection import Detection, expected_breach, expected_detection
from gateway.model.deployment import Deployment
from gateway.model.safety import Rollback, RollbackDecision, Unit
from gateway.model.ticks import quarter_of
from gateway.model.units import format_duration, format_number

FAILURE_RATES = (1.0, 0.2, 0.05)
"""The kinds of broken that are spoken of: everything fails, every fifth request, every twentieth."""
_LONG = 60.0


@dataclass(frozen=True, slots=True)
class Exposed:
    """What treatment is exposed to: so many requests a second in all, of which this share is its own.

    Requests in `counted_unit`. `lasting` is False where they may soon be fewer.
    """

    requests_per_second: float
    share: float
    lasting: bool = True


def counted_unit(policy: Rollback) -> Unit:
    """What a rollback is decided by: the plain threshold takes every request."""
    return policy.unit if policy.decision is RollbackDecision.EVIDENCE else Unit.REQUEST


def forecasts(limit: float, deployment: Deployment, exposed: Exposed) -> tuple[Detection, ...]:
    """One for each kind of broken that is beyond `limit`, an error rate; after long good service."""
    return tuple(_forecast(rate, limit, deployment, exposed) for rate in FAILURE_RATES if rate > limit)


def _forecast(rate: float, limit: float, deployment: Deployment, exposed: Exposed) -> Detection:
    policy = deployment.rollback
    if policy.decision is RollbackDecision.THRESHOLD:
        return expected_breach(
            rate,
            limit=limit,
            requests_per_second=exposed.requests_per_second,
            share=exposed.share,
            window=deployment.monitoring.window,
            minimum_samples=policy.minimum_samples,
        )
    return expected_detection(
        rate,
        limit=limit,
        requests_per_second=exposed.requests_per_second,
        share=exposed.share,
        interval=_looks(deployment.monitoring.interval),
        alpha=policy.false_rollback_probability,
        minimum_failures=policy.minimum_failures,
        late=True,
    )


def _looks(interval: float) -> float:
    """Seconds from one look at heads to the next, for a tick of so many."""
    return quarter_of(0.0, interval)[1] / 1000


def in_words(found: Collection[Detection], exposed: Exposed) -> list[str]:
    """A line for each, for people; one for all where there is nothing to forecast by."""
    if found and exposed.share <= 0.0:
        return ["never: nobody is on treatment"]
    if found and exposed.requests_per_second <= 0.0:
        return ["not known while there is no traffic"]
    return [f"{_what(each.failure_rate)}: {_when(each, exposed)}" for each in found]


def _what(rate: float) -> str:
    return "if everything failed" if rate >= 1.0 else f"if {format_number(rate * 100)} % failed"


def _when(found: Detection, exposed: Exposed) -> str:
    if not math.isfinite(found.seconds):
        return "never, for treatment gets too little traffic"
    seconds = float(math.ceil(found.seconds))
    seconds = seconds if seconds < _LONG else math.ceil(seconds / _LONG) * _LONG
    takes = format_duration(seconds) if exposed.lasting else f"at least {format_duration(seconds)}"
    return f"after about {math.ceil(found.requests)} requests to treatment, {takes}"
