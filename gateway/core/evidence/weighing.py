"""How one guardrail processes outcomes: bets on each tick, comparisons by stratum.

A stratum is a run of requests that were assigned with the same share, and is compared as a whole.
Treatment's share is the same for all of them, so whatever drifts in both arms affects each arm only by
chance. A stratum is compared as soon as both arms have enough requests in it. It never continues after
the share changed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from gateway.core.evidence import odds
from gateway.core.evidence.capital import Capital
from gateway.core.evidence.state import Beside, Guardrail, Peak, Stratum

LARGEST_NEED = 50
"""Outcomes that are enough for a stratum, whatever the share."""
NEED_IN_SMALLER_ARM = 10
"""Outcomes of the smaller arm, in expectation, that are enough for a stratum."""
MARKS_OF_A_USER = 2
"""In one stretch of time on one route, at most: one before the user's period ends in it, one after."""

_Compared = TypeVar("_Compared", Stratum, Beside)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """So many outcomes of one arm of a route, so many of them bad.

    `share` is treatment's among the requests that they were drawn with; None where that is not known.
    """

    route: str
    treatment: bool
    share: float | None
    count: int
    bad: float


@dataclass(frozen=True, slots=True)
class Moment:
    """When outcomes come: seconds and minute of the process, which ten minutes by the clock they are in (None
    where users are not marked), and the shares that requests are drawn with by now."""

    second: float
    minute: int
    stretch: int | None
    shares: Collection[float]


def need(share: float) -> float:
    """How many outcomes a stratum with this share waits for."""
    return min(LARGEST_NEED, NEED_IN_SMALLER_ARM / min(share, 1.0 - share))


def seen(peak: Peak, stretch: int | None, marks: Mapping[str, float]) -> Peak:
    """The bound after so many marks more on these routes; without a stretch each is a user of its own."""
    if stretch is None:
        return replace(peak, most=peak.most + sum(int(number) for number in marks.values()))
    marked = dict(peak.marked) if stretch == peak.stretch else {}
    for route, number in marks.items():
        marked[route] = marked.get(route, 0) + int(number)
    users = math.ceil(max(marked.values(), default=0) / MARKS_OF_A_USER)
    return Peak(stretch, tuple(sorted(marked.items())), max(peak.most, users))


class Weighing:
    """Takes outcomes of one kind in, tick by tick."""

    def __init__(self, guardrail: Guardrail, limit: float | None, threshold: int = 0) -> None:
        """`limit` is the largest share that may be bad; None: treatment is only compared with control.
        `threshold` is where slow begins in the strata to come, where the outcome is latency."""
        self._limit = limit
        self._threshold = threshold
        self._treatment = guardrail.treatment
        self._control = guardrail.control
        self._relative = guardrail.relative
        self._strata = {stratum.share: stratum for stratum in guardrail.strata}
        self._count = guardrail.count
        self._bad = guardrail.bad
        self._compared = guardrail.compared
        self._users = guardrail.users
        self._beside = guardrail.beside

    def result(self) -> Guardrail:
        """The guardrail with everything that was taken in."""
        return Guardrail(
            self._treatment,
            self._control,
            self._relative,
            tuple(self._strata.values()),
            self._count,
            self._bad,
            self._compared,
            self._users,
            self._beside,
        )

    def threshold_of(self, share: float | None) -> int:
        """Where slow begins for those who are drawn with this share: as where their open stratum began."""
        stratum = None if share is None else self._strata.get(share)
        return self._threshold if stratum is None else stratum.threshold

    def take(self, outcomes: Iterable[Outcomes], when: Moment) -> None:
        """Take the outcomes of one tick in."""
        treated = controls = 0
        controls_bad = 0.0
        bad_by_route: defaultdict[str, float] = defaultdict(float)
        touched = set()
        for part in outcomes:
            if not part.count:
                continue
            if part.treatment:
                treated += part.count
                bad_by_route[part.route] += part.bad
            else:
                controls += part.count
                controls_bad += part.bad
            if part.share is not None and 0.0 < part.share < 1.0:
                known = self._strata.get(part.share) or Stratum(part.share, threshold=self._threshold)
                self._strata[part.share] = _joined(known, part)
                self._beside = _joined(self._beside, part)
                touched.add(part.share)
        if treated:
            treated_bad = sum(bad_by_route.values())
            self._count += treated
            self._bad += treated_bad
            self._users = seen(self._users, when.stretch, bad_by_route)
            self._treatment = self._bet(self._treatment, treated, treated_bad, when)
        if controls:
            self._control = self._bet(self._control, controls, controls_bad, when)
        self._compare(touched, when)

    def _bet(self, capital: Capital, count: int, bad: float, when: Moment) -> Capital:
        if self._limit is None:
            return capital
        return capital.after(odds.against_limit(self._limit, count, bad), when.second)

    def _compare(self, touched: Collection[float], when: Moment) -> None:
        """Compare within the strata that have enough, and those that nothing will come to any more."""
        for share, stratum in list(self._strata.items()):
            both = stratum.treatment > 0 and stratum.control > 0
            enough = both and stratum.treatment + stratum.control >= need(share)
            if not enough and (share in touched or share in when.shares):
                continue
            del self._strata[share]
            if both:
                self._compared += stratum.treatment
                ratios = odds.against_control(
                    stratum.treatment, stratum.treatment_bad, stratum.control, stratum.control_bad
                )
                self._relative = self._relative.after(ratios, when.second)


def _joined(known: _Compared, part: Outcomes) -> _Compared:
    """What is known of both arms, with outcomes of one of them."""
    if part.treatment:
        count, bad = known.treatment + part.count, known.treatment_bad + part.bad
        return replace(known, treatment=count, treatment_bad=bad)
    return replace(known, control=known.control + part.count, control_bad=known.control_bad + part.bad)
