"""What an upstream reports about its answer in `X-Gateway-Metric`: parsed, bounded, garbage counted.

`accuracy=0.93, cost_per_request=0.0021, success=0`. Only metrics that the snapshot names are accepted,
and only values that such a metric can have. A bad report never affects its answer.

It does not know how the values are used; `success` is handled in `proxy.ticks`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model.scores import bounds_of

MOST_REPORTED = 1024
"""Bytes of a report beyond which none of it is read."""
_MOST_DIGITS = 40


class ReportReader:
    """Reads reports by the newest snapshot's metrics. `refused` counts values that made no sense."""

    __slots__ = ("_known", "metrics", "refused")

    def __init__(self) -> None:
        self.metrics: tuple[str, ...] = ()
        self.refused = 0
        self._known: dict[bytes, tuple[int, float, float]] = {}

    def __repr__(self) -> str:
        return f"<ReportReader metrics={self.metrics} refused={self.refused}>"

    def follow(self, metrics: tuple[str, ...]) -> None:
        """Take these metrics from now on."""
        self.metrics = metrics
        self._known = {name.encode(): (index, *bounds_of(name)) for index, name in enumerate(metrics)}

    def read(self, report: bytes) -> Sequence[tuple[int, float]]:
        """Index in `metrics` and value of every metric reported, each at most once."""
        if len(report) > MOST_REPORTED:
            self.refused += 1
            return ()
        found: dict[int, float] = {}
        for part in report.split(b","):
            name, equals, text = part.partition(b"=")
            name = name.strip(b" \t")
            known = self._known.get(name)
            if known is None:
                # Somebody else's metric is no mistake; what is no `name=value` at all is one.
                if not (equals and name) and part.strip(b" \t"):
                    self.refused += 1
                continue
            index, least, most = known
            value = _number(text)
            if value is None or not least <= value <= most or index in found:
                self.refused += 1
            else:
                found[index] = value
        return tuple(found.items())


def _number(text: bytes) -> float | None:
    """A decimal number; None for anything else. What is not finite keeps to no bounds."""
    text = text.strip(b" \t")
    if len(text) > _MOST_DIGITS or b"_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None
