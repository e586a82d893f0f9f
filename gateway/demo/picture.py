"""One moment of the demo as a value, and the small formats that all displays share.

`demo.view` draws it on a live screen, `demo.lines` as plain text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.demo.faults import HEALTHY, Behaviour, Fault, FaultKind
from gateway.demo.readings import Change, Reading
from gateway.demo.tally import ArmFigures, Sample
from gateway.model.snapshot import Arm


@dataclass(frozen=True, slots=True)
class Guide:
    """Where to look and what to type; commands are complete shell lines."""

    traffic: str
    admin: str
    config: str
    command: str
    """How to call `gateway` here."""
    admin_option: str
    """`--admin URL` where the admin API is not at its usual address; else empty."""

    @property
    def request(self) -> str:
        """A request to try."""
        return f"curl -i {self.traffic}/v1/generate -H 'X-User-Id: me' -d '{{}}'"

    def line(self, verb: str) -> str:
        """The shell line that runs `gateway VERB` against this gateway."""
        return " ".join(filter(None, (self.command, verb, self.admin_option)))


@dataclass(frozen=True, slots=True)
class Event:
    """A change and when it was seen, in seconds since the traffic began."""

    at: float
    change: Change


@dataclass(frozen=True, slots=True)
class Picture:
    """All that there is to show. Seconds; `events` and `recent` are oldest first."""

    guide: Guide
    elapsed: float
    duration: float | None
    rate: float
    reading: Reading
    figures: Mapping[Arm, ArmFigures]
    curves: Mapping[Arm, Sequence[int]]
    """Answers per second, for as many seconds as are kept."""
    overall_shares: Mapping[Arm, float]
    users: int
    movers: int
    unanswered: int
    events: Sequence[Event]
    recent: Sequence[Sample]
    behaviours: Mapping[Arm, Behaviour]
    memory: int
    """Resident bytes of all the gateway's processes; 0 if unknown."""
    keys: bool
    """True if single keys are being listened to."""
    told: str = ""
    """What the story says now; "" without a story."""

    @property
    def is_latched(self) -> bool:
        """True while the gateway says that its latch is engaged."""
        return self.reading.status is not None and self.reading.status.latch.engaged


def latency(seconds: float) -> str:
    """`182ms`, `1.24s`, or a dash where there is nothing."""
    if math.isnan(seconds):
        return "-"
    return f"{seconds * 1000:.0f}ms" if seconds < 0.9995 else f"{seconds:.2f}s"


def short(seconds: float) -> str:
    """A time of about a millisecond: `0.3 ms`."""
    return f"{seconds * 1000:.1f} ms"


def clock(seconds: float) -> str:
    """`00:42`, `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def active_faults(behaviours: Mapping[Arm, Behaviour]) -> list[Fault]:
    """What is wrong with the sample pipelines now, as faults."""
    return [
        Fault(arm, kind, value, 0.0)
        for arm, behaviour in behaviours.items()
        for kind in FaultKind
        if (value := getattr(behaviour, kind.value)) != getattr(HEALTHY, kind.value)
    ]
