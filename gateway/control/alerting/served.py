"""How many requests were served lately, by route and arm: every one, even those that are not judged.

Alerts and evidence leave out overrides and requests without a user id. If clients stop sending the id,
those counts fall to nothing although all requests are answered. This module remembers the totals that the
workers report. It does not know why a request was left out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping

from gateway.control.ledger import Totals

_STEPS = 20
"""Totals that are remembered of a window: so long is the time it covers, to one twentieth."""

RouteArm = tuple[str, str]


class Served:
    """See the module. Ask it often: it remembers what the totals were when it was asked."""

    def __init__(self, totals: Callable[[], Totals]) -> None:
        """`totals` are those of all workers since the gateway began."""
        self._totals = totals
        self._marks: deque[tuple[float, Counter[RouteArm]]] = deque()

    def __repr__(self) -> str:
        return f"<Served marks={len(self._marks)}>"

    def lately(self, at: float, window: float) -> Mapping[RouteArm, int]:
        """Requests of the last `window` seconds before `at`; nothing until they have been watched so long."""
        now = _counts(self._totals())
        marks = self._marks
        if marks and at < marks[-1][0]:
            marks.clear()  # the clock was set back
        while len(marks) > 1 and marks[1][0] <= at - window:
            marks.popleft()
        long_enough = bool(marks) and marks[0][0] <= at - window
        before = marks[0][1] if long_enough else now
        if not marks or at >= marks[-1][0] + window / _STEPS:
            marks.append((at, now))
        return now - before


def _counts(totals: Totals) -> Counter[RouteArm]:
    return Counter(
        {
            (counts.route, counts.arm): sum(count for _, _, count in counts.requests)
            for counts in totals.routes
        }
    )
