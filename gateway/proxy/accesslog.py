"""The access log: one JSON line for a sample of the requests, to stdout, written by another thread."""

from __future__ import annotations

import json
import random
import time

from gateway.core.split import Decision
from gateway.logs import LineWriter
from gateway.model.observation import Outcome
from gateway.wire.request import Request

_STDOUT = 1
_PATIENCE_SECONDS = 1.0


class AccessLog:
    """Writes a share of the requests, 0 to 1. Lines that a stopped reader leaves no room for are dropped."""

    def __init__(self, sample: float, writer: LineWriter) -> None:
        self.sample = sample
        self._writer = writer
        self.dropped = 0

    @classmethod
    def to_stdout(cls, sample: float) -> AccessLog:
        """A log on this process's standard output."""
        writer = LineWriter(_STDOUT)
        writer.start()
        return cls(sample, writer)

    def flush(self) -> None:
        """Wait a moment until everything logged so far was written."""
        self._writer.flush(_PATIENCE_SECONDS)

    def write(
        self,
        request: Request | None,
        request_id: bytes,
        decision: Decision | None,
        status: int,
        outcome: Outcome,
        duration: float,
        first_byte: float,
        relayed: tuple[int, int] | None = None,
    ) -> None:
        """Log one finished exchange, if it falls in the sample. Durations in seconds.

        `request` is None where what came was refused before it was one. `relayed` is what a tunnel passed
        on, from the client and to it.
        """
        if random.random() >= self.sample:
            return
        line: dict[str, object] = {
            "time": round(time.time(), 3),
            "request_id": request_id.decode("latin-1"),
            "method": None if request is None else request.method.decode("latin-1"),
            "path": None if request is None else request.path.decode("latin-1"),
            "status": status,
            "outcome": outcome.label,
            "duration": round(duration, 6),
            "time_to_first_byte": round(first_byte, 6) if first_byte >= 0 else None,
        }
        if decision is not None:
            line |= {
                "route": decision.route.name,
                "arm": decision.arm.label,
                "group": decision.group,
                "experiment": decision.experiment,
                "reason": decision.reason.value,
            }
        if relayed is not None:
            line["bytes_up"], line["bytes_down"] = relayed
        if not self._writer.write(json.dumps(line, separators=(",", ":")).encode() + b"\n"):
            self.dropped += 1
