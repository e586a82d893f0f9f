"""Ask a table for decisions the way the proxy does, with the uninteresting arguments filled in."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.split import Decision, Table
from gateway.model.snapshot import Arm, Snapshot


def decide(
    table: Table,
    user: str | bytes | None,
    *,
    latched: bool = False,
    available: Sequence[bool] = (True, True),
    override: Arm | None = None,
    draw: bytes = b"",
) -> Decision:
    """The decision of the table's first route for one request."""
    identity = user.encode() if isinstance(user, str) else user
    return table.decide(table.routes[0], latched, available, identity, override, draw)


def groups_of(snapshot: Snapshot, users: Sequence[str]) -> list[str | None]:
    """The group of each user on the first route; None for who is not enrolled."""
    table = Table(snapshot)
    return [decide(table, user).group for user in users]
