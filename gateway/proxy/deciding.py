"""Which assignment a request gets, from the plan, the latch and the request.

The rules are in `core.split`. This module adds what a pure function cannot have: the token that an
override must have, and randomness for requests without an id.

It does not know what becomes of the request.
"""

from __future__ import annotations

import hmac
import os
from typing import Final

from gateway.model.snapshot import Anonymous, Arm
from gateway.proxy.plan import Assignment, Plan
from gateway.wire.request import Request

_NO_FIELDS: Final[dict[bytes, bytes]] = {}
_OVERRIDES: Final = {b"control": Arm.CONTROL, b"treatment": Arm.TREATMENT}
_RANDOM: Final = Anonymous.RANDOM
_DRAW_BYTES: Final = 8


def decide(plan: Plan, request: Request, user: bytes | None, latched: bool) -> Assignment | None:
    """The assignment of a request by `user` (None: no id); None where no route matches."""
    table = plan.table
    fields = request.noted_values() if table.needs_headers else _NO_FIELDS
    # `OPTIONS *` asks about the whole server: whoever serves the root answers it.
    target = b"/" if request.target == b"*" else request.target
    route = table.match(request.method, target, fields)
    if route is None:
        return None
    override = None if request.override is None else _checked_override(plan, request)
    draw = b""
    if user is None and plan.snapshot.identity.anonymous is _RANDOM:
        draw = os.urandom(_DRAW_BYTES)
    decision = table.decide(route, latched, plan.available, user, override, draw)
    return plan.assignments[decision.index]


def _checked_override(plan: Plan, request: Request) -> Arm | None:
    """The arm that the request asks for, if its token is the configured one."""
    expected, given = plan.override_token, request.override_token
    if expected is None or given is None or not hmac.compare_digest(expected, given):
        return None
    return _OVERRIDES.get((request.override or b"").lower())
