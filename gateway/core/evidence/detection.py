"""How long it takes to detect a broken treatment: for people who choose a share and its limits.

Expectations, not bounds, for both ways to decide. Evidence grows per request of treatment by the
Kullback-Leibler divergence between what is seen and what is allowed, and has to make up for its split
stakes (see `capital`). A plain threshold has to outweigh the successes in its window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.core.evidence.assessment import LARGEST_SHARE_IN_TRIAL, LEAST_CONTROL, WEIGHTS
from gateway.core.evidence.capital import FIRST_STAKE, GRID
from gateway.core.evidence.odds import LEAST_LIMIT
from gateway.core.evidence.state import MINUTE, RECENT_MINUTES, SECOND
from gateway.core.evidence.weighing import need
from gateway.model.metrics import Metric

LATE = 10.0
"""Nats more after long good service: what was staked at the beginning is lost by then."""
_ERRORS_HALF = WEIGHTS[Metric.ERROR_RATE] / 2.0
_RECENT_SECONDS = RECENT_MINUTES * MINUTE / SECOND
_NEVER = math.inf
_ROUNDING = 1e-9  # of whole numbers that were divided and multiplied again


@dataclass(frozen=True, slots=True)
class Detection:
    """Requests to treatment until a rollback, and the seconds that they take; inf where it never comes."""

    failure_rate: float
    late: bool
    requests: float
    seconds: float


def expected_detection(
    failure_rate: float,
    *,
    limit: float,
    requests_per_second: float,
    share: float,
    interval: float,
    alpha: float,
    minimum_failures: int = 5,
    late: bool = False,
) -> Detection:
    """What to expect if from now on so many of treatment's requests fail, in [0, 1], and none of control's.

    `limit` is the phase's error rate, `share` treatment's share of `requests_per_second` (of requests
    that count: users' first ones in ten minutes where the unit is user); they are looked at all `interval`
    seconds. `late`: after long good service. Where hardly anybody is on control a trial has to come first,
    and its requests on top; about its edge, where chance has it come or not, the truth lies between.
    """
    treated = requests_per_second * share
    if failure_rate <= limit or treated <= 0.0:
        return Detection(failure_rate, late, _NEVER, _NEVER)
    nats = math.log(len(GRID) / (FIRST_STAKE * _ERRORS_HALF * alpha)) + (LATE if late else 0.0)
    over = max(nats / _divergence(failure_rate, max(limit, LEAST_LIMIT)), minimum_failures / failure_rate)
    if _needs_trial(requests_per_second, share):
        capped = requests_per_second * LARGEST_SHARE_IN_TRIAL
        worse = _comparison(nats, failure_rate, LARGEST_SHARE_IN_TRIAL)
        stages = [_stage(over, treated, interval), _stage(worse, capped, interval)]
    else:
        stages = [_stage(max(over, _comparison(nats, failure_rate, share)), treated, interval)]
    requests, seconds = map(math.fsum, zip(*stages, strict=True))
    return Detection(failure_rate, late, math.ceil(requests - _ROUNDING), seconds)


def _stage(needed: float, per_second: float, interval: float) -> tuple[float, float]:
    """Requests and seconds until so many were judged: with them go all others of the last interval."""
    seconds = math.ceil(math.ceil(needed) / per_second / interval - _ROUNDING) * interval
    return seconds * per_second, seconds


def _needs_trial(requests_per_second: float, share: float) -> bool:
    """Is there nobody to speak of on control, as it stands when treatment breaks?"""
    control = requests_per_second * (1.0 - share) * _RECENT_SECONDS
    return share > LARGEST_SHARE_IN_TRIAL and control < LEAST_CONTROL


def _comparison(nats: float, failure_rate: float, share: float) -> float:
    """Requests to treatment until it is shown to be worse than control."""
    return max(nats / _growth(failure_rate, share), need(share) * share)


def expected_breach(
    failure_rate: float,
    *,
    limit: float,
    requests_per_second: float,
    share: float,
    window: float,
    minimum_samples: int,
) -> Detection:
    """The same of a plain threshold on the last `window` seconds, which good service has filled.

    Never where the window does not get `minimum_samples` of treatment's requests.
    """
    treated = requests_per_second * share
    held = treated * window
    if failure_rate <= limit or held < minimum_samples:
        return Detection(failure_rate, True, _NEVER, _NEVER)
    requests = math.floor(limit * held / failure_rate) + 1
    return Detection(failure_rate, True, requests, requests / treated)


def _divergence(p: float, q: float) -> float:
    """Nats by which a Bernoulli variable of probability p shows that it is not one of q."""
    good = (1.0 - p) * math.log((1.0 - p) / (1.0 - q)) if p < 1.0 else 0.0
    return (p * math.log(p / q) if p > 0.0 else 0.0) + good


def _growth(failure_rate: float, share: float) -> float:
    """Nats per request to treatment by which it is worse than a control that never fails."""
    both = share * failure_rate
    return _divergence(failure_rate, both) + (1.0 - share) / share * _divergence(0.0, both)
