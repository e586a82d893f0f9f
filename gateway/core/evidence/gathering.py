"""Ticks become evidence: the deterministic fold.

It reads no clock: a state and the same looks give the same state, on whatever machine. Heads are taken
in when their tick is closed, cut streams when it is settled. Latency need not wait for either: once a
tick is older than slow, whoever is still waiting in it waits for a slow answer, in both arms alike.

Requests that control answered in treatment's place are left out: nobody was harmed by them, and a
treatment that restarts is not to be convicted by them (`core.system_failure` has an eye on those).

What follows from the evidence is `assessment`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.core.evidence import timing
from gateway.core.evidence.selection import Cell, Selection
from gateway.core.evidence.state import RECENT_MINUTES, EvidenceState
from gateway.core.evidence.weighing import Outcomes, Weighing, seen
from gateway.core.folding import Tick
from gateway.model.metrics import Metric
from gateway.model.safety import Unit


@dataclass(frozen=True, slots=True)
class Limits:
    """What treatment may do at worst; None where the config has no limit, and so nothing to judge."""

    error_rate: float | None
    """Largest share of failed requests."""
    performance_degradation: float | None
    """Largest slowdown against control: 0.15 is 15 % slower."""
    user_satisfaction: float | None
    """Smallest mean rating."""

    @property
    def dissatisfaction(self) -> float | None:
        """Largest mean of what is missing to a full rating."""
        return None if self.user_satisfaction is None else 1.0 - self.user_satisfaction


@dataclass(frozen=True, slots=True)
class Look:
    """What became known since the last look, all times in monotonic milliseconds.

    `closed` and `settled` are the ticks of `core.folding.Progress`: ticks that were folded before may
    come again and are left out. `standing` are the ticks that are not settled as they stand now, at
    least those from `EvidenceState.watched_to` on (`Fold.standing`); what they say of open requests is no
    older than `reported_to`. `interval` is the length of a tick, `anchor` what has to be added for
    wall-clock time.
    """

    closed: tuple[Tick, ...] = ()
    settled: tuple[Tick, ...] = ()
    standing: tuple[Tick, ...] = ()
    reported_to: int = 0
    interval: int = 1000
    anchor: int = 0


def fold(state: EvidenceState, look: Look, limits: Limits, unit: Unit) -> EvidenceState:
    """The evidence with what a look brought. `unit` USER looks at users' first requests alone."""
    selection = Selection(state, unit, look.anchor)
    state = _take_heads(state, look, selection, limits)
    state = _take_latencies(state, look, selection, limits.performance_degradation)
    state = _watch_control(state, look, selection)
    return _take_settled(state, look, selection, limits)


def _take_heads(state: EvidenceState, look: Look, selection: Selection, limits: Limits) -> EvidenceState:
    """Errors, client errors, and what upstreams reported with their heads."""
    ticks = [tick for tick in look.closed if tick.at >= state.closed_to]
    if not ticks:
        return state
    errors = Weighing(state.errors, limits.error_rate)
    client_errors = Weighing(state.client_errors, None)
    dissatisfaction = Weighing(state.dissatisfaction, limits.dissatisfaction)
    users, control = state.treatment_users, dict(state.control_minutes)
    in_trial = 0
    for tick in ticks:
        cells = selection.cells(tick)
        if not cells:
            continue
        when = selection.moment(tick.at)
        errors.take([errors_of(cell) for cell in cells], when)
        client_errors.take([_client_errors(cell) for cell in cells], when)
        dissatisfaction.take([_dissatisfaction(cell) for cell in cells], when)
        users = seen(users, when.stretch, answered_by_route(cells))
        controls = sum([cell.counts.answered for cell in cells if not cell.treatment])
        control[when.minute] = control.get(when.minute, 0) + controls
        if state.trial is not None and tick.at >= state.trial.since:
            in_trial += controls
    newest = state.minute(ticks[-1].at)
    return replace(
        state,
        closed_to=ticks[-1].at + 1,
        errors=errors.result(),
        client_errors=client_errors.result(),
        dissatisfaction=dissatisfaction.result(),
        treatment_users=users,
        control_minutes=tuple(item for item in control.items() if item[0] > newest - RECENT_MINUTES),
        trial=state.trial and replace(state.trial, control=state.trial.control + in_trial),
    )


def answered_by_route(cells: Iterable[Cell]) -> Counter[str]:
    """Treatment's requests with an outcome."""
    answered: Counter[str] = Counter()
    for cell in cells:
        if cell.treatment:
            answered[cell.route] += cell.counts.answered
    return answered


def errors_of(cell: Cell) -> Outcomes:
    """The heads of one arm, and those that failed; not what control answered in its place."""
    counts = cell.counts
    reached = counts.answered - counts.failed_over
    return Outcomes(cell.route, cell.treatment, cell.share, reached, counts.errors - counts.failed_over)


def _client_errors(cell: Cell) -> Outcomes:
    counts = cell.counts
    return Outcomes(
        cell.route, cell.treatment, cell.share, counts.answered - counts.failed_over, counts.client_errors
    )


def _dissatisfaction(cell: Cell) -> Outcomes:
    score = cell.counts.scores.get(Metric.USER_SATISFACTION)
    if score is None:
        return Outcomes(cell.route, cell.treatment, cell.share, 0, 0)
    return Outcomes(cell.route, cell.treatment, cell.share, score.count, score.count - score.total)


def _truncations(cell: Cell) -> Outcomes:
    counts = cell.counts
    return Outcomes(cell.route, cell.treatment, cell.share, counts.answered - counts.errors, counts.truncated)


def _take_settled(state: EvidenceState, look: Look, selection: Selection, limits: Limits) -> EvidenceState:
    """Truncated streams."""
    ticks = [tick for tick in look.settled if tick.at >= state.settled_to]
    if not ticks:
        return state
    truncations = Weighing(state.truncations, limits.error_rate)
    for tick in ticks:
        if cells := selection.cells(tick):
            truncations.take([_truncations(cell) for cell in cells], selection.moment(tick.at))
    return replace(state, settled_to=ticks[-1].at + 1, truncations=truncations.result())


def _take_latencies(
    state: EvidenceState, look: Look, selection: Selection, degradation: float | None
) -> EvidenceState:
    """Who was slow, tick by tick, as far as that is known of whole ticks; nobody without thresholds."""
    thresholds = state.reference.thresholds
    if degradation is None or not thresholds:
        return replace(state, timed_to=max(state.timed_to, state.closed_to))
    weighings = [
        Weighing(guardrail, None, threshold)
        for guardrail, threshold in zip(state.slowness, thresholds, strict=True)
    ]
    timed_to = state.timed_to
    for at, tick, settled in _since(state.timed_to, look):
        cells, age = selection.cells(tick), look.reported_to - (at + look.interval)
        if not settled and (age < 0 or not all(cell.counts.over for cell in cells)):
            limits = [one.threshold_of(cell.share) for one in weighings for cell in cells]
            if age < timing.milliseconds(timing.stretched(max(limits, default=0), degradation)):
                break
        timed_to, when = at + 1, selection.moment(at)
        for weighing in weighings:
            weighing.take(timing.outcomes(cells, weighing.threshold_of, degradation, age), when)
    return replace(state, timed_to=timed_to, slowness=tuple([weighing.result() for weighing in weighings]))


def _watch_control(state: EvidenceState, look: Look, selection: Selection) -> EvidenceState:
    """How fast control was, as soon as it has nothing open in a tick: a treatment that hangs keeps a tick
    from being settled, and must not keep the thresholds from what it takes to see that."""
    ticks = []
    for at, tick, settled in _since(state.watched_to, look):
        control = selection.control(tick)
        if not settled and (at >= state.timed_to or not all(counts.over for counts in control)):
            break
        ticks.append((at, control))
    if not ticks:
        return state
    watch = timing.Watch(state.reference)
    for at, control in ticks:
        watch.take(at, control)
    return replace(state, watched_to=ticks[-1][0] + 1, reference=watch.result())


def _since(at: int, look: Look) -> list[tuple[int, Tick, bool]]:
    """Every tick of a look that begins at `at` or later, in order, and whether it is settled."""
    settled = {tick.at: tick for tick in look.settled if tick.at >= at}
    standing = {tick.at: tick for tick in look.standing if tick.at >= at}
    return [(begun, tick, begun in settled) for begun, tick in sorted((standing | settled).items())]
