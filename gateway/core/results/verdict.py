"""What follows from an experiment's comparisons: ship, stop, continue, or believe nothing."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """What to do, as the API names it."""

    SHIP = "ship"
    STOP = "stop"
    CONTINUE = "continue"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The verdict, the group that won (SHIP alone has one), and the reason in one sentence."""

    verdict: Verdict
    winner: str | None
    explanation: str
