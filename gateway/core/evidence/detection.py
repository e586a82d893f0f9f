"""How long it takes until something broken is found: for people who choose a share and its limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detection:
    """Requests to treatment until a rollback, and the seconds that they take; inf where it never comes."""

    failure_rate: float
    late: bool
    requests: float
    seconds: float


def expected_detection(
    failure_rate: float,
    *,
    limit: float,
    requests_per_second: float,
    share: float,
    alpha: float,
    minimum_failures: int = 5,
    late: bool = False,
) -> Detection:
    """What to expect if from now on so many of treatment's requests fail, in [0, 1].

    `limit` is the phase's error rate, `share` treatment's share of `requests_per_second` (of requests
    that count: users' first ones in ten minutes where the unit is user). `late`: after long good service.
    """
    raise NotImplementedError
