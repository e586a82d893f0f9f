"""Why everything goes to control: the kinds of engagement, and the latch as a value.

Names and values and nothing else; the page that holds the latch is `gateway.latch`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class LatchKind(enum.StrEnum):
    """What engaged the latch."""

    EMERGENCY = "emergency"
    ROLLBACK = "rollback"
    CONFIG = "config"
    STATE = "state"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class LatchView:
    """What the latch's page says at one moment. `number` counts engagements for ever."""

    number: int
    engaged: bool
    kind: LatchKind
    reason: str
    operator: str
