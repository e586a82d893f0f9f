"""When a treatment that serves nobody is rolled back: after a period without a sign of life.

Without a healthy endpoint, control answers treatment's users at once, which harms nobody: a restarting
pod must not end a rollout. But if nothing was seen of treatment for all of
`rollback.system_failure_after`, it is rolled back. Pure; the caller gives the time.

It knows neither endpoints nor requests; `control.monitoring.vital_signs` reads them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

LONGEST_LOOK = 10.0
"""Seconds that one look may add: a process that slept longer did not watch treatment meanwhile."""


class Sign(enum.Enum):
    """What was seen of treatment since the last look."""

    ALIVE = "alive"
    """It answered a request or a health check, and every route's treatment can be reached."""
    SILENT = "silent"
    """Nothing either way."""
    DEAD = "dead"
    """A route's treatment has no healthy endpoint, or answered none of the requests that it should have."""


class Obstacle(enum.StrEnum):
    """Why an absence is no rollback, however long it lasts; the values are for people."""

    LATCHED = "everything goes to control already"
    NOT_WATCHED = "system_failure is not among rollback.automatic_triggers"
    NEVER_ALIVE = "it never gave a sign of life in this phase"
    CONTROL_UNHEALTHY = "an upstream of control has no usable endpoint"
    CONTROL_FAILS = "control fails beyond its own limit"


@dataclass(frozen=True, slots=True)
class Absence:
    """How long treatment has been gone, in seconds of watching, in one epoch of the rollout.

    `was_alive` is False until its first sign of life in the epoch: a treatment that never came up
    failed nobody.
    """

    epoch: int = -1
    was_alive: bool = False
    lasted: float = 0.0


def look(absence: Absence, sign: Sign, seconds: float, epoch: int) -> Absence:
    """The absence after a look, `seconds` after the last one. Silence ends no absence and begins none."""
    if absence.epoch != epoch:
        absence = Absence(epoch)
    if sign is Sign.ALIVE:
        return Absence(epoch, was_alive=True)
    if sign is Sign.DEAD or absence.lasted > 0.0:
        return replace(absence, lasted=absence.lasted + min(max(0.0, seconds), LONGEST_LOOK))
    return absence


def is_system_failure(absence: Absence, after: float) -> bool:
    """True once treatment, having been alive in this epoch, was gone for `after` seconds without a break."""
    return absence.was_alive and absence.lasted >= after
