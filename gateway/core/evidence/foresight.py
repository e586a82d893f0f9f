"""What the evidence on errors will come to at least, however the requests end that are still open.

A tick counts once all its heads are known: failures are fast, successes may be slow, and who judges by what
came first condemns the healthy. But one slow head in a hundred, of either arm, would keep everything that
came after it from being judged, while a broken treatment goes on failing. So the open requests are taken
for what speaks least against treatment: its own will go well, and control's will fail. The evidence of a
tick, when it is closed at last, is no less than that. What convicts now would convict then, so nothing is
convicted that would not have been (but for requests whose clients leave: those will not count at all).

It decides nothing, and the evidence itself goes on with closed ticks alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.core.evidence.gathering import answered_by_route, errors_of
from gateway.core.evidence.selection import Cell, Selection
from gateway.core.evidence.state import EvidenceState, Guardrail
from gateway.core.evidence.weighing import Weighing, seen
from gateway.core.folding import Tick
from gateway.model.safety import Unit
from gateway.model.snapshot import Arm

_TREATMENT = Arm.TREATMENT.label
_TIMES_THE_LIMIT = 3.0
"""What fails less than that is found in minutes, not in seconds: it can wait for the slowest head."""


def foresee(
    state: EvidenceState, ticks: Sequence[Tick], limit: float, unit: Unit, *, anchor: int, failures: int
) -> EvidenceState:
    """The state with the most that is sure to be found on errors, at whichever of the open ticks that is.

    `ticks` are those whose heads are not all known, oldest first, as they stand; `limit` is the largest share
    that may fail; fewer than so many `failures` beyond it are not worth a look. The state as it is
    where there is nothing to foresee.
    """
    ticks = [tick for tick in ticks if tick.at >= state.closed_to]
    if not _is_suspicious(ticks, limit, failures):
        return state
    selection = Selection(state, unit, anchor)
    weighing, users = Weighing(state.errors, limit), state.treatment_users
    most, found = _evidence(state.errors), state
    for tick in ticks:
        cells = [_at_best(cell) for cell in selection.cells(tick)]
        when = selection.moment(tick.at)
        weighing.take([errors_of(cell) for cell in cells], when)
        users = seen(users, when.stretch, answered_by_route(cells))
        guardrail = weighing.result()
        if (evidence := _evidence(guardrail)) > most:
            most, found = evidence, replace(state, errors=guardrail, treatment_users=users)
    return found


def _is_suspicious(ticks: Iterable[Tick], limit: float, failures: int) -> bool:
    """Whether treatment fails beyond the limit for a while: a cheap look, for this is asked all the time."""
    beyond = 0.0
    for tick in ticks:
        of_treatment = [counts for series, counts in tick.counts.items() if series.arm == _TREATMENT]
        errors = sum([counts.errors for counts in of_treatment])
        started = sum([counts.started - counts.withdrawn for counts in of_treatment])
        beyond = max(0.0, beyond + errors - _TIMES_THE_LIMIT * limit * started)
        if beyond >= failures * (1.0 - _TIMES_THE_LIMIT * limit):
            return True
    return False


def _at_best(cell: Cell) -> Cell:
    """The requests without an outcome go well if they are treatment's, and fail if they are control's."""
    counts = cell.counts
    waiting = max(0, counts.started - counts.answered - counts.withdrawn)
    if not waiting:
        return cell
    failed = 0 if cell.treatment else waiting
    known = replace(counts, answered=counts.answered + waiting, errors=counts.errors + failed)
    return replace(cell, counts=known)


def _evidence(guardrail: Guardrail) -> float:
    return min(guardrail.treatment.value, guardrail.relative.value if guardrail.compared else 0.0)
