"""How control answered recently: whether it keeps the limit that treatment is judged by.

The evidence has an e-value of control too, but it remembers an outage for tens of thousands of
requests. Whether control can take over treatment's users is a question of the present.

It keeps counts and the time they became known, and judges nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core import binomial
from gateway.core.folding import Tick
from gateway.model.snapshot import Arm

DOUBT = 0.05
"""How likely what was seen has to be of a control exactly at its limit: less, and it is beyond.

One failure among few requests shows nothing, three out of three do.
"""
_CONTROL = Arm.CONTROL.label


@dataclass(frozen=True, slots=True)
class _Answers:
    """What became known at a moment, in monotonic seconds. A failure may come long after its answer."""

    at: float
    answered: int
    failures: int


class ControlAnswers:
    """Control's answers, as far back as it was asked to keep them."""

    def __init__(self) -> None:
        self._answers: deque[_Answers] = deque()

    def __repr__(self) -> str:
        return f"<ControlAnswers {list(self._answers)[-1:]} of {len(self._answers)}>"

    def add(self, grown: Iterable[Tick], now: float, seconds: float) -> None:
        """Take in what ticks got until now, and forget what became known more than `seconds` ago."""
        ours = [counts for tick in grown for series, counts in tick.counts.items() if series.arm == _CONTROL]
        answered = sum(counts.answered for counts in ours)
        failures = sum(counts.errors + counts.truncated for counts in ours)
        self._answers.append(_Answers(now, answered, failures))
        while self._answers and self._answers[0].at <= now - seconds:
            self._answers.popleft()

    def beyond(self, limit: float | None) -> bool:
        """True if it is shown that a larger share than `limit` fails; never without a limit, or requests."""
        if limit is None:
            return False
        answered = sum(answers.answered for answers in self._answers)
        failures = sum(answers.failures for answers in self._answers)
        return binomial.at_least(min(failures, answered), answered, limit) < DOUBT
