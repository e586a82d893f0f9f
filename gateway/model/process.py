"""What the gateway's processes tell each other about themselves.

The supervisor holds the sockets and the children, the control process holds the config. These are the
values and the protocol between them. `link` transports them.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MAX_WORKERS = 100
"""Data-plane processes of one gateway. The latch's page has a heartbeat slot for each, and for a successor
beside each while they are replaced."""

KEPT_SNAPSHOT = "snapshot"
"""Name under which the supervisor keeps the newest published snapshot (`model.codec` bytes)."""

KEPT_SOURCES = "sources"
"""Name under which the supervisor keeps the text of the last good config (`pack_sources` bytes)."""


class OnMissing(enum.StrEnum):
    """What an empty state directory means: a fresh gateway, or one that lost its memory."""

    START = "start"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class BootOptions:
    """What the command line said. None leaves the choice to the config."""

    config: str
    workers: int | None
    state_directory: str | None


@dataclass(frozen=True, slots=True)
class Boot:
    """The first thing that a control process hears: the options, and what an earlier one left."""

    options: BootOptions
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BootPlan:
    """What the supervisor needs to know of the config; only a restart changes it, but for drains.

    Addresses are `host:port` or `unix:PATH`. `state_directory` is
    absolute. `emergency` says who asks for the latch at load, "" for nobody. Drains in seconds.
    """

    listen: str
    admin: str
    health: str
    workers: int
    state_directory: str
    on_missing: OnMissing
    emergency: str
    drain_delay: float
    drain_timeout: float


@dataclass(frozen=True, slots=True)
class DrainTimes:
    """Seconds after SIGTERM: `delay` not ready but accepting, then up to `timeout` to finish."""

    delay: float
    timeout: float


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A live worker as the supervisor sees it. `since` is Unix time in seconds."""

    slot: int
    pid: int
    since: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How the gateway as a whole stands, as the supervisor sees it.

    `started_at` is Unix time in seconds. `state_fault` says why the latch is not on disk, "" when it
    is. The restarts count unplanned ends of a process since the gateway started.
    """

    pid: int
    started_at: float
    state_fault: str
    worker_restarts: int
    control_restarts: int


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """The first thing that a worker hears: which slot it has and what its descriptors are.

    The descriptors that come along are the latch page, the page of the users' marks, then the listening
    sockets, then `probes` sockets for /livez and /readyz.
    """

    slot: int
    state_directory: str
    probes: int


class Keeper(Protocol):
    """The supervisor, as the control process sees it: it remembers what must outlive the latter."""

    @property
    def kept(self) -> Mapping[str, bytes]:
        """What an earlier control process of this gateway left, by name."""

    @property
    def standing(self) -> Standing:
        """The newest that the supervisor said about the gateway."""

    def keep(self, name: str, data: bytes) -> None:
        """Have the supervisor remember `data` in place of what it had under `name`."""

    def set_drain_times(self, times: DrainTimes) -> None:
        """Change how the supervisor ends the gateway, after a reload."""


def pack_sources(sources: Mapping[Path, bytes]) -> bytes:
    """The files of a config as one blob for `Keeper.keep(KEPT_SOURCES, ...)`."""
    # Latin-1 maps every byte to one character, so any file survives, UTF-8 or not.
    return json.dumps({str(path): data.decode("latin-1") for path, data in sources.items()}).encode()


def unpack_sources(blob: bytes) -> dict[Path, bytes]:
    """Undo `pack_sources`."""
    return {Path(path): data.encode("latin-1") for path, data in json.loads(blob).items()}
