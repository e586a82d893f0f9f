"""The evidence of a gateway does not depend on how many workers serve its requests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence.exposure import treatment_shares
from gateway.core.evidence.gathering import Look, fold
from gateway.core.evidence.state import EvidenceState, begin, expose
from gateway.core.folding import Fold
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm
from tests.support.counting import SNAPSHOT, Clock, CountingWorker
from tests.support.evidence import EVERYTHING
from tests.support.examples import examples

SECONDS = 12


@dataclass(frozen=True)
class Request:
    """When it starts, in seconds, where it goes, and what becomes of it."""

    at: int
    arm: Arm
    status: int
    seconds: float


requests = st.builds(
    Request,
    st.integers(0, SECONDS - 1),
    st.sampled_from(Arm),
    st.sampled_from((200, 200, 404, 500)),
    st.floats(0.01, 10.0),
)


def gathered(stream: Sequence[Request], workers: int) -> EvidenceState:
    """The evidence once everything is settled; who serves what is up to chance."""
    clock, dealer = Clock(), random.Random(workers)
    begun = clock.at
    team = [CountingWorker(clock, pid) for pid in range(workers)]
    folded = Fold()
    state = begin(SNAPSHOT.version, 0, round(begun * 1000))
    state = expose(state, SNAPSHOT.version, treatment_shares(SNAPSHOT))
    for second in range(SECONDS + 5):
        clock.at = begun + second
        for request in stream:
            if request.at == second:
                dealer.choice(team).serve(request.arm, status=request.status, seconds=request.seconds)
        folded.take([worker.report() for worker in team], range(workers))
        progress = folded.advance(round(clock.at * 1000), 60_000, 300_000)
        standing = tuple(folded.standing(state.timed_to))
        look = Look(progress.closed, progress.settled, standing, folded.reported_to)
        state = fold(state, look, EVERYTHING, Unit.REQUEST)
    return state


@examples(6)
@given(st.lists(requests, max_size=150), st.sampled_from((4, 16)))
def test_any_number_of_workers_gives_the_same_evidence(stream: list[Request], workers: int) -> None:
    """Counts are added up before anything is made of them: not one digit differs."""
    alone = gathered(stream, 1)
    assert gathered(stream, workers) == alone
    assert alone.errors.count == sum(request.arm is Arm.TREATMENT for request in stream)
