"""What the evidence comes to: one number, one verdict, one sentence.

A function of a state and the config's parameters, so that asking changes nothing. Who acts on it, and
how, is `control.monitoring`'s.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway.core.evidence.gathering import Limits
from gateway.core.evidence.state import EvidenceState
from gateway.model.safety import OnSharedOutage

HOLD_FROM = 10.0
"""Evidence on one guardrail from which on nothing advances."""


class Verdict(enum.IntEnum):
    """What is to be done; the order of the members is the order of severity."""

    QUIET = 0
    """Nothing; what was held for evidence need not be."""
    HOLD = 1
    """Do not advance: something gathers."""
    TRIAL = 2
    """Over its limit, and nobody to compare with: cap the share at half, or keep it capped."""
    SHARED_OUTAGE = 3
    """Both arms are over the limit alike: hold and page."""
    ROLL_BACK = 4
    """Over its limit and worse than control."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """When evidence acts. `alpha` is `rollback.false_rollback_probability`."""

    alpha: float = 0.001
    minimum_failures: int = 5
    on_shared_outage: OnSharedOutage = OnSharedOutage.HOLD


@dataclass(frozen=True, slots=True)
class Part:
    """One guardrail: its weight in the whole, and its evidence; None without any data.

    `against_limit` and `against_control` are the two that `value` is the smaller one of, None where
    there is only the other. `failures` of treatment's `requests` were bad, of at least `users` users.
    """

    name: str
    weight: float
    value: float | None
    against_limit: float | None
    against_control: float | None
    requests: int
    failures: int
    users: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """All that the evidence says. It convicts once `value` reaches `limit`, which is 1/alpha.

    `failures` and `users` are those of the part that says most. `against_limit` is the whole without
    any comparison; `caps_share` is True while treatment may have no more than half of the users, for
    there would be nobody to compare with. `reason` is a sentence for people.
    """

    value: float
    limit: float
    parts: tuple[Part, ...]
    failures: int
    users: int
    verdict: Verdict
    against_limit: float
    caps_share: bool
    reason: str


def assess(
    state: EvidenceState, limits: Limits, parameters: Parameters, *, now: int, control_healthy: bool = True
) -> Assessment:
    """Judge. `now` in monotonic milliseconds; `control_healthy`: has control any healthy endpoint."""
    raise NotImplementedError
