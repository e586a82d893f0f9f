"""The running counts of one series in one quarter of a tick: three calls on plain integers a request.

Intention to treat: a request counts where it was assigned to when it was decided, whoever answers.
What the numbers mean is said in `model.ticks`; when they are told, in `proxy.ticks`.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.model.observation import Outcome
from gateway.model.records import FAILED, NO_OUTCOME
from gateway.model.scores import Score
from gateway.model.ticks import Counts, Series, bucket_of, coarse
from gateway.wire.response import Response

_FAILED: Final = re.compile(rb"[ \t]*success[ \t]*=[ \t]*0(\.0*)?[ \t]*")
_OK: Final = Outcome.OK
_HEADLESS_FAILURES: Final = frozenset((Outcome.CONNECT_ERROR, Outcome.RESET, Outcome.TIMEOUT))
_LEFT: Final = Outcome.CLIENT_CLOSED
_CUTS: Final = frozenset((Outcome.TRUNCATED, Outcome.RESET, Outcome.TIMEOUT, Outcome.UPSTREAM_ERROR))
"""What makes a failure of an answer with a good head; the last: it said so within its stream."""


class Tally:
    """Running counts of one series in one quarter of a tick; see `model.ticks.Counts`."""

    __slots__ = (
        "answered",
        "client_errors",
        "ended",
        "errors",
        "failed_over",
        "first_bytes",
        "latencies",
        "left",
        "number",
        "scores",
        "series",
        "started",
        "truncated",
        "withdrawn",
    )

    def __init__(self, number: int, series: Series) -> None:
        """`number` is what the series goes by in this worker's reports."""
        self.number = number
        self.series = series
        self.started = self.answered = self.errors = self.client_errors = 0
        self.truncated = self.withdrawn = self.ended = self.failed_over = 0
        self.latencies: dict[int, int] = {}
        self.left: dict[int, int] = {}
        self.first_bytes: dict[int, int] = {}
        self.scores: dict[str, Score] = {}

    def __repr__(self) -> str:
        return f"<Tally started={self.started} answered={self.answered} ended={self.ended}>"

    def answer(self, response: Response, failed_over: bool) -> None:
        """A final head came; `failed_over`: control's, in treatment's place."""
        self.answered += 1
        if failed_over:
            self.errors += 1
            self.failed_over += 1
        elif is_error(response):
            self.errors += 1
        elif response.status >= 400:
            self.client_errors += 1

    def score(self, metric: str, value: float) -> None:
        """The answer's head reported this of itself."""
        score = Score.of(value)
        before = self.scores.get(metric)
        self.scores[metric] = score if before is None else before + score

    def end(
        self,
        response: Response | None,
        outcome: Outcome,
        failed_over: bool,
        seconds: float,
        first_byte: float,
    ) -> float:
        """The request is over; what it is worth to an experiment, as `model.records` has it.

        `response` is the head that was counted. The times count from the request's start; `first_byte`
        means nothing without a head.
        """
        self.ended += 1
        if outcome is _LEFT:
            bucket = bucket_of(seconds)
            self.left[bucket] = self.left.get(bucket, 0) + 1
        if response is None:
            if failed_over or outcome in _HEADLESS_FAILURES:
                self.answered += 1
                self.errors += 1
                self.failed_over += failed_over
                return FAILED
            self.withdrawn += 1
            return NO_OUTCOME
        if failed_over or is_error(response):
            return FAILED
        if outcome is _OK:
            if response.status >= 400:
                return NO_OUTCOME
            bucket = bucket_of(seconds)
            self.latencies[bucket] = self.latencies.get(bucket, 0) + 1
            bucket = coarse(bucket_of(first_byte))
            self.first_bytes[bucket] = self.first_bytes.get(bucket, 0) + 1
            return seconds
        if outcome in _CUTS:
            self.truncated += 1
            return FAILED
        return NO_OUTCOME

    def withdraw(self) -> None:
        """The request leaves the comparison before it has a head: the latch engaged."""
        self.withdrawn += 1
        self.ended += 1

    @property
    def happened(self) -> int:
        """Moves with everything that happens."""
        return self.started + self.answered + self.ended

    @property
    def heads_known(self) -> bool:
        """True once every request has an outcome of its head, or is out."""
        return self.answered + self.withdrawn >= self.started

    @property
    def over(self) -> bool:
        """True once every request that started is over."""
        return self.ended >= self.started

    def counts(self) -> Counts:
        """Everything."""
        return Counts(
            self.started,
            self.answered,
            self.errors,
            self.client_errors,
            self.truncated,
            self.withdrawn,
            self.ended,
            self.latencies,
            self.left,
            self.first_bytes,
            self.scores,
            self.failed_over,
        )

    def heads(self) -> Counts:
        """What the heads of answers said, and which will not come."""
        return Counts(
            started=self.started,
            answered=self.answered,
            errors=self.errors,
            client_errors=self.client_errors,
            withdrawn=self.withdrawn,
            scores=self.scores,
            failed_over=self.failed_over,
        )


def is_error(response: Response) -> bool:
    """True if the upstream failed by its status, or says so itself (`success=0`)."""
    if response.status >= 500 or response.status == 429:
        return True
    metric = response.metric
    return metric is not None and any(_FAILED.fullmatch(part) for part in metric.split(b","))
