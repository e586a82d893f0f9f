"""The grammar of the config file: every key with its meaning, unit and default.

`Config` is what a file says: checked value by value, frozen, with every default filled in. It does not
read files; reading, positions and checks across keys are in `control.config`. Durations are seconds;
percentages and weights are exact fractions; paths are joined to the file's folder.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from gateway.model.alerts import Severity
from gateway.model.deployment import Deployment
from gateway.model.fields import (
    AnyText,
    Duration,
    Flag,
    Name,
    OptionalSpan,
    Proportion,
    Seconds,
    Section,
    Span,
    Text,
    Whole,
    Workers,
    default,
)
from gateway.model.places import TOKEN, Endpoint, Folder, Listening, SecretFile, SecretUrl, Source
from gateway.model.process import MAX_WORKERS
from gateway.model.snapshot import Anonymous, FailoverCause, HalfClose, IdentitySource
from gateway.model.units import Address, TokenFile


class Listen(Section):
    """Where users' requests arrive."""

    address: Annotated[Address, Listening()] = default("127.0.0.1:8080")
    """host:port or unix:PATH. Where it is not loopback, deployment.initial_phase must be written."""
    workers: Annotated[int | None, Workers(MAX_WORKERS)] = default(1)
    """Data-plane processes; auto (None) goes by CPU affinity and cgroup quota."""


class Admin(Section):
    """The admin API, metrics and dashboard."""

    address: Annotated[Address, Listening()] = default("127.0.0.1:9900")
    """host:port or unix:PATH."""
    tokens: Mapping[Name, Annotated[TokenFile, SecretFile()]] = default({})
    """Operator's name: file with the bearer token. Required where the address is not loopback or unix."""


class Health(Section):
    """/livez and /readyz, served by the workers without a token."""

    address: Annotated[Address, Listening()] = default("127.0.0.1:9901")
    """0.0.0.0:9901 for a kubelet."""


class ResponseHeaders(Section):
    """Headers that the gateway adds to answers."""

    arm: Flag = default(True)
    """X-Gateway-Arm."""
    request_id: Flag = default(True)
    """X-Request-Id."""
    failover: Flag = default(True)
    """X-Gateway-Failover, where control answered for treatment."""
    server_timing: Flag = default(True)
    """Server-Timing."""


class OnMissing(enum.StrEnum):
    """What an empty state directory means: a first start, or a loss (all to control)."""

    START = "start"
    CONTROL = "control"


DEFAULT_STATE_DIRECTORY = "./state"
"""Beside the config."""


class State(Section):
    """What survives a restart."""

    directory: Annotated[Path, Folder()] = default(DEFAULT_STATE_DIRECTORY)
    """Latch, pid file, embedded store."""
    on_missing: OnMissing = default("start")
    """start, or control (in a cluster without volumes)."""
    retention: Span = default("90d")
    """How long history and counts are kept."""
    store: AnyText = default("sqlite")
    """sqlite; redis://HOST:PORT/DB is not supported yet."""
    fleet: Name | None = default(None)
    """Name of the fleet that shares one state; not supported yet."""


class Identity(Section):
    """Who a request's user is."""

    sources: Annotated[tuple[Annotated[IdentitySource, Source()], ...], Field(min_length=1)] = default(
        ["header:X-User-Id", "cookie:uid", "query:user_id"]
    )
    """Where the user id may stand; the first that is there counts."""
    anonymous: Anonymous = default("control")
    """Requests without a user id: control, or random (a fresh draw each, out of the analysis)."""


UserId = Annotated[
    str,
    Text(
        r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,1022}[^\s\x00-\x1f\x7f])?",
        "expected a user id: up to 1024 characters, without blanks around it",
    ),
]


class OverrideUsers(Section):
    """Users that are always in one arm, out of the analysis."""

    treatment: tuple[UserId, ...] = default([])
    """Always treatment."""
    control: tuple[UserId, ...] = default([])
    """Always control."""


class Overrides(Section):
    """Users and requests that are put in an arm by hand."""

    token_file: Annotated[TokenFile, SecretFile()] | None = default(None)
    """File with the token of the override headers; null refuses them."""
    users: OverrideUsers = default({})
    """Users by arm."""


class HealthCheck(Section):
    """Active health check of every endpoint."""

    path: Annotated[str, Text(r"/[\x21-\x7e]*", "expected a path that begins with /")] = default("/healthz")
    """A status of 200 to 299 is healthy."""
    interval: Annotated[float, Seconds(minimum=0.1)] = default("5s")
    """Time between two checks."""
    timeout: Span = default("1s")
    """After this a check has failed."""
    healthy_after: Annotated[int, Whole(1, 1000)] = default(2)
    """Successes in a row until an endpoint is used again."""
    unhealthy_after: Annotated[int, Whole(1, 1000)] = default(3)
    """Failures in a row until it is not used."""


class OutlierDetection(Section):
    """Passive ejection of an endpoint that fails."""

    consecutive_failures: Annotated[int, Whole(1, 1_000_000)] = default(5)
    """Connect errors, resets and timeouts in a row."""
    ejection_time: Span = default("30s")
    """How long the endpoint is not used."""
    on_5xx: Flag = default(False)
    """Whether an answer of 5xx is a failure too."""


class Timeouts(Section):
    """Deadlines towards an upstream; null for none."""

    connect: OptionalSpan = default("1s")
    """Until the connection stands."""
    first_byte: OptionalSpan = default("60s")
    """From the end of the request until the response begins."""
    idle: OptionalSpan = default("60s")
    """Between two pieces of a response."""
    total: OptionalSpan = default(None)
    """From the request's head to the response's last byte."""


class ConnectionLimits(Section):
    """Bulkhead of an upstream, per worker."""

    connections: Annotated[int, Whole(1, 1_000_000)] = default(1024)
    """Open connections."""
    pending: Annotated[int, Whole(0, 1_000_000)] = default(1024)
    """Requests that wait for one."""


class Upstream(Section):
    """A pipeline: interchangeable endpoints and how they are treated."""

    endpoints: Annotated[tuple[Annotated[str, Endpoint()], ...], Field(min_length=1)]
    """http://host:port or unix:PATH; names are resolved again and again."""
    health_check: HealthCheck | None = default(None)
    """Off unless written; {} for its defaults."""
    outlier_detection: OutlierDetection | None = default(None)
    """Off unless written; {} for its defaults."""
    timeouts: Timeouts = default({})
    """Deadlines."""
    limits: ConnectionLimits = default({})
    """Bulkhead."""


class ClientLimits(Section):
    """Limits towards clients, per worker."""

    connections: Annotated[int, Whole(1, 1_000_000)] = default(10000)
    """Open connections."""
    header_bytes: Annotated[int, Whole(1024, 1_048_576)] = default(65536)
    """Bytes of a request's head."""
    headers: Annotated[int, Whole(10, 10_000)] = default(100)
    """Fields of a request's head."""
    body_bytes: Annotated[int | None, Whole(0, 2**53, optional=True)] = default(None)
    """Bytes of a request's body; null for any."""
    header_timeout: Span = default("10s")
    """Until a request's head is complete."""
    keepalive_timeout: Span = default("75s")
    """How long an idle connection stays open."""
    half_close: HalfClose = default("cancel")
    """A FIN after a complete request: cancel (the client left) or answer."""


class Failover(Section):
    """When control may answer a request that was treatment's."""

    to: Literal["control"] = default("control")
    """Always control."""
    when: tuple[FailoverCause, ...] = default(["connect_error", "no_healthy_endpoint"])
    """Only what treatment cannot have accepted; [] for none."""


Method = Annotated[str, Text(r"[A-Z][A-Z-]{0,31}", "expected a method in capitals, as in POST")]
HeaderName = Annotated[
    str,
    Text(
        r"(?![Xx]-[Gg][Aa][Tt][Ee][Ww][Aa][Yy]-)" + TOKEN,
        "expected a header's name, and not X-Gateway-*: a client's own are removed",
    ),
]
HeaderValue = Annotated[
    str,
    Text(
        r"(?:[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?)?",
        "expected a header's value without line breaks or blanks around it",
    ),
]


class Match(Section):
    """Which requests a route serves; all that is written must hold."""

    path_prefix: Annotated[
        str, Text(r"/[\x21-\x22\x24-\x3e\x40-\x7e]*", "expected a path that begins with /, without ? and #")
    ] = default("/")
    """The path begins with it, byte by byte."""
    methods: tuple[Method, ...] = default([])
    """One of these; [] for any."""
    headers: Mapping[HeaderName, HeaderValue] = default({})
    """Each of these, with exactly this value."""


class Route(Section):
    """A rule for requests; the first that matches serves."""

    name: Name
    """Its name in metrics, logs and `explain`."""
    match: Match = default({})
    """Which requests; {} for all."""
    control: Name
    """Upstream of the arm control."""
    treatment: Name
    """Upstream of the arm treatment."""
    experiment: Name | None = default(None)
    """An experiment among the enrolled users, from deployment.experiments."""
    stream_errors: Flag = default(False)
    """True: an event `error` within a stream of server-sent events makes the request a failure."""


class AccessLog(Section):
    """One JSON line per request on stdout."""

    format: Literal["json"] = default("json")
    """JSON lines."""
    sample: Annotated[float, Proportion("a share")] = default(0)
    """Share of the requests: 0 is off, 1 every one."""


class ChannelType(enum.StrEnum):
    """How a channel wants its messages."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    ALERTMANAGER = "alertmanager"


class Channel(Section):
    """A place that messages go to."""

    type: ChannelType
    """webhook, slack or alertmanager."""
    url: Annotated[SecretStr, SecretUrl()]
    """Where to; `${VARIABLE}` stands for an environment variable."""
    severities: tuple[Severity, ...] = default(["critical", "high", "medium"])
    """Which alerts; low ones are logged only unless they are named here."""


class Notifications(Section):
    """Who hears of alerts and rollbacks."""

    channels: Mapping[Name, Channel] = default({})
    """Channels by name."""
    contacts: Mapping[Name, Name] = default({})
    """Team: channel, for deployment.rollback.emergency_contacts."""


class Config(Section):
    """The whole file."""

    version: Annotated[int, Whole(1, 1)] = default(1)
    """Version of this grammar."""
    listen: Listen = default({})
    """Where users' requests arrive."""
    admin: Admin = default({})
    """The admin API."""
    health: Health = default({})
    """Probes."""
    response_headers: ResponseHeaders = default({})
    """Headers that the gateway adds to answers."""
    state: State = default({})
    """What survives a restart."""
    drain_delay: Duration = default("0s")
    """After SIGTERM: not ready, still accepting (5s behind Kubernetes)."""
    drain_timeout: Duration = default("30s")
    """How long requests in flight may take to end."""
    emergency: Flag = default(False)
    """True engages the latch at load; false releases nothing."""
    identity: Identity = default({})
    """Who a request's user is."""
    overrides: Overrides = default({})
    """Users and requests that are put in an arm by hand."""
    upstreams: Annotated[Mapping[Name, Upstream], Field(min_length=1)]
    """The pipelines by name."""
    limits: ClientLimits = default({})
    """Limits towards clients."""
    failover: Failover = default({})
    """When control may answer for treatment."""
    routes: Annotated[tuple[Route, ...], Field(min_length=1)]
    """Rules for requests; the first that matches serves."""
    access_log: AccessLog = default({})
    """One JSON line per request on stdout."""
    notifications: Notifications = default({})
    """Who hears of alerts and rollbacks."""
    deployment_file: Annotated[Path | None, Folder(optional=True)] = default(None)
    """A file of its own that holds the key `deployment`; watched and reloaded with this one."""
    deployment: Deployment = default({})
    """The rollout."""
