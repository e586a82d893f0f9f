"""When a process that ended may be started again. Pure: the caller brings the clock."""

from __future__ import annotations

DELAYS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the first, second, ... restart in a row: a single death costs nothing, a crash
loop must not eat the core that the others serve on."""

HEALTHY_AFTER = 10.0
"""Seconds of life after which a death counts as the first one again."""


class Backoff:
    """The restart delays of one place that must stay occupied."""

    def __init__(self) -> None:
        self._deaths = 0

    def __repr__(self) -> str:
        return f"<Backoff deaths={self._deaths}>"

    def delay(self, lived: float) -> float:
        """Seconds to wait after a process that lived `lived` seconds."""
        if lived >= HEALTHY_AFTER:
            self._deaths = 0
        delay = DELAYS[min(self._deaths, len(DELAYS) - 1)]
        self._deaths += 1
        return delay
