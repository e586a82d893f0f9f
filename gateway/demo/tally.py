"""What the demo's users experienced: samples in, figures of each arm out.

Totals are kept for ever, single samples for a short window, counts per second for the curves. It does
no I/O and reads no clock; the caller gives times in monotonic seconds.
"""

from __future__ import annotations

import enum
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.model.snapshot import Arm

WINDOW = 10.0
"""Seconds that shares, rates and latencies look back: long enough for a p99, short enough to see a fault."""
CURVE_SECONDS = 180
"""Seconds of requests per second that are kept."""
RECENT_SAMPLES = 40
_MAX_WINDOW_SAMPLES = 10_000


class Ending(enum.StrEnum):
    """How a request ended, as its user saw it."""

    OK = "ok"
    FAILED = "failed"
    CUT_OFF = "cut off"
    TIMEOUT = "timeout"
    NO_CONNECTION = "no connection"


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished request. `arm` is what the answer said, None where there was no such answer.

    `first_byte` and `duration` are seconds since the request began; `status` is 0 without an answer.
    """

    at: float
    user: str
    arm: Arm | None
    streamed: bool
    status: int
    ending: Ending
    first_byte: float
    duration: float


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Seconds; NaN while there is nothing to tell."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm's column. `requests`, `errors` and `users` are totals; the rest looks back `WINDOW` seconds.

    `completion` covers whole JSON answers, `first_token` the first byte of streams.
    """

    requests: int
    errors: int
    users: int
    share: float
    rate: float
    error_rate: float
    completion: Quantiles
    first_token: Quantiles


class Tally:
    """Adds up samples. `started_at` is the moment that the traffic began."""

    def __init__(self, started_at: float) -> None:
        self.recent: deque[Sample] = deque(maxlen=RECENT_SAMPLES)
        """The newest answers, newest last."""
        self.unanswered = 0
        """Requests that ended without an answer of the gateway's."""
        self._started_at = self._window_from = started_at
        self._window: deque[Sample] = deque(maxlen=_MAX_WINDOW_SAMPLES)
        self._requests = dict.fromkeys(Arm, 0)
        self._errors = dict.fromkeys(Arm, 0)
        self._users: dict[Arm, set[str]] = {arm: set() for arm in Arm}
        self._per_second: dict[Arm, Counter[int]] = {arm: Counter() for arm in Arm}

    def add(self, sample: Sample) -> None:
        """Count one finished request."""
        self.recent.append(sample)
        if sample.arm is None:
            self.unanswered += 1
            return
        if sample.at - sample.duration >= self._window_from:
            self._window.append(sample)
        self._requests[sample.arm] += 1
        self._errors[sample.arm] += sample.ending is not Ending.OK
        self._users[sample.arm].add(sample.user)
        seconds = self._per_second[sample.arm]
        second = int(sample.at - self._started_at)
        seconds[second] += 1
        del seconds[second - CURVE_SECONDS]

    def restart_window(self, now: float) -> None:
        """The split has changed: what looks back sees only requests that begin from now on."""
        self._window.clear()
        self._window_from = now

    @property
    def users(self) -> int:
        """Users that were answered so far."""
        return len(self._users[Arm.CONTROL] | self._users[Arm.TREATMENT])

    @property
    def movers(self) -> int:
        """Users that were answered by both arms: none, unless the split changed or failover stepped in."""
        return len(self._users[Arm.CONTROL] & self._users[Arm.TREATMENT])

    def overall_share(self, arm: Arm) -> float:
        """The arm's share of all answers since the start; 0 before the first."""
        return self._requests[arm] / max(1, sum(self._requests.values()))

    def figures(self, now: float) -> dict[Arm, ArmFigures]:
        """The columns of both arms."""
        while self._window and self._window[0].at < now - WINDOW:
            self._window.popleft()
        return {arm: self._figures(arm, now) for arm in Arm}

    def _figures(self, arm: Arm, now: float) -> ArmFigures:
        window = [sample for sample in self._window if sample.arm is arm]
        answered = [sample for sample in window if sample.ending is Ending.OK]
        seconds = max(1.0, min(WINDOW, now - self._window_from))
        return ArmFigures(
            requests=self._requests[arm],
            errors=self._errors[arm],
            users=len(self._users[arm]),
            share=len(window) / max(1, len(self._window)),
            rate=len(window) / seconds,
            error_rate=(len(window) - len(answered)) / max(1, len(window)),
            completion=quantiles([sample.duration for sample in answered if not sample.streamed]),
            first_token=quantiles([sample.first_byte for sample in answered if sample.streamed]),
        )

    def curve(self, arm: Arm, now: float, points: int) -> list[int]:
        """Answers in each of the last `points` whole seconds, oldest first; fewer early on."""
        end = int(now - self._started_at)
        start = max(0, end - min(points, CURVE_SECONDS))
        return [self._per_second[arm][second] for second in range(start, end)]


def quantiles(values: Sequence[float]) -> Quantiles:
    """Nearest-rank quantiles of what was seen."""
    ordered = sorted(values)
    return Quantiles(*(_nearest_rank(ordered, q) for q in (0.5, 0.9, 0.99)))


def _nearest_rank(ordered: Sequence[float], q: float) -> float:
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan
