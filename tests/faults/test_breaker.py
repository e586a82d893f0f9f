"""The circuit breaker on a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.observation import BreakerState
from gateway.proxy.breaker import (
    FORGIVEN_AFTER,
    KNOCK_SECONDS,
    MOST_TRIPS,
    PROBE_SECONDS,
    PROOF_SECONDS,
    REACH_SECONDS,
    Breaker,
)

CLOSED, HALF_OPEN, OPEN = BreakerState
BASE = 30.0
TICK = 0.125
"""Exact in binary, so that the sum of many is too."""


@dataclass
class Clock:
    """A breaker and its time, which `wait` lets pass in ticks."""

    breaker: Breaker = field(default_factory=lambda: Breaker(BASE))
    now: float = 1000.0
    accepts: bool = True
    """Whether knocks are answered; each is at once."""
    knocks: int = 0

    def wait(self, seconds: float) -> None:
        """Let time pass while nobody asks for anything."""
        end = self.now + seconds
        while self.now < end:
            self.now += TICK
            self.breaker.tick(self.now)
            if self.breaker.wants_knock(self.now):
                self.knocks += 1
                self.breaker.knocked(self.accepts, self.now)

    def probe(self, answered: bool) -> bool:
        """A request if the breaker admits one, answered or failed at once; whether it was admitted."""
        if not self.breaker.admits:
            return False
        began = self.now
        if self.breaker.state is HALF_OPEN:
            self.breaker.begin(began)
        if answered:
            self.breaker.succeeded(self.now)
        else:
            self.breaker.failed(began, self.now)
        return True

    def serve(self, seconds: float) -> int:
        """Requests at every tick, all answered; how many were admitted."""
        end, admitted = self.now + seconds, 0
        while self.now < end:
            self.wait(TICK)
            admitted += self.probe(answered=True)
        return admitted

    def lose_and_regain(self, seconds: float) -> None:
        """No endpoint is usable for so long; then knocks are answered for long enough."""
        self.breaker.set_usable(False, self.now)
        self.wait(seconds)
        self.breaker.set_usable(True, self.now)
        self.wait(REACH_SECONDS + TICK)


def test_without_a_usable_endpoint_it_is_open_and_admits_nothing() -> None:
    """From the moment on in which the last endpoint went, until one is back."""
    clock = Clock()
    assert (clock.breaker.state, clock.breaker.admits) == (CLOSED, True)
    clock.breaker.set_usable(False, clock.now)
    assert (clock.breaker.state, clock.breaker.admits, clock.breaker.trips) == (OPEN, False, 1)
    clock.wait(1000)
    assert clock.breaker.state is OPEN


def test_it_knocks_before_it_lets_anybody_through() -> None:
    """Usable again, but nobody is let in: open, a knock every half second; then two seconds of answers."""
    clock = Clock(accepts=False)
    clock.lose_and_regain(5)
    clock.knocks = 0
    clock.wait(60)
    assert (clock.breaker.state, clock.breaker.admits) == (OPEN, False)
    assert clock.knocks == 60 / KNOCK_SECONDS
    clock.accepts = True
    clock.wait(REACH_SECONDS - TICK)
    assert clock.breaker.state is OPEN
    clock.accepts = False
    clock.wait(KNOCK_SECONDS)
    clock.accepts = True
    clock.wait(REACH_SECONDS - TICK)
    assert clock.breaker.state is OPEN
    clock.wait(KNOCK_SECONDS)
    assert (clock.breaker.state, clock.breaker.admits) == (HALF_OPEN, True)


def test_one_long_outage_is_one_trip() -> None:
    """Knocks that fail for an hour cost nobody anything: afterwards the first proof is enough."""
    clock = Clock(accepts=False)
    clock.lose_and_regain(1)
    clock.wait(3600)
    clock.accepts = True
    clock.wait(KNOCK_SECONDS + REACH_SECONDS)
    assert (clock.breaker.state, clock.breaker.trips) == (HALF_OPEN, 1)
    clock.serve(PROOF_SECONDS)
    assert clock.breaker.state is CLOSED


def test_an_emergency_makes_old_knocks_worthless() -> None:
    """Who was reached before it has to be reached again after it."""
    clock = Clock()
    clock.breaker.set_usable(False, clock.now)
    clock.breaker.set_usable(True, clock.now)
    clock.wait(REACH_SECONDS)
    clock.breaker.set_emergency(True, clock.now)
    knocks = clock.knocks
    clock.wait(60)
    assert clock.knocks == knocks
    clock.breaker.set_emergency(False, clock.now)
    assert clock.breaker.state is OPEN
    clock.wait(REACH_SECONDS + TICK)
    assert clock.breaker.state is HALF_OPEN


def test_half_open_it_lets_single_probes_through_and_closes_after_a_proof() -> None:
    """One request every half second for two seconds, all answered; then everybody."""
    clock = Clock()
    clock.lose_and_regain(5)
    assert (clock.breaker.state, clock.breaker.admits) == (HALF_OPEN, True)
    admitted = clock.serve(PROOF_SECONDS - TICK)
    assert clock.breaker.state is HALF_OPEN
    assert admitted == PROOF_SECONDS / PROBE_SECONDS
    clock.serve(TICK)
    assert clock.breaker.state is CLOSED
    assert clock.serve(10) == 10 / TICK


def test_a_probe_that_fails_opens_it_for_longer_each_time() -> None:
    """One base time, then two, then three, up to nine; the proof that is asked for grows as well."""
    clock = Clock()
    clock.lose_and_regain(1)
    for factor in (*range(1, MOST_TRIPS), MOST_TRIPS - 1):
        assert clock.probe(answered=False)
        assert clock.breaker.state is OPEN
        clock.wait(BASE * factor - TICK)
        assert clock.breaker.state is OPEN
        clock.wait(TICK)
        assert clock.breaker.state is HALF_OPEN
    clock.serve(59)
    assert clock.breaker.state is HALF_OPEN
    clock.serve(1)
    assert clock.breaker.state is CLOSED


def test_probes_that_hang_stay_few() -> None:
    """Half a second, one, two, four, ... between probes that nobody answers; an answer sets it right."""
    clock = Clock()
    clock.lose_and_regain(1)
    begun = []
    start = clock.now
    while clock.now < start + 60:
        if clock.breaker.admits:
            begun.append(clock.now - start)
            clock.breaker.begin(clock.now)
        clock.wait(TICK)
    assert begun == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert clock.breaker.state is HALF_OPEN
    clock.breaker.succeeded(clock.now)  # the proof's time is long over
    assert clock.breaker.state is CLOSED


def test_where_nobody_asks_it_closes_by_itself() -> None:
    """No traffic, so nobody is hurt: a half-open breaker must not count as an outage all night."""
    clock = Clock()
    clock.lose_and_regain(1)
    clock.wait(PROOF_SECONDS)
    assert clock.breaker.state is CLOSED


def test_what_set_out_before_it_was_half_open_proves_nothing_against_it() -> None:
    """A time-out of a request from before the opening is not a failed probe."""
    clock = Clock()
    clock.lose_and_regain(1)
    clock.breaker.failed(clock.now - 60, clock.now)
    assert clock.breaker.state is HALF_OPEN
    clock.breaker.failed(clock.now, clock.now)
    assert clock.breaker.state is OPEN


def test_an_emergency_opens_it_and_the_release_half_opens_it_for_everybody() -> None:
    """No fault is known: nobody is turned away, the first answer closes it."""
    clock = Clock()
    clock.breaker.set_emergency(True, clock.now)
    assert (clock.breaker.state, clock.breaker.cause) == (OPEN, "emergency")
    clock.wait(1000)
    assert clock.breaker.state is OPEN
    clock.breaker.set_emergency(False, clock.now)
    assert clock.breaker.state is HALF_OPEN
    for _ in range(10):
        assert clock.breaker.admits
        clock.breaker.begin(clock.now)
    clock.breaker.succeeded(clock.now)
    assert clock.breaker.state is CLOSED


def test_a_treatment_that_fails_at_once_after_the_release_is_open_again() -> None:
    """The first request fails: from then on probes only, and a proof."""
    clock = Clock()
    clock.breaker.set_emergency(True, clock.now)
    clock.breaker.set_emergency(False, clock.now)
    assert clock.probe(answered=False)
    assert (clock.breaker.state, clock.breaker.trips) == (OPEN, 1)
    clock.wait(REACH_SECONDS + TICK)
    assert (clock.breaker.state, clock.probe(answered=True), clock.breaker.admits) == (HALF_OPEN, True, False)


def test_an_emergency_does_not_shorten_an_opening() -> None:
    """Open for a fault, then an emergency, released at once: still open, and then with a proof."""
    clock = Clock()
    clock.lose_and_regain(1)
    clock.probe(answered=False)
    clock.breaker.set_emergency(True, clock.now)
    clock.breaker.set_emergency(False, clock.now)
    clock.wait(BASE - TICK)
    assert (clock.breaker.state, clock.breaker.admits) == (OPEN, False)
    clock.wait(TICK)
    assert clock.breaker.state is HALF_OPEN
    assert clock.probe(answered=True)
    assert not clock.breaker.admits


def test_an_endpoint_that_goes_during_an_emergency_is_a_fault_of_its_own() -> None:
    """The release finds it open for that, not half-open for everybody."""
    clock = Clock()
    clock.breaker.set_emergency(True, clock.now)
    clock.breaker.set_usable(False, clock.now)
    clock.breaker.set_emergency(False, clock.now)
    assert (clock.breaker.state, clock.breaker.admits) == (OPEN, False)


def test_a_long_good_time_is_forgiving() -> None:
    """Ten base times closed, and the next opening is a first one; a little less, and it is not."""
    for closed, trips in ((FORGIVEN_AFTER * BASE + 1, 1), (FORGIVEN_AFTER * BASE - 1, 2)):
        clock = Clock()
        clock.lose_and_regain(1)
        clock.serve(PROOF_SECONDS)
        assert clock.breaker.state is CLOSED
        clock.wait(closed)
        clock.breaker.set_usable(False, clock.now)
        assert clock.breaker.trips == trips


def test_an_upstream_that_flaps_does_not_switch_arms() -> None:
    """A second up, a second down, for ten minutes: open, once, and no user is sent there ever after."""
    clock = Clock()
    clock.breaker.set_usable(False, clock.now)
    clock.breaker.set_usable(True, clock.now)
    for number in range(int(600 / TICK)):
        clock.accepts = int(number * TICK) % 2 == 0
        clock.wait(TICK)
        assert not clock.probe(answered=clock.accepts)
    assert (clock.breaker.state, clock.breaker.trips) == (OPEN, 1)


def test_an_upstream_that_accepts_and_fails_in_turns_does_not_switch_arms() -> None:
    """Knocks are answered always, probes every other second: few users meet one, and it never closes."""
    clock = Clock()
    clock.breaker.set_usable(False, clock.now)
    clock.breaker.set_usable(True, clock.now)
    probed = 0
    for number in range(int(600 / TICK)):
        clock.wait(TICK)
        probed += clock.probe(answered=int(number * TICK) % 2 == 0)
        assert clock.breaker.state is not CLOSED
    assert probed <= 30


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["up", "down", "engage", "release", "begin", "answer", "fail", "knock", "tick"]),
            st.sampled_from([0.0, 0.1, 1.0, 40.0]),
        ),
        max_size=60,
    )
)
def test_whatever_happens_it_agrees_with_itself(happenings: list[tuple[str, float]]) -> None:
    """Closed admits all; open admits nobody but under a mere emergency; and good times close it."""
    breaker, now = Breaker(BASE), 1000.0
    for what, after in happenings:
        now += after
        match what:
            case "up" | "down":
                breaker.set_usable(what == "up", now)
            case "engage" | "release":
                breaker.set_emergency(what == "engage", now)
            case "begin" if breaker.state is HALF_OPEN and breaker.admits:
                breaker.begin(now)
            case "answer":
                breaker.succeeded(now)
            case "fail":
                breaker.failed(now, now)
            case "knock" if breaker.wants_knock(now):
                breaker.knocked(int(now) % 2 == 0, now)
            case _:
                breaker.tick(now)
        assert breaker.admits or breaker.state is not CLOSED
        assert not breaker.admits or breaker.state is not OPEN or not breaker.trips
        assert 0 <= breaker.trips <= MOST_TRIPS
    breaker.set_usable(True, now)
    breaker.set_emergency(False, now)
    clock = Clock(breaker, now)
    clock.serve(MOST_TRIPS * BASE + 120)
    assert breaker.state is CLOSED
