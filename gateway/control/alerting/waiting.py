"""Messages on their way as bytes, so that another control process can go on delivering them.

Only what is critical or high: the rest is not worth telling late. How many there may be is bounded by
the outboxes that they wait in. A channel is known by name and kind; its address, a secret, is not in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from gateway.control.alerting.outbox import Message
from gateway.model.alerts import Severity

WORTH_TELLING_LATE = frozenset((Severity.CRITICAL, Severity.HIGH))

Place: TypeAlias = tuple[str, str]
"""A channel's name and its type."""


def pack(waiting: Iterable[tuple[Place, Message]]) -> bytes:
    """The messages that must not get lost, in their order."""
    return json.dumps(
        [
            [
                *place,
                message.severity.value,
                message.title,
                message.body.decode(),
                message.topic,
                message.subject,
            ]
            for place, message in waiting
            if message.severity in WORTH_TELLING_LATE
        ]
    ).encode()


def unpack(kept: bytes) -> Mapping[Place, list[Message]]:
    """Undo `pack`. Raises ValueError or TypeError on foreign bytes."""
    found: dict[Place, list[Message]] = {}
    for name, kind, severity, title, body, topic, subject in json.loads(kept):
        message = Message(Severity(severity), str(title), str(body).encode(), str(topic), str(subject))
        found.setdefault((str(name), str(kind)), []).append(message)
    return found
