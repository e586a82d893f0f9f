"""Holds the rollout: applies one event at a time to the state machine and carries out the effects in
order.

The snapshot, the disk and the history have a step before the next one begins. A step that lets more users
in, or relies on a person's decision, is written to disk first. A step towards control is done first and
written afterwards, with the time that each part took. Only the flip of the latch waits for nothing:
whatever is in progress, everything goes to control, and the step that records it takes its turn.

It does not know when an event is due; see `pace` for timed events and `control.operations` for people's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from gateway import logs
from gateway.control.config.loading import Loaded
from gateway.control.history import Event as HistoryEvent
from gateway.control.history import History, entry
from gateway.control.latching import LatchDesk, ReleaseResult
from gateway.control.rollout.aftermath import Fall
from gateway.control.rollout.records import Digests, describe
from gateway.control.rollout.stopwatch import Stopwatch
from gateway.control.store.api import Document, Opening, Store
from gateway.control.store.encoding import from_json, to_json
from gateway.core.compile import Position
from gateway.core.percentage import effective_percentage
from gateway.core.reload_rules import changed_keys
from gateway.core.rollout import GATEWAY, begin, reconcile, step
from gateway.core.rollout_rules import rollout_rules
from gateway.model.latch import LatchKind, LatchView
from gateway.model.rollout import (
    Durability,
    Effect,
    EngageLatch,
    Event,
    Notify,
    Persist,
    Publish,
    Refusal,
    Release,
    ReleaseLatch,
    Reload,
    RestartEvidence,
    RestartWindows,
    Rollout,
    Rules,
    RunHooks,
    Step,
)
from gateway.model.safety import Hook

DOCUMENT = "rollout"
"""Name of the rollout's state in the store and at the supervisor's."""
MOST_CORRECTIONS = 8
"""Events that one look at the latch may need until page and state agree; more would be a mistake of ours."""
REPETITION_INTERVAL = 5.0
"""Seconds between two lines about engagements while engaged, where nobody asks."""
SOMEBODY = "unknown"
"""The operator of a repeated engagement: the page keeps the words of the first."""


class Refused(Exception):
    """The machine did not take the step; `refusal` says why, gate by gate where gates are the reason."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class Outdated(Exception):
    """The step depended on another version of the state than `version`, which stands."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the state is at version {version}")
        self.version = version


class NotReleased(Exception):
    """The latch is engaged still; `result` says why."""

    def __init__(self, result: ReleaseResult) -> None:
        super().__init__(result.value)
        self.result = result


class Measurements(Protocol):
    """What the gates and the monitors gather, as far as the rollout begins it afresh.

    Both come after the snapshot was published.
    """

    def restart_evidence(self) -> None:
        """Begin everything afresh: evidence, trials, windows."""

    def restart_windows(self) -> None:
        """Begin the gates' windows afresh."""


class Following(Protocol):
    """What follows a step and nobody waits for."""

    def tell(self, notify: Notify) -> None:
        """Tell people."""

    def begin(self, line: HistoryEvent, stopwatch: Stopwatch, hooks: Sequence[Hook]) -> Fall:
        """Do what follows a rollback or an emergency; its line says then what that is."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the desk's effects go."""

    store: Store
    history: History
    latch: LatchDesk
    measurements: Measurements
    publish: Callable[[Loaded, Position], object]
    keep: Callable[[bytes], None]
    """Has the supervisor remember the state, for a control process that starts while the disk refuses."""
    following: Following


class RolloutDesk:
    """Holds the state. Make one with `resume`, then `start` it."""

    def __init__(
        self, state: Rollout, loaded: Loaded, around: Surroundings, *, now: Callable[[], float] = time.time
    ) -> None:
        self.state = state
        self.loaded = loaded
        self.rules: Rules = rollout_rules(loaded.config)
        self._around = around
        self._now = now
        self._turn = asyncio.Lock()
        self._flipped: set[int] = set()
        self._settled_at = -REPETITION_INTERVAL

    def __repr__(self) -> str:
        return f"<RolloutDesk {self.state.phase} {self.state.mode} version={self.state.version}>"

    # --- the start --------------------------------------------------------------------------------

    @classmethod
    def resume(
        cls, loaded: Loaded, around: Surroundings, kept: bytes | None, now: Callable[[], float] = time.time
    ) -> RolloutDesk:
        """A desk with the state that was left: the newer of the store's and of `kept`, the supervisor's.

        Without either, a rollout that begins. Where the store lost what went before, or holds what
        cannot be read, the latch is engaged; and a rollout that begins for that reason has a ceiling of
        nobody, for nothing is known of the share that it comes back from.
        """
        store, latch = around.store, around.latch
        stored = store.document(DOCUMENT)
        bodies = [body for body in (stored and stored.body, kept and kept.decode(errors="replace")) if body]
        found = [state for state in map(_read, bodies) if state is not None]
        trouble = _TROUBLES.get(store.opening, "")
        if len(found) < len(bodies):
            trouble = "the rollout's state cannot be read"
        if trouble and not latch.page.engaged:
            fault = store.fault
            reason = f"{trouble}: {fault.detail}" if fault is not None else trouble
            latch.engage(LatchKind.STATE, reason, GATEWAY)
        newest = max(found, key=lambda state: state.version, default=None)
        if newest is None:
            state = begin(rollout_rules(loaded.config), now())
            state = replace(state, ceiling=Fraction(0)) if trouble else state
        else:
            state = _with_numbers_of(newest, latch.page.number, latch.page.engaged)
        return cls(state, loaded, around, now=now)

    async def start(self) -> None:
        """Make state, config, latch and snapshot agree, and publish what holds."""
        around = self._around
        stored = around.store.document(DOCUMENT)
        if self.state.version > (0 if stored is None else stored.version):
            expected = None if stored is None else stored.version
            await around.store.commit(DOCUMENT, expected, self._document(), [], Durability.BEST_EFFORT)
        phase = self.rules.find(self.state.phase)
        known = phase is not None and (phase.share, self.rules.binding) == (
            self.state.share,
            self.state.binding,
        )
        if self.state.version == 0 or (phase is not None and not known):
            # The history begins with the rules; and goes on with others where they changed meanwhile.
            await self.apply(Reload(operator=GATEWAY, reason="started", rules=self.rules))
        await self.settle()
        around.publish(self.loaded, self.position)

    # --- events -----------------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        """What the workers serve by. A phase that the config has not is stood in for by the first, at 0 %."""
        known = self.rules.find(self.state.phase) is not None
        phase = self.state.phase if known else self.rules.initial_phase
        return Position(phase, effective_percentage(self.state, self.rules))

    async def apply(self, event: Event, expected: Collection[int] | None = None) -> Step:
        """Take a step and carry out what follows from it.

        `expected` are the versions of the state that the event may meet, None for any. Raises Refused,
        Outdated, NotReleased, and NotDurableError where the step had to be on disk and is not; in each
        case nothing stands but a latch that was flipped.
        """
        self.check(expected)
        stopwatch = Stopwatch()
        flipped = self._flip(event, stopwatch)
        ours = self._around.latch.page.number if flipped is not event else None
        if ours is not None:
            self._flipped.add(ours)
        try:
            async with self._turn:
                if ours is None:
                    self.check(expected)
                return await self._take(self._flip(flipped, stopwatch), self.loaded, stopwatch)
        finally:
            if ours is not None:
                self._flipped.discard(ours)

    async def reload(self, loaded: Loaded) -> None:
        """Put another config in force. Raises Refused where the rollout does not allow it."""
        changed = ", ".join(changed_keys(self.loaded.config, loaded.config))
        reason = f"changed: {changed}" if changed else "changed: comments or layout alone"
        event = Reload(operator=GATEWAY, reason=reason, rules=rollout_rules(loaded.config))
        async with self._turn:
            await self._take(event, loaded, Stopwatch())

    async def settle(self, *, repetitions: bool = True) -> None:
        """Work off what the latch's page says and the state does not know yet.

        `repetitions` False leaves engagements while engaged for later if one was recorded just now: a
        thousand signals make a few lines, the last of which says how many they were.
        """
        for _ in range(MOST_CORRECTIONS):
            if self._unsettled() is None or not (repetitions or self._repetition_is_due()):
                return
            async with self._turn:
                # Asked again, for what disagreed may have been a step on its way, such as a release.
                event = self._unsettled()
                if event is not None:
                    self._settled_at = self._now()
                    stopwatch = self._since_engaged()
                    await self._take(self._flip(event, stopwatch), self.loaded, stopwatch)
        logs.error("latch and rollout do not agree", page=repr(self._around.latch.page), state=repr(self))

    def _unsettled(self) -> Event | None:
        """What the page has that nobody works off: an engagement of ours is its caller's to record."""
        ours = min(self._flipped, default=None)
        if ours is None:
            return reconcile(self.state, self._view(self._around.latch.page.number), self.rules)
        if ours - 1 <= self.state.engagement:
            return None
        return reconcile(self.state, self._view(ours - 1), self.rules)

    def _repetition_is_due(self) -> bool:
        """True unless all that the page has is more of what was recorded a moment ago."""
        page, latched = self._around.latch.page, self.state.latch
        if latched is None or not page.engaged or page.kind is not latched.kind:
            return True
        return abs(self._now() - self._settled_at) >= REPETITION_INTERVAL

    def checkpoint(self) -> None:
        """Keep the clocks, which move without an event."""
        self._around.store.checkpoint(DOCUMENT, self._document())
        self._around.keep(self._document().body.encode())

    def check(self, expected: Collection[int] | None) -> None:
        """Raise Outdated unless the state's version is one of those expected (None: any)."""
        if expected is not None and self.state.version not in expected:
            raise Outdated(self.state.version)

    def _view(self, number: int) -> LatchView:
        """The page's words, as of this engagement."""
        page = self._around.latch.page.state()
        latched = self.state.latch
        # A repetition leaves the page's words as they are, unless an emergency takes over.
        if latched is not None and page.kind is latched.kind:
            times = number - self.state.engagement
            reason = (
                f"engaged {times} more times while engaged" if times > 1 else "engaged again while engaged"
            )
            return LatchView(number, page.engaged, page.kind, reason, SOMEBODY)
        return LatchView(number, page.engaged, page.kind, page.reason, page.operator)

    def _since_engaged(self) -> Stopwatch:
        """A stopwatch for what others began by engaging the page; one that begins now where nobody did."""
        page = self._around.latch.page
        if not page.engaged:
            return Stopwatch()
        return Stopwatch.since(_LATCH_STEP, max(0.0, self._now() - page.state().since))

    def _flip(self, event: Event, stopwatch: Stopwatch) -> Event:
        """Engage the latch where that is what the event asks for; the event that follows, else the same."""
        match step(self.state, event, self._now(), self.rules).effects:
            case (EngageLatch(kind, then),):
                number = self._around.latch.engage(kind, then.reason, then.operator)
                stopwatch.note(_LATCH_STEP)
                return replace(then, engagement=number)
            case _:
                return event

    # --- a step -----------------------------------------------------------------------------------

    async def _take(self, event: Event, loaded: Loaded, stopwatch: Stopwatch) -> Step:
        before, digests = self.state, self._digests(loaded)
        page = self._around.latch.page
        if isinstance(event, Release) and page.engaged and page.number != event.engagement:
            raise NotReleased(ReleaseResult.OVERTAKEN)
        taken = step(before, event, self._now(), self.rules)
        if taken.refusal is not None:
            raise Refused(taken.refusal)
        persist = next((effect for effect in taken.effects if isinstance(effect, Persist)), None)
        if persist is not None and persist.durability is Durability.REQUIRED:
            await self._persist(taken.state, persist, describe(persist.record, digests))
            self._stand(taken.state, loaded)
            await self._carry_out_all(taken.effects, event, stopwatch)
        else:
            self._stand(taken.state, loaded)
            stopwatch.note("phase")
            await self._carry_out_all(taken.effects, event, stopwatch)
            if persist is not None:
                answered = not isinstance(event, Reload) or taken.state.pending_rollback is not None
                line = describe(
                    persist.record,
                    digests,
                    repeated=before.latch is not None,
                    dropped=None if answered else before.pending_rollback,
                )
                if before.latch is None and taken.state.latch is not None:
                    line = replace(line, evidence={**line.evidence, **stopwatch.document()})
                if any(isinstance(effect, RunHooks) for effect in taken.effects):
                    await self._write_fall(taken.state, persist, line, stopwatch)
                else:
                    await self._persist(taken.state, persist, line)
        return taken

    async def _carry_out_all(self, effects: Iterable[Effect], event: Event, stopwatch: Stopwatch) -> None:
        """Every effect in its order; one that fails is said and does not stop the others."""
        failed: NotReleased | None = None
        for effect in effects:
            try:
                failed = await self._carry_out(effect, event) or failed
            except Exception as error:
                logs.error("effect failed", effect=type(effect).__name__, error=repr(error))
                stopwatch.note(_STEPS.get(type(effect), ""), failed=repr(error))
            else:
                stopwatch.note(_STEPS.get(type(effect), ""))
        if failed is not None:
            raise failed

    async def _write_fall(
        self, state: Rollout, persist: Persist, line: HistoryEvent, stopwatch: Stopwatch
    ) -> None:
        """Have hooks and record follow at once; the disk may take its time with the line."""
        fall = self._around.following.begin(line, stopwatch, self.loaded.config.deployment.rollback.hooks)
        try:
            await self._persist(state, persist, fall.line)
        finally:
            stopwatch.note("record")
            fall.written.set()

    def _digests(self, loaded: Loaded) -> Digests:
        """The config before and after; at a start, what the history's newest line was written under."""
        last = self._around.history.recent(1)
        before = None if self.state.version == 0 else last[0].digest if last else self.loaded.digest
        return Digests(before, loaded.digest)

    def _stand(self, state: Rollout, loaded: Loaded) -> None:
        self.state = state
        if loaded is not self.loaded:
            self.loaded, self.rules = loaded, rollout_rules(loaded.config)

    async def _persist(self, state: Rollout, persist: Persist, event: HistoryEvent) -> None:
        store = self._around.store
        standing = store.document(DOCUMENT)
        document = Document(state.version, to_json(state))
        await store.commit(
            DOCUMENT,
            None if standing is None else standing.version,
            document,
            [entry(event, persist.record)],
            persist.durability,
        )
        self._around.keep(document.body.encode())
        self._around.history.note(event)
        logs.audit(
            event.type.value,
            operator=event.operator,
            reason=event.reason,
            version=state.version,
            phase=state.phase,
        )

    async def _carry_out(self, effect: Effect, event: Event) -> NotReleased | None:
        around = self._around
        match effect:
            case Publish():
                around.publish(self.loaded, self.position)
            case RestartEvidence():
                around.measurements.restart_evidence()
            case RestartWindows():
                around.measurements.restart_windows()
            case ReleaseLatch(number):
                result = await around.latch.release(number, event.operator, event.reason)
                return None if result is ReleaseResult.RELEASED else NotReleased(result)
            case Notify():
                around.following.tell(effect)
            case Persist() | EngageLatch() | RunHooks():
                pass  # the latch is flipped by now; hooks and record follow once all else is done
        return None

    def _document(self) -> Document:
        return Document(self.state.version, to_json(self.state))


_LATCH_STEP = "latch"
_STEPS: Mapping[type, str] = {
    Publish: "publish",
    RestartEvidence: "restart evidence",
    RestartWindows: "restart windows",
    ReleaseLatch: "release",
    Notify: "notify",
}

_TROUBLES = {
    Opening.CORRUPT: "the state file was corrupt",
    Opening.UNREAD: "the state file cannot be used",
}


def _read(body: str) -> Rollout | None:
    try:
        return from_json(Rollout, body)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        logs.error("the rollout's state is not readable", error=repr(error))
        return None


def _with_numbers_of(state: Rollout, number: int, engaged: bool) -> Rollout:
    """The state, with its engagements counted as the latch counts them.

    A latch file that was lost begins at zero again; a state that knows higher numbers would take each
    new engagement for one that it has worked off.
    """
    if number >= state.engagement:
        return state
    return replace(state, engagement=number - 1 if engaged else number)
