"""What a trial shows of control: whether it does worse than the treatment that it is to be compared with.

A trial gives control some of treatment's users, to have somebody to compare treatment with. If control turns
out to be the worse one, those users are harmed by it, and nothing is to be learned that would help them.

Pure mathematics on what both arms did beside each other. What follows from it is `assessment`'s.
"""

from __future__ import annotations

import math

from gateway.core.evidence.gathering import Limits
from gateway.core.evidence.state import HOLD_FROM, Beside, EvidenceState

LEAST_SHOWING = 20
"""Control requests below which nothing is shown of it."""
_NEGLIGIBLE = 1e-12
"""A term that is this small a part of the sum ends it."""


def failures(state: EvidenceState) -> Beside:
    """Requests of both arms beside each other; bad is a bad head or a cut stream."""
    heads, streams = state.errors.beside, state.truncations.beside
    return Beside(
        heads.treatment,
        heads.treatment_bad + streams.treatment_bad,
        heads.control,
        heads.control_bad + streams.control_bad,
    )


def control_is_worse(state: EvidenceState, limits: Limits, doubt: float) -> bool:
    """Whether control is shown to be over a limit and worse than treatment.

    `doubt` is how likely what was seen may be of two arms that are alike. Ratings are asked where treatment
    is over the limit by them; that requests fail counts in any case.
    """
    if _is_worse(failures(state), limits.error_rate, doubt):
        return True
    by_ratings = state.dissatisfaction.count > 0 and state.dissatisfaction.treatment.value >= HOLD_FROM
    return by_ratings and _is_worse(state.dissatisfaction.beside, limits.dissatisfaction, doubt)


def _is_worse(seen: Beside, limit: float | None, doubt: float) -> bool:
    if limit is None or seen.control < LEAST_SHOWING or seen.control_bad <= limit * seen.control:
        return False
    # Scores need not be whole: rounded so that control is not blamed for a fraction.
    treatment_bad = min(seen.treatment, math.ceil(seen.treatment_bad))
    control_bad = min(seen.control, math.floor(seen.control_bad))
    if control_bad * seen.treatment <= treatment_bad * seen.control:
        return False
    return _by_chance(seen.treatment, treatment_bad, seen.control, control_bad) < doubt


def _by_chance(treatment: int, treatment_bad: int, control: int, control_bad: int) -> float:
    """How likely control has at least so many of the bad ones if both arms are alike: Fisher's exact test.

    For a control with more than its share of them: from there on the terms of the hypergeometric
    distribution fall.
    """
    term = math.exp(
        _log_choices(control, control_bad)
        + _log_choices(treatment, treatment_bad)
        - _log_choices(control + treatment, control_bad + treatment_bad)
    )
    total = term
    while treatment_bad > 0 and control_bad < control and term > _NEGLIGIBLE * total:
        ways = (control - control_bad) * treatment_bad
        control_bad, treatment_bad = control_bad + 1, treatment_bad - 1
        term *= ways / (control_bad * (treatment - treatment_bad))
        total += term
    return total


def _log_choices(of: int, chosen: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)
