"""What follows a rollback: hooks, notifications, and a record of how all of it went.

The desk starts it and goes on, because everything is on control by then. The hooks run in order,
in the background, while messages are being sent. A failure is recorded and stops nothing. At the end,
one line of the history says when each step was done, and teams that are not on call get the
record.

If the record of a rollback is missing at the start, an earlier control process ended too early. Its
hooks are then run again: a cache that was not cleared is worse than one that is cleared twice. If the
whole gateway ended with it, its messages are lost too, and people are told again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from gateway import logs
from gateway.control.actions import carry_out
from gateway.control.alerting.notices import Notice, happened, record
from gateway.control.history import Event, EventType, History
from gateway.control.hooks import HookResult, Runner, run_hooks
from gateway.control.rollout.stopwatch import Stopwatch
from gateway.control.rollout.views import Document, timestamp
from gateway.core.advice import AFTER_FALL
from gateway.core.rollout import GATEWAY
from gateway.model.alerts import Severity
from gateway.model.rollout import Notify
from gateway.model.safety import Hook

DELIVERY_PATIENCE = 30.0
"""Seconds that the record waits for messages to arrive; they are tried for longer than that."""
CUT_OFF_WITHIN = 3600.0
"""Seconds: a fall that is older than this is not followed up at the start. Who missed it has noticed."""
_FALLS = (EventType.ROLLBACK, EventType.EMERGENCY)


class People(Protocol):
    """Who is told. Telling never waits."""

    def tell(self, notice: Notice) -> None:
        """Have everybody told whom it concerns."""

    def reaches_anybody(self) -> bool:
        """True if there is a channel at all."""

    async def drained(self, patience: float) -> bool:
        """Wait until every message arrived; False if that takes longer than so many seconds."""


@dataclass(frozen=True, slots=True)
class Fall:
    """A rollback or emergency: its line in the history, its clock, and the hooks that follow it.

    `written` is set once the line is in the history: its record comes after it.
    """

    line: Event
    stopwatch: Stopwatch
    hooks: tuple[Hook, ...]
    written: asyncio.Event


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the newest fall went so far. `over`: nothing of it is under way any more."""

    line: Event
    times: Mapping[str, Any]
    hooks: Sequence[Mapping[str, Any]]
    over: bool


class Aftermath:
    """See the module. `run` works for ever."""

    def __init__(
        self,
        history: History,
        people: People,
        folder: Path,
        *,
        run: Runner = carry_out,
        delivery_patience: float = DELIVERY_PATIENCE,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`folder` is where commands run."""
        self._history = history
        self._people = people
        self._folder = folder
        self._run_hook = run
        self._delivery_patience = delivery_patience
        self._now = now
        self._falls: asyncio.Queue[Fall] = asyncio.Queue()
        self._newest: Fall | None = None
        self._hooks: list[HookResult] = []
        self._last = _last(history.recent(_EVERYTHING))

    def __repr__(self) -> str:
        return f"<Aftermath waiting={self._falls.qsize()} {self._newest and self._newest.stopwatch}>"

    @property
    def last(self) -> Outcome | None:
        """The newest rollback or emergency that took the rollout back; None where there was none."""
        fall = self._newest
        if fall is None or (self._last is not None and self._last.line is fall.line):
            return self._last
        return Outcome(fall.line, fall.stopwatch.document(), [asdict(hook) for hook in self._hooks], False)

    def tell(self, notify: Notify) -> None:
        """Tell people what the rollout wants them to know; said in the log whatever its level."""
        logs.audit("notice", severity=notify.severity.value, title=notify.title, text=notify.text)
        notice = happened(notify.severity, notify.title, notify.text, self._now(), notify.advice)
        self._people.tell(notice)

    def begin(self, line: Event, stopwatch: Stopwatch, hooks: Sequence[Hook]) -> Fall:
        """Have what follows a fall done. Never waits.

        The fall's line says whether anything follows: there may be neither hooks nor channels.
        """
        follows = bool(hooks) or self._people.reaches_anybody()
        line = replace(line, evidence={**line.evidence, "hooks": len(hooks), "followed_up": follows})
        fall = Fall(line, stopwatch, tuple(hooks), asyncio.Event())
        if follows:
            self._follow(fall)
        else:
            self._last = Outcome(line, _times(line.evidence), (), True)
        return fall

    def _follow(self, fall: Fall) -> None:
        self._newest = fall
        self._hooks = []
        self._falls.put_nowait(fall)

    def resume(self, hooks: Sequence[Hook], *, told: bool) -> None:
        """Take up the newest fall where an earlier control process did not come to its end.

        `told`: the supervisor outlived that one, and has what it had to say.
        """
        last = self._last
        if last is not None and not last.over and self._now() - last.line.at < CUT_OFF_WITHIN:
            stopwatch = Stopwatch()
            stopwatch.note("cut off", "the control process ended before hooks and record were through")
            fall = Fall(last.line, stopwatch, tuple(hooks), asyncio.Event())
            fall.written.set()
            if not told:
                self.tell(_told_late(last.line))
            self._follow(fall)

    async def run(self) -> None:
        """For ever: the hooks of one fall after the other, and the record of each as soon as it can be."""
        async with asyncio.TaskGroup() as aside:
            while True:
                fall = await self._falls.get()
                delivered = aside.create_task(self._see_delivered(fall.stopwatch))
                results = await self._run_hooks(fall)
                aside.create_task(self._finish(fall, results, delivered))

    async def _finish(self, fall: Fall, results: Sequence[HookResult], delivered: Awaitable[None]) -> None:
        await delivered
        await fall.written.wait()
        line, at = fall.line, self._now()
        followed = {
            "of": line.type.value,
            "number": line.evidence.get("number"),
            **fall.stopwatch.document(),
            "hooks": [asdict(result) for result in results],
        }
        steps = Event(at, EventType.ROLLBACK_STEPS, GATEWAY, line.reason, line.digest, evidence=followed)
        self._history.append(steps)
        if fall is self._newest:
            self._last = Outcome(line, fall.stopwatch.document(), followed["hooks"], True)
        self._people.tell(_record(line, followed, at))

    async def _run_hooks(self, fall: Fall) -> list[HookResult]:
        results = []
        async for result in run_hooks(fall.hooks, self._folder, self._run_hook):
            results.append(result)
            if fall is self._newest:
                self._hooks.append(result)
            step = f"hook {len(results)}: {result.name}"
            fall.stopwatch.note(step, "" if result.succeeded else result.detail)
        return results

    async def _see_delivered(self, stopwatch: Stopwatch) -> None:
        delivered = await self._people.drained(self._delivery_patience)
        stopwatch.note("notifications", "" if delivered else "not all of them have arrived yet")


_EVERYTHING = 1_000_000


def _last(events: Sequence[Event]) -> Outcome | None:
    """The newest fall that is known, and what its record said."""
    for place in range(len(events) - 1, -1, -1):
        line = events[place]
        if line.type in _FALLS and "followed_up" in line.evidence:
            steps = _steps_of(line, events[place:])
            if steps is None:
                return Outcome(line, _times(line.evidence), (), not line.evidence["followed_up"])
            return Outcome(line, _times(steps), steps.get("hooks", ()), True)
    return None


def _steps_of(line: Event, later: Iterable[Event]) -> Mapping[str, Any] | None:
    number = line.evidence.get("number")
    for event in later:
        if event.type is EventType.ROLLBACK_STEPS and event.evidence.get("number") == number:
            return event.evidence
    return None


def _times(evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: evidence[name] for name in ("seconds", "failed") if name in evidence}


def _record(line: Event, followed: Mapping[str, Any], at: float) -> Notice:
    failed = followed.get("failed", {})
    steps = "; ".join(
        f"{step} after {seconds:.3f} s" + (f" (failed: {failed[step]})" if step in failed else "")
        for step, seconds in followed["seconds"].items()
    )
    details = {**line.evidence, **followed}
    return record(_title(line), f"{_circumstances(line)}. {steps}", at, line.at, details)


def _told_late(line: Event) -> Notify:
    text = f"{_circumstances(line)}. The gateway was restarted before this was known to have been told"
    return Notify(Severity.CRITICAL, f"{_title(line)}, everything to control", text, AFTER_FALL)


def _title(line: Event) -> str:
    moved = f" to {line.target}" if line.target != line.origin else ""
    return f"{line.type.value}: {line.origin}{moved}"


def _circumstances(line: Event) -> str:
    """When, who and why."""
    return f"{timestamp(line.at)}, by {line.operator}: {line.reason or 'no reason given'}"


_HOOK_SHOWN = ("name", "succeeded", "detail", "seconds")
"""What `status` says of a hook; what it printed is in the history."""


def view(outcome: Outcome | None) -> Document | None:
    """The last rollback as `status` shows it; None where there was none."""
    if outcome is None:
        return None
    line, times = outcome.line, outcome.times
    failed = times.get("failed", {})
    return {
        "type": line.type.value,
        "at": timestamp(line.at),
        "operator": line.operator,
        "reason": line.reason,
        "from": line.origin,
        "to": line.target,
        "evidence": dict(line.evidence),
        "steps": [
            {"step": step, "seconds": seconds, "failed": failed.get(step)}
            for step, seconds in times.get("seconds", {}).items()
        ],
        "hooks": [{name: hook[name] for name in _HOOK_SHOWN} for hook in outcome.hooks],
        "over": outcome.over,
    }
