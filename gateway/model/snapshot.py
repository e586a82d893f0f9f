"""The snapshot: everything a worker needs to serve, resolved and immutable.

`core.compile` makes a snapshot from the config and the state of the rollout. It is published and replaced as
a whole. It holds numbers and names only: no phase rules, no gates, no statistics. Durations are
seconds, shares are integers out of 2**64.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

FULL_SHARE = 2**64
"""The hash space: a share of p percent is the integer ceil(p * 2**64 / 100)."""


class Arm(enum.IntEnum):
    """Which side of the comparison serves: the traditional pipeline or the optimised one."""

    CONTROL = 0
    TREATMENT = 1

    @property
    def label(self) -> str:
        """The arm's name in headers, metrics and logs."""
        return self.name.lower()


class HashKind(enum.StrEnum):
    """How an experiment turns a user id into a position."""

    XXH3 = "xxh3"
    SHA256 = "sha256"


class SourceKind(enum.StrEnum):
    """Where in a request a user id may stand."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"


class Anonymous(enum.StrEnum):
    """What happens to a request without a user id."""

    CONTROL = "control"
    RANDOM = "random"


class HalfClose(enum.StrEnum):
    """What a client's FIN after a complete request means."""

    CANCEL = "cancel"
    ANSWER = "answer"


class FailoverCause(enum.StrEnum):
    """Why control may answer a request that was treatment's."""

    CONNECT_ERROR = "connect_error"
    NO_HEALTHY_ENDPOINT = "no_healthy_endpoint"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of an upstream in seconds; None is no deadline."""

    connect: float | None
    first_byte: float | None
    idle: float | None
    total: float | None


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bulkhead of an upstream, per worker: open connections, and requests waiting for one."""

    connections: int
    pending: int


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """Passive ejection of an endpoint after consecutive failures."""

    consecutive_failures: int
    ejection_time: float
    on_5xx: bool


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Active health check, carried out by the control process."""

    path: str
    interval: float
    timeout: float
    healthy_after: int
    unhealthy_after: int


@dataclass(frozen=True, slots=True)
class Upstream:
    """A named group of interchangeable endpoints (`http://host:port` or `unix:PATH`)."""

    name: str
    endpoints: tuple[str, ...]
    timeouts: Timeouts
    limits: ConnectionLimits
    outlier_detection: OutlierDetection | None
    health_check: HealthCheck | None


_WORDS = re.compile("[A-Za-z0-9]+")


def configuration_header(key: str) -> str:
    """The header that carries a key to the pipelines; "" for a key without a letter or digit of ASCII.

    Whatever no header's name may hold becomes a hyphen.
    """
    words = _WORDS.findall(key)
    return "X-Gateway-Config-" + "-".join(words).title() if words else ""


@dataclass(frozen=True, slots=True)
class Group:
    """One group of an experiment: its slice `[start, end)` of the hash space and who serves it.

    For `HashKind.SHA256` the slice is counted in weights, out of `Experiment.total`.
    """

    name: str
    arm: Arm
    upstream: int
    start: int
    end: int
    configuration: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment as the split needs it. `total` is the size of its hash space.

    `counted` is False where users stay in their groups and nothing is counted for its results: while it
    is paused, and once it is concluded, when the winner's is the only group.
    """

    id: str
    seed: str
    hash: HashKind
    total: int
    groups: tuple[Group, ...]
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """A rule that matches requests and names its two upstreams (indices into the snapshot's).

    `methods` empty means any; `headers` are (lower-case name, exact value) pairs. With `stream_errors` an
    event `error` within a server-sent stream counts as a failure.
    """

    name: str
    path_prefix: str
    methods: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    control: int
    treatment: int
    experiment: Experiment | None
    stream_errors: bool = False


@dataclass(frozen=True, slots=True)
class IdentitySource:
    """One place to look for the user id, e.g. header `x-user-id` (header names in lower case)."""

    kind: SourceKind
    name: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Where the user id comes from, in order, and what happens without one."""

    sources: tuple[IdentitySource, ...]
    anonymous: Anonymous


@dataclass(frozen=True, slots=True)
class Overrides:
    """Users and requests that are put in an arm by hand, out of the analysis.

    `token` None refuses the override headers.
    """

    token: str | None
    treatment: tuple[str, ...]
    control: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """Which headers of its own the gateway adds to answers."""

    arm: bool
    request_id: bool
    failover: bool
    server_timing: bool


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Limits towards clients, per worker; None is no limit."""

    connections: int
    header_bytes: int
    headers: int
    body_bytes: int | None
    header_timeout: float
    keepalive_timeout: float
    half_close: HalfClose


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who takes part: users whose `h("rollout:" + salt, user)` is under `share` (of 2**64)."""

    salt: str
    share: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a worker serves by. `version` grows with every publication; `digest` names the config."""

    version: int
    digest: str
    phase: str
    user_percentage: float
    feature_flags: tuple[str, ...]
    log_level: str
    enrolment: Enrolment
    identity: Identity
    overrides: Overrides
    upstreams: tuple[Upstream, ...]
    routes: tuple[Route, ...]
    failover: tuple[FailoverCause, ...]
    response_headers: ResponseHeaders
    limits: ClientLimits
    access_log_sample: float
    drain_timeout: float
    tick: float = 1.0
    """Seconds: requests are counted for judgement by the tick of their start."""
    open_streams: float | None = None
    """Seconds that what is open on treatment may live after a rollback; None lets it finish."""
    settle: float = 300.0
    """Seconds after which a stream that is still open was not cut short."""
    metrics: tuple[str, ...] = ()
    """The metrics that upstreams may report with an answer; others are not looked at."""
    marks_users: bool = True
    """Each user's first request in a while is marked; False where requests count and not users."""
