"""What a trial shows of control: the exact test, beside scipy's."""

from __future__ import annotations

import pytest
import scipy

from gateway.core.evidence.gathering import Limits
from gateway.core.evidence.state import Beside, EvidenceState, Guardrail
from gateway.core.evidence.trials import control_is_worse

LIMITS = Limits(0.02, None, None)


def seen(treatment: int, treatment_bad: float, control: int, control_bad: float) -> EvidenceState:
    """Evidence of a trial in which both arms did so."""
    return EvidenceState(
        1, 0, 0, errors=Guardrail(beside=Beside(treatment, treatment_bad, control, control_bad))
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("treatment", "treatment_bad", "control", "control_bad"),
    [(20, 1, 20, 8), (3, 0, 20, 20), (500, 30, 480, 60), (40_000, 2000, 40_000, 2200), (60, 20, 50, 30)],
)
def test_the_doubt_is_the_one_that_is_asked_for(
    treatment: int, treatment_bad: int, control: int, control_bad: int
) -> None:
    """It is shown for any doubt above the tail of the hypergeometric distribution, and for none below."""
    bad = treatment_bad + control_bad
    tail = float(scipy.stats.hypergeom.sf(control_bad - 1, treatment + control, bad, control))
    state = seen(treatment, treatment_bad, control, control_bad)
    assert control_is_worse(state, LIMITS, tail * (1 + 1e-6))
    assert not control_is_worse(state, LIMITS, tail * (1 - 1e-6))


@pytest.mark.parametrize(
    "both",
    [
        (0, 0, 0, 0),
        (0, 0, 50, 50),
        (50, 50, 50, 50),
        (50, 50, 50, 0),
        (1000, 0, 19, 19),
        (10, 9.5, 20, 19.5),
        (10**7, 10**7, 10**7, 10**7),
        (10**7, 10**6, 10**7, 10**6),
    ],
)
def test_what_shows_nothing_is_not_held_against_control(both: tuple[int, float, int, float]) -> None:
    """No requests, two arms alike, a better control, or fewer than twenty requests."""
    assert not control_is_worse(seen(*both), LIMITS, 0.05)


def test_without_a_limit_nothing_is_worse() -> None:
    """There is nothing that either arm may not do."""
    assert not control_is_worse(seen(100, 0, 100, 100), Limits(None, None, None), 0.05)
