"""How one request is counted: in the comparison, in the metrics and in the access log, once each.

Intention to treat: a request counts for the arm that it was assigned to when it was decided, whoever
answers. The meaning of the counts is explained in `proxy.ticks`, `proxy.recorder` and `model.records`.

It knows no connection and moves no byte; its exchange tells it what happened.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_intdigest

from gateway.model.observation import Outcome
from gateway.model.records import NO_OUTCOME, REQUEST
from gateway.proxy.context import Context
from gateway.proxy.plan import Assignment
from gateway.proxy.tally import Tally
from gateway.wire.request import Request
from gateway.wire.response import Response

STATUS_CLIENT_CLOSED: Final = 499
"""The status of a request that got no answer, as nginx logs it."""


class Account:
    """See the module. Times are `time.monotonic` seconds."""

    # What most requests never need is a default of the class: setting it each time costs more.
    _first_byte = -1.0
    """Seconds from the start to the answer's head; below zero while there is none."""
    _response: Response | None = None
    _tally: Tally | None = None
    _user = -1
    """Hash of the user's id where an experiment wants the request recorded."""
    failover: str | None = None
    """Why control answers for treatment, if it does."""
    relayed: tuple[int, int] | None = None
    """Bytes from the client and to it, of a tunnel that has ended."""

    def __init__(self, context: Context, assignment: Assignment, started: float) -> None:
        """From now on the request is in flight where it is assigned to."""
        self._context = context
        self._assignment = assignment
        self._started = started
        context.recorder.inflight[assignment.treatment] += 1

    def __repr__(self) -> str:
        return f"<Account of {self._assignment!r} {self._tally!r}>"

    def reassign(self, assignment: Assignment) -> None:
        """The request is in flight there instead; one that leaves the comparison leaves it unjudged."""
        inflight = self._context.recorder.inflight
        inflight[self._assignment.treatment] -= 1
        inflight[assignment.treatment] += 1
        self._assignment = assignment
        if self._tally is not None and assignment.series is None:
            self._tally.withdraw()
            self._record(NO_OUTCOME)
            self._tally = None

    def take_part(self, assignment: Assignment, user: bytes) -> None:
        """The request takes part in the comparison, as its user's first one in a while or not."""
        series, first = assignment.series, assignment.first_series
        if first is not series or assignment.recorded:
            user_hash = xxh3_64_intdigest(user)
            if first is not series and self._context.marks.mark(user_hash, assignment.mark):
                series = first
            if assignment.recorded:
                self._user = user_hash
        assert series is not None
        self._tally = series.start(self._started)

    def fail_over(self, assignment: Assignment, cause: str) -> None:
        """Control answers, for this cause, in the place of the `assignment` that gets the blame."""
        self.failover = cause
        self._context.recorder.add_failover(assignment.decision.route.name, cause)

    def answer(self, response: Response, now: float) -> None:
        """The final head came."""
        self._response = response
        self._first_byte = now - self._started
        tally = self._tally
        if tally is not None:
            tally.answer(response, self.failover is not None)
            if response.metric is not None and self.failover is None:
                self._count_report(tally, response.metric)

    def switch(self, now: float) -> None:
        """The upstream switched protocols: what follows is no answer, and nobody compares it."""
        self._first_byte = now - self._started

    def end(self, request: Request, request_id: bytes, status: int, outcome: Outcome, now: float) -> None:
        """The request is over, once. `status` is what the client was told, 0 for the answer's own."""
        context, assignment = self._context, self._assignment
        duration, first_byte = now - self._started, self._first_byte
        if not status:
            status = STATUS_CLIENT_CLOSED if self._response is None else self._response.status
        context.recorder.inflight[assignment.treatment] -= 1
        assignment.cell.add(status, outcome, duration, first_byte)
        tally = self._tally
        if tally is not None:
            self._record(tally.end(self._response, outcome, self.failover is not None, duration, first_byte))
        log = context.access_log
        if log is not None:
            decision = assignment.decision
            log.write(request, request_id, decision, status, outcome, duration, first_byte, self.relayed)

    def _count_report(self, tally: Tally, report: bytes) -> None:
        """The upstream said what its answer was worth."""
        recorder = self._context.recorder
        for index, value in recorder.reports.read(report):
            tally.score(recorder.reports.metrics[index], value)
            if self._user >= 0:
                recorder.records.add(self._user, tally.number, tally.series, index + 1, value)

    def _record(self, value: float) -> None:
        """Tell the experiment, if there is one, what became of the request."""
        tally = self._tally
        if self._user >= 0 and tally is not None:
            self._context.recorder.records.add(self._user, tally.number, tally.series, REQUEST, value)
