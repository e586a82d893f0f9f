"""Slow or not: where slow begins, when a tick can be judged by it, and who was slow in it.

Slow is beyond a quantile of what control took in its previous hour, and for treatment beyond that much
stretched by what it may be slower. The thresholds only cut: what is compared are requests of the same
moment, for to compare with stale latencies is to convict treatment of whatever drifts in both arms.

But where everybody is slow, nobody is slower than others: once control has left the range of its
thresholds they are taken anew at once, and never by the requests that they judge.

A request that is still open is slow as soon as it is older than its threshold, a client that left if it
had waited longer, else it says nothing, as do failures: they are a guardrail of their own.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import accumulate

from gateway.core.evidence.selection import Cell
from gateway.core.evidence.state import QUANTILES, Reference
from gateway.core.evidence.weighing import Outcomes
from gateway.model.ticks import LATENCY_BASE, Counts, log_latency

BLOCK = 200
"""So many successes of control, in whole ticks, show what it is like: a hang in the first minutes is found by
what there is, and that control is another one by now is seen within two blocks."""
PROVISIONAL, USUAL = 300_000, 3_600_000
"""Milliseconds for which thresholds hold that come of one block, and the others: a cold start is soon
forgotten."""

NEGLIGIBLE = 0.125
"""Buckets by which a stretched threshold may be too low: a sixteenth of a percent of the latency, a quarter
of what one is known to."""


class Watch:
    """A reference while control's latencies are taken into it."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._block = dict(reference.block)
        self._successes = sum(self._block.values())

    def result(self) -> Reference:
        """The reference with everything that was taken in."""
        return replace(self._reference, block=tuple(sorted(self._block.items())))

    def take(self, at: int, control: Iterable[Counts]) -> None:
        """Take control's successes of a tick in; those of a whole block before it may move the thresholds."""
        if self._successes >= BLOCK:
            self._close_block(at)
        for counts in control:
            _add(self._block, counts.latencies)
            self._successes += sum(counts.latencies.values())

    def _close_block(self, at: int) -> None:
        reference = self._reference
        found = _quantiles(self._block)
        earlier = dict(reference.earlier)
        _add(earlier, self._block)
        if not _overlap(found, reference.thresholds):
            self._reference = Reference(found, provisional=True, since=at)
        elif at - reference.since >= (PROVISIONAL if reference.provisional else USUAL):
            self._reference = Reference(_quantiles(earlier), since=at)
        else:
            self._reference = replace(reference, earlier=tuple(sorted(earlier.items())))
        self._block.clear()
        self._successes = 0


def _add(latencies: dict[int, int], more: Mapping[int, int]) -> None:
    for bucket, count in more.items():
        latencies[bucket] = latencies.get(bucket, 0) + count


def _quantiles(latencies: Mapping[int, int]) -> tuple[int, ...]:
    """The buckets that the shares QUANTILES of the successes do not exceed."""
    buckets = sorted(latencies)
    ranks = list(accumulate([latencies[bucket] for bucket in buckets]))
    return tuple([buckets[bisect_left(ranks, share * ranks[-1])] for share in QUANTILES])


def _overlap(found: tuple[int, ...], thresholds: tuple[int, ...]) -> bool:
    """Whether thresholds still cut control: they do not where more than half of it is beyond them all, or
    nine tenths are below them all."""
    return bool(thresholds) and found[0] <= thresholds[-1] and found[-1] >= thresholds[0]


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


def outcomes(
    cells: Iterable[Cell], threshold_of: Callable[[float | None], int], degradation: float, age: float
) -> list[Outcomes]:
    """Who was slow, by the threshold of those drawn with the same share. The open ones are older than `age`,
    in milliseconds."""
    found = []
    for cell in cells:
        threshold = threshold_of(cell.share)
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
