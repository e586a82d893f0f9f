"""The circuit breaker of one upstream: may requests go to it, judging by the latest ones?

A timed state machine and nothing else: it reads no clock, knows no connection and logs nothing. The
pool tells it what happened, and when, in monotonic seconds.

It opens when no endpoint is usable, when a probe fails, and in an emergency. Before any user is sent
there again, the gateway opens empty connections ("knocks"), which must be accepted for a while. When it
is half-open, single requests go through as probes, less often while none is answered, until probes have
succeeded for long enough. Each time an upstream fails its users again, the breaker stays open longer, and
probes must succeed for longer, so that users do not bounce between the arms with every fault. A failed
knock affects no user and has no such penalty: one long outage is one trip.

It only routes. What a failure means for the rollout is judged elsewhere. A probe is an ordinary request
of a user who was assigned to the upstream, so it is judged like any other.
"""

from __future__ import annotations

from gateway.model.observation import BreakerState

CLOSED, HALF_OPEN, OPEN = BreakerState

REACH_SECONDS = 2.0
"""How long knocks must be answered before the first user is let through."""
KNOCK_SECONDS = 0.5
"""Between two knocks."""
PROOF_SECONDS = 2.0
"""How long probes must succeed after the first trip; twice as long after each further one."""
LONGEST_PROOF = 60.0
PROBE_SECONDS = 0.5
"""Between two probes while each is answered; doubled with each that is not, so that hangs stay few."""
MOST_DOUBLINGS = 6
MOST_TRIPS = 10
"""Trips that are counted: the longest opening is nine times the base, as Envoy caps its ejections."""
FORGIVEN_AFTER = 10
"""A breaker that stayed closed for this many base times begins with a short opening again."""

NO_ENDPOINT = "no usable endpoint"
PROBE_FAILED = "a probe failed"
EMERGENCY = "emergency"


class Breaker:
    """See the module. `admits` is the answer; it changes within the other methods only."""

    __slots__ = (
        "_admitted",
        "_base",
        "_closed_at",
        "_emergency",
        "_next_knock",
        "_next_probe",
        "_reached_since",
        "_since",
        "_succeeded",
        "_unanswered",
        "_until",
        "_usable",
        "admits",
        "cause",
        "state",
        "trips",
    )

    def __init__(self, base: float) -> None:
        """`base` is what each further opening lasts longer than the one before, in seconds."""
        self.state: BreakerState = CLOSED
        self.admits = True
        """May the next request go to the upstream?"""
        self.cause = ""
        """Why it opened last; "" if it never did."""
        self.trips = 0
        """How often it opened for a fault of the upstream's, of late."""
        self._base = base
        self._usable = True
        self._emergency = False
        self._closed_at = -1e9
        self._since = self._until = self._next_probe = self._next_knock = 0.0
        self._reached_since: float | None = None
        self._admitted = self._unanswered = 0
        self._succeeded = False

    def __repr__(self) -> str:
        return f"<Breaker {self.state.label} trips={self.trips} admits={self.admits}>"

    # What happened.

    def set_usable(self, usable: bool, now: float) -> None:
        """Whether any endpoint is usable, by checks and ejections."""
        if usable == self._usable:
            return
        self._usable = usable
        self._reached_since = None
        if usable:
            self.tick(now)
        elif self.state is not OPEN or not self.trips:
            self._trip(NO_ENDPOINT, now)

    def set_emergency(self, engaged: bool, now: float) -> None:
        """Whether an emergency holds. The latch routes while it does; what follows is for afterwards."""
        if engaged == self._emergency:
            return
        self._emergency = engaged
        self._reached_since = None
        if engaged and self.state is not OPEN:
            if self.state is CLOSED:
                self.trips = 0  # no fault of the upstream's that is known
            self.state, self.cause, self._until = OPEN, EMERGENCY, now
            self.admits = not self.trips
        self.tick(now)

    def wants_knock(self, now: float) -> bool:
        """Should the gateway see by itself whether it is let in? Asked where no knock is under way."""
        return (
            self.state is OPEN
            and self.trips > 0
            and self._usable
            and not self._emergency
            and now >= max(self._next_knock, self._until - REACH_SECONDS)
        )

    def knocked(self, answered: bool, now: float) -> None:
        """A connection that carries nothing was accepted, or not."""
        self._next_knock = now + KNOCK_SECONDS
        if not answered:
            self._reached_since = None
        elif self._reached_since is None:
            self._reached_since = now

    def begin(self, now: float) -> None:
        """A request goes to the upstream; told while half-open only."""
        self._admitted += 1
        if self.trips:
            self._next_probe = now + PROBE_SECONDS * 2 ** min(self._unanswered, MOST_DOUBLINGS)
            self._unanswered += 1
            self.admits = False

    def succeeded(self, now: float) -> None:
        """A request was answered; told at least while half-open."""
        if self.state is HALF_OPEN:
            self._succeeded = True
            self._unanswered = 0
            self._next_probe = min(self._next_probe, now + PROBE_SECONDS)
            self._conclude(now)

    def failed(self, began: float, now: float) -> None:
        """A request that set out at `began` failed: a refusal, a reset, a time-out."""
        if self.state is HALF_OPEN and began >= self._since:
            self._trip(PROBE_FAILED, now)

    def tick(self, now: float) -> None:
        """Time went by; told a few times a second."""
        if self.state is OPEN:
            if self._usable and not self._emergency and now >= self._until and self._reached(now):
                self.state = HALF_OPEN
                self._since = self._next_probe = now
                self._admitted = self._unanswered = 0
                self._succeeded = False
                self.admits = True
        elif self.state is HALF_OPEN:
            if now >= self._next_probe:
                self.admits = True
            self._conclude(now)

    # What follows.

    def _trip(self, cause: str, now: float) -> None:
        if self.state is CLOSED and now - self._closed_at > FORGIVEN_AFTER * self._base:
            self.trips = 0
        self.trips = min(self.trips + 1, MOST_TRIPS)
        self.state, self.cause = OPEN, cause
        self._until = now + self._base * (self.trips - 1)
        self._reached_since = None
        self.admits = False

    def _reached(self, now: float) -> bool:
        """After a mere emergency nothing speaks against it; else it was reached for long enough."""
        since = self._reached_since
        return not self.trips or (since is not None and now - since >= REACH_SECONDS)

    def _conclude(self, now: float) -> None:
        """Close after a proof: at once after a mere emergency, and where nobody asked it is time alone."""
        proof = min(PROOF_SECONDS * 2 ** max(self.trips - 1, 0), LONGEST_PROOF)
        lasted = now - self._since >= proof
        if (self._succeeded and (lasted or not self.trips)) or (not self._admitted and lasted):
            self.state = CLOSED
            self.admits = True
            self._closed_at = now
