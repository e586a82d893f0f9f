"""How long and how often a run measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. Ticks of CPU time are 10 ms, so a shorter burst than 2 s says little."""

    rounds: int
    burst: int
    body_burst: int
    steady: float
    events: float
    first_events: int
    streams: int
    cutovers: int
    reloads: int
    kills: int


FULL = Settings(
    rounds=3,
    burst=5,
    body_burst=3,
    steady=10.0,
    events=6.0,
    first_events=400,
    streams=2000,
    cutovers=50,
    reloads=50,
    kills=10,
)
QUICK = Settings(
    rounds=1,
    burst=2,
    body_burst=2,
    steady=3.0,
    events=2.0,
    first_events=100,
    streams=2000,
    cutovers=5,
    reloads=10,
    kills=2,
)
