"""What `gateway release` says when it is done."""

from __future__ import annotations

import pytest

from gateway.commands.release import describe

LATCH = {"kind": "state", "since": "2026-01-01T00:00:00.000Z", "operator": "gateway", "reason": "corrupt"}


@pytest.mark.parametrize(
    ("ceiling", "last"),
    [
        (0, "Treatment has no traffic yet; to give it some: gateway release --percentage N"),
        (5, "Treatment gets traffic again; watch it with: gateway status --watch"),
        (None, "Treatment gets traffic again; watch it with: gateway status --watch"),
    ],
)
def test_it_does_not_promise_traffic_that_nobody_gets(ceiling: int | None, last: str) -> None:
    """A ceiling of 0 is what a release after a lost state comes to."""
    answer = {
        "released": True,
        "phase": "staging",
        "user_percentage": 100 if ceiling is None else ceiling,
        "ceiling": ceiling,
        "latched": False,
        "acknowledged": True,
    }
    assert describe(LATCH, answer, None).splitlines()[-1] == last
