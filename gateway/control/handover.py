"""What one control process leaves to the next through the supervisor: names of the blobs, and reading
them back.

The supervisor keeps the bytes without reading them. A blob that cannot be read is logged, and the part
that it was for starts afresh.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from gateway import logs
from gateway.model.process import Keeper

T = TypeVar("T")

KEPT_LEDGER = "ledger"
KEPT_HEALTH = "health"
KEPT_ROLLOUT = "rollout"
KEPT_WINDOWS = "windows"
KEPT_APPLIED = "applied"
KEPT_MESSAGES = "messages"
KEPT_LINES = "lines"
KEPT_EMERGENCY = "emergency"


def restored(keeper: Keeper, name: str, restore: Callable[[bytes], T], default: Callable[[], T]) -> T:
    """What an earlier control process left under `name`; the default where it left nothing usable."""
    kept = keeper.kept.get(name)
    if kept is None:
        return default()
    try:
        return restore(kept)
    except (ValueError, KeyError, TypeError) as error:
        logs.error("kept state is not usable", name=name, error=repr(error), consequence="started afresh")
        return default()


def encode_since(name: str, at: float) -> bytes:
    """What holds, and since when in Unix seconds."""
    return json.dumps([name, at]).encode()


def decode_since(kept: bytes) -> tuple[str, float]:
    """Undo `encode_since`. Raises ValueError or TypeError on foreign bytes."""
    name, since = json.loads(kept)
    return str(name), float(since)
