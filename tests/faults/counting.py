"""What a data plane counted, as it reports it to the control plane."""

from __future__ import annotations

from collections import Counter

from tests.support.dataplane import DataPlane
from tests.support.polling import wait_until


def counted(plane: DataPlane, requests: int) -> Counter[tuple[str, int, str]]:
    """Requests by arm, status and outcome, once the report holds this many (it comes once a second)."""

    def look() -> Counter[tuple[str, int, str]]:
        counts: Counter[tuple[str, int, str]] = Counter()
        for observation in plane.link.drain():
            for route in observation.routes:
                for status, outcome, count in route.requests:
                    counts[route.arm, status, outcome] += count
        return +counts

    assert wait_until(lambda: look().total() >= requests), look()
    assert look().total() == requests, look()
    return look()
