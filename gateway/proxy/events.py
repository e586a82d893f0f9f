"""Finds the event `error` in a server-sent stream that passes by (WHATWG HTML, server-sent events).

A pipeline that fails in the middle of a stream has sent its 200 long before, so it reports the failure
within the stream: `event: error`. The bytes are read and never changed.
"""

from __future__ import annotations

import re

_ERROR = re.compile(rb"[\r\n]event: ?error[\r\n]")
_LONGEST = len(b"\nevent: error\n")
_MEDIA_TYPE = re.compile(rb"content-type:[ \t]*text/event-stream[ \t]*(?:;.*)?", re.IGNORECASE)
_CODED = re.compile(rb"content-encoding:[ \t]*(?!identity[ \t]*\Z)[^ \t].*", re.IGNORECASE)


def is_event_stream(lines: list[bytes]) -> bool:
    """True if header lines announce server-sent events that can be read as they are."""
    return any(map(_MEDIA_TYPE.fullmatch, lines)) and not any(map(_CODED.fullmatch, lines))


class EventWatch:
    """One stream. `failed` once the event was seen."""

    __slots__ = ("_tail", "failed")

    def __init__(self) -> None:
        self.failed = False
        # What stands before the first line ends like a line does.
        self._tail = b"\n"

    def __repr__(self) -> str:
        return f"<EventWatch failed={self.failed}>"

    def feed(self, data: bytes) -> None:
        """More of the stream, however it was cut into pieces."""
        if self.failed:
            return
        seen = self._tail + data
        self.failed = _ERROR.search(seen) is not None
        self._tail = seen[-_LONGEST:]
