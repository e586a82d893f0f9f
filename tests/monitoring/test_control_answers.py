"""How control did lately, against the limit that treatment is judged by."""

from __future__ import annotations

import pytest

from gateway.control.monitoring.control_answers import ControlAnswers
from gateway.core.folding import Tick
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series


def tick(answered: int, errors: int = 0, truncated: int = 0, arm: Arm = Arm.CONTROL) -> Tick:
    """What a tick got; when it began does not matter."""
    counts = Counts(started=answered, answered=answered, errors=errors, truncated=truncated)
    return Tick(0, {Series(1, "a", arm.label, "", ""): counts})


@pytest.mark.parametrize(
    ("ticks", "limit", "beyond"),
    [
        ([], 0.02, False),
        ([tick(1000, errors=19)], 0.02, False),
        ([tick(1000, errors=40)], 0.02, True),
        ([tick(1000, errors=20, truncated=20)], 0.02, True),
        ([tick(1000), tick(0, truncated=40)], 0.02, True),
        ([tick(0, truncated=3)], 0.02, False),
        ([tick(5, errors=1)], 0.02, False),
        ([tick(3, errors=3)], 0.02, True),
        ([tick(1000, errors=1000)], None, False),
        ([tick(1000, errors=1000, arm=Arm.TREATMENT)], 0.02, False),
        ([tick(1000, errors=1)], 0.0, True),
        ([tick(1000)], 0.0, False),
        ([tick(1000, errors=1000)], 1.0, False),
    ],
)
def test_control_is_beyond_a_limit_once_its_answers_show_it(
    ticks: list[Tick], limit: float | None, beyond: bool
) -> None:
    """Cut streams are failures too; too few requests show nothing, and treatment's say nothing of it."""
    answers = ControlAnswers()
    answers.add(ticks, now=0.0, seconds=60.0)
    assert answers.beyond(limit) is beyond


def test_what_is_longer_ago_is_forgotten_also_without_requests() -> None:
    """An outage that ended with the traffic is no reason for ever."""
    answers = ControlAnswers()
    answers.add([tick(100, errors=100)], now=0.0, seconds=60.0)
    answers.add([], now=59.0, seconds=60.0)
    assert answers.beyond(0.02)
    answers.add([], now=60.0, seconds=60.0)
    assert not answers.beyond(0.02)
