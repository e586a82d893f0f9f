"""Snapshots that a data plane can serve by: real endpoints, one route, limits that a test may set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.model.snapshot import Anonymous, ConnectionLimits, FailoverCause, Snapshot, Timeouts
from tests.support.snapshots import make_snapshot, make_upstream

PATIENT = Timeouts(connect=20.0, first_byte=20.0, idle=20.0, total=None)
"""Deadlines that no test reaches unless it means to."""


def serving(
    control: Sequence[str],
    treatment: Sequence[str],
    percentage: int = 0,
    *,
    timeouts: Timeouts = PATIENT,
    connection_limits: ConnectionLimits | None = None,
    limits: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    **overrides: Any,
) -> Snapshot:
    """A snapshot over endpoints of `control` and `treatment`, with `percentage` of all on treatment.

    Requests without a user id are drawn as well, so that 0 and 100 hold for every request. `timeouts`,
    `connection_limits` and `upstream` (fields of `Upstream`) hold for both upstreams; `limits`
    replaces fields of `ClientLimits`, `overrides` fields of `Snapshot`.
    """
    changes: dict[str, Any] = {"timeouts": timeouts, **(upstream or {})}
    if connection_limits is not None:
        changes["limits"] = connection_limits
    upstreams = (make_upstream("control", *control), make_upstream("treatment", *treatment))
    plain = make_snapshot(
        percentage, upstreams=[replace(one, **changes) for one in upstreams], anonymous=Anonymous.RANDOM
    )
    changes = {
        "feature_flags": ("core_features",),
        "failover": (FailoverCause.CONNECT_ERROR, FailoverCause.NO_HEALTHY_ENDPOINT),
        "limits": replace(plain.limits, **(limits or {})),
        **overrides,
    }
    return replace(plain, **changes)
