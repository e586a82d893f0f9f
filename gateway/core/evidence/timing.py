"""Slow or not: where slow begins, when a tick can be judged by it, and who was slow in it.

Slow is beyond a quantile of what control took in its previous hour, and for treatment beyond that much
stretched by what it may be slower. The thresholds only cut: what is compared are requests of the same
moment, for to compare with stale latencies is to convict treatment of whatever drifts in both arms.

A request that is still open is slow as soon as it is older than its threshold, a client that left if it
had waited longer, else it says nothing, as do failures: they are a guardrail of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from gateway.core.evidence.selection import Cell
from gateway.core.evidence.state import QUANTILES, Reference
from gateway.core.evidence.weighing import Outcomes
from gateway.model.ticks import LATENCY_BASE, Counts, log_latency

WAITS = (0, 300_000, 3_600_000)
"""Milliseconds for which control is looked at before the first thresholds, before the second, and before
each further: a hang in the first minutes is found by what there is, and a cold start soon forgotten."""
LEAST_REQUESTS = 200
"""Successes of control without which it was not looked at for long enough."""

NEGLIGIBLE = 0.125
"""Buckets by which a stretched threshold may be too low: a sixteenth of a percent of the latency, a quarter
of what one is known to."""


class Watch:
    """A reference while control's latencies are taken into it."""

    def __init__(self, reference: Reference) -> None:
        self._thresholds = reference.thresholds
        self._since = reference.since
        self._decided = reference.decided
        self._latencies = dict(reference.latencies)
        self._successes = sum(self._latencies.values())

    def result(self) -> Reference:
        """The reference with everything that was taken in."""
        latencies = tuple(sorted(self._latencies.items()))
        return Reference(self._thresholds, self._since, latencies, self._decided)

    def take(self, at: int, control: Iterable[Counts]) -> None:
        """Take control's successes of a settled tick in; the thresholds move when their time has come."""
        wait = WAITS[min(self._decided, len(WAITS) - 1)]
        if at - self._since >= wait and self._successes >= LEAST_REQUESTS:
            self._thresholds = tuple(self._quantile(share) for share in QUANTILES)
            self._since = at
            self._decided += 1
            self._latencies.clear()
            self._successes = 0
        latencies = self._latencies
        for counts in control:
            for bucket, count in counts.latencies.items():
                latencies[bucket] = latencies.get(bucket, 0) + count
            self._successes += sum(counts.latencies.values())

    def _quantile(self, share: float) -> int:
        """The bucket that `share` of the successes do not exceed."""
        below = 0
        for bucket, count in sorted(self._latencies.items()):
            below += count
            if below >= share * self._successes:
                return bucket
        raise ValueError("no successes")


def stretched(threshold: int, degradation: float) -> int:
    """The threshold of treatment, `1 + degradation` times control's as nearly as buckets have it.

    It is rounded up, in treatment's favour, but for what no measurement shows: 15 % are 28.02 buckets, and
    to make 29 of them would allow 15.6 % and hide 8 % of what there is to see of a slowdown of 30 %.
    """
    buckets = math.log1p(degradation) / math.log(LATENCY_BASE)
    return threshold + math.ceil(buckets - NEGLIGIBLE)


def milliseconds(threshold: int) -> float:
    """The latency from which on a request is slower than a threshold bucket."""
    return math.exp(log_latency(threshold + 0.5)) * 1000.0


def outcomes(cells: Iterable[Cell], threshold: int, degradation: float, age: float) -> list[Outcomes]:
    """Who was slow. The open ones are older than `age`, in milliseconds."""
    found = []
    for cell in cells:
        limit = stretched(threshold, degradation) if cell.treatment else threshold
        counts = cell.counts
        slow_ones = _beyond(counts.latencies, limit)
        fast_ones = sum(counts.latencies.values()) - slow_ones
        slow = slow_ones + _beyond(counts.left, limit)
        if age >= milliseconds(limit):
            slow += counts.started - counts.ended
        found.append(Outcomes(cell.route, cell.treatment, cell.share, slow + fast_ones, slow))
    return found


def _beyond(latencies: Mapping[int, int], limit: int) -> int:
    return sum([count for bucket, count in latencies.items() if bucket > limit])
