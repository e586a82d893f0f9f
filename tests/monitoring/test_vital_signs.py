"""What ticks and endpoints say of treatment's life, and which requests convict it."""

from __future__ import annotations

import pytest

from gateway.control.monitoring.vital_signs import in_stay, judged, sign_of
from gateway.core.evidence.state import begin
from gateway.core.folding import Progress, Tick
from gateway.core.system_failure import Absence, Sign, is_system_failure, look
from gateway.model.ticks import Counts, Series
from tests.support.monitoring import Endpoints


def tick(*counts: tuple[str, str, Counts], snapshot: int = 1, at: int = 1000) -> Tick:
    """Counts by route and arm."""
    return Tick(at, {Series(snapshot, route, arm, "", ""): each for route, arm, each in counts})


REACHED = Counts(started=3, answered=3, errors=1, ended=3)
ALL_FAILED = Counts(started=3, answered=3, errors=3, ended=3)
NONE_REACHED = Counts(started=3, answered=3, errors=3, ended=3, failed_over=3)


@pytest.mark.parametrize(
    ("ticks", "endpoints", "sign"),
    [
        ([tick(("a", "treatment", REACHED))], Endpoints(), Sign.ALIVE),
        ([tick(("a", "treatment", ALL_FAILED))], Endpoints(), Sign.ALIVE),
        ([tick(("a", "treatment", NONE_REACHED))], Endpoints(), Sign.DEAD),
        ([tick(("a", "treatment", REACHED), ("b", "treatment", NONE_REACHED))], Endpoints(), Sign.DEAD),
        (
            [tick(("a", "treatment", NONE_REACHED)), tick(("a", "treatment", REACHED), at=2000)],
            Endpoints(),
            Sign.ALIVE,
        ),
        ([tick(("a", "control", REACHED))], Endpoints(), Sign.SILENT),
        ([tick(("a", "treatment", Counts(started=3)))], Endpoints(), Sign.SILENT),
        ([], Endpoints(), Sign.SILENT),
        ([], Endpoints(answers=True), Sign.ALIVE),
        ([], Endpoints(treatment=False), Sign.DEAD),
        ([tick(("a", "treatment", REACHED))], Endpoints(treatment=False), Sign.DEAD),
    ],
)
def test_a_sign_of_life_is_an_answer_and_every_route_can_be_reached(
    ticks: list[Tick], endpoints: Endpoints, sign: Sign
) -> None:
    """Also an answer that is an error: somebody is there."""
    assert sign_of(ticks, endpoints) is sign


def test_what_never_reached_treatment_convicts_nobody() -> None:
    """Control answered it: it is taken out, whole."""
    mixed = Counts(started=5, answered=5, errors=3, ended=4, failed_over=2, latencies={7: 2})
    (counts,) = judged(tick(("a", "treatment", mixed))).counts.values()
    assert counts == Counts(started=3, answered=3, errors=1, ended=3, latencies={7: 2})


def test_a_tick_without_failovers_is_judged_as_it_is() -> None:
    """The usual case costs nothing."""
    usual = tick(("a", "treatment", ALL_FAILED))
    assert judged(usual) is usual


def test_only_requests_of_this_stay_count() -> None:
    """Those of older snapshots, or from before its first tick, were drawn for another."""
    state = begin(3, 2000, 2000)
    early = tick(("a", "treatment", REACHED), snapshot=3, at=1000)
    old = tick(("a", "treatment", REACHED), snapshot=2, at=2000)
    ours = tick(("a", "treatment", REACHED), snapshot=3, at=3000)
    seen = in_stay(Progress((early, old, ours), (ours,)), state)
    assert [len(each.counts) for each in seen.closed] == [0, 0, 1]
    assert seen.settled == (ours,)


def looks(*signs: tuple[Sign, float], epoch: int = 1) -> Absence:
    """An absence after these looks."""
    absence = Absence(epoch)
    for sign, seconds in signs:
        absence = look(absence, sign, seconds, epoch)
    return absence


def test_an_absence_adds_up_and_silence_goes_on_with_it() -> None:
    """Only a sign of life ends it."""
    gone = looks((Sign.ALIVE, 1.0), (Sign.DEAD, 5.0), (Sign.SILENT, 5.0))
    assert (gone.lasted, is_system_failure(gone, 10.0)) == (10.0, True)
    assert look(gone, Sign.ALIVE, 1.0, 1).lasted == 0.0


def test_silence_begins_no_absence() -> None:
    """Nobody asked, so nobody was missing."""
    assert looks((Sign.ALIVE, 1.0), (Sign.SILENT, 9.0)).lasted == 0.0


def test_a_treatment_that_never_lived_fails_nobody() -> None:
    """A system failure needs a system; and it needs it in this epoch."""
    assert not is_system_failure(looks((Sign.DEAD, 10.0), (Sign.DEAD, 10.0)), 5.0)
    gone = looks((Sign.ALIVE, 1.0), (Sign.DEAD, 10.0))
    assert not is_system_failure(look(gone, Sign.DEAD, 10.0, 2), 5.0)


def test_a_look_that_comes_late_adds_little() -> None:
    """Who slept for an hour did not watch for an hour."""
    assert looks((Sign.ALIVE, 1.0), (Sign.DEAD, 3600.0)).lasted == 10.0
