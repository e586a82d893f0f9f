"""When a process that ended is started again."""

from __future__ import annotations

from gateway.processes.backoff import DELAYS, HEALTHY_AFTER, Backoff


def test_the_first_death_costs_nothing_and_a_crash_loop_slows_down_to_a_cap():
    """Delays grow along the table and stay at its end, for ever."""
    backoff = Backoff()
    assert [backoff.delay(0.1) for _ in range(len(DELAYS) + 2)] == [*DELAYS, DELAYS[-1], DELAYS[-1]]
    assert DELAYS[0] == 0.0


def test_a_healthy_life_is_forgiven():
    """After some time of life a death is the first one again."""
    backoff = Backoff()
    for _ in range(4):
        backoff.delay(0.1)
    assert backoff.delay(HEALTHY_AFTER) == DELAYS[0]
    assert backoff.delay(0.1) == DELAYS[1]
