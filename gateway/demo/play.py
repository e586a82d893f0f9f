"""The demo while it runs: watches the gateway, injects the faults, and gives a picture at any moment.

It does not start or end processes (`demo.session`), and does not draw (`demo.view`, `demo.lines`).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.demo.faults import HEALTHY, Behaviour, Fault, FaultKind
from gateway.demo.picture import Event, Guide, Picture
from gateway.demo.readings import NOTHING_READ, Admin, Change, Severity, changes, split_changed
from gateway.demo.scenarios import OVER, SANDBOX, Act, Heal, Scenario, Step, Verb
from gateway.demo.tally import CURVE_SECONDS, Tally
from gateway.model.snapshot import Arm

_STATUS_EVERY = 0.25
_METRICS_EVERY = 4  # looks at the status
_EVENTS_KEPT = 200
_LOOK_EVERY = 0.2
_KEY_FAULTS = (
    (FaultKind.ERRORS, 0.3),
    (FaultKind.LATENCY, 4.0),
    (FaultKind.TRUNCATE, 0.3),
    (FaultKind.RESET, 0.3),
    (FaultKind.HANG, 0.2),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for. `duration` in seconds, `rate` in requests per second."""

    duration: float | None
    rate: float
    faults: tuple[Fault, ...]
    scenario: Scenario = SANDBOX


class Play:
    """All that changes while the demo runs.

    `behave` hands new behaviours to the pipelines; `measure_memory` gives the gateway's resident bytes.
    """

    def __init__(
        self,
        options: Options,
        guide: Guide,
        admin: Admin,
        behave: Callable[[dict[Arm, Behaviour]], None],
        measure_memory: Callable[[], int],
    ) -> None:
        self.keys = False
        """True while single keys are listened to."""
        self.quit = asyncio.Event()
        """Set by the key that ends the demo."""
        self.events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._started_at = time.monotonic()
        self.tally = Tally(self._started_at)
        self._options = options
        self._guide = guide
        self._admin = admin
        self._behave = behave
        self._measure_memory = measure_memory
        self._memory = 0
        self._behaviours = dict.fromkeys(Arm, HEALTHY)
        self._reading = NOTHING_READ
        self._key_faults = itertools.cycle(_KEY_FAULTS)
        self._asked: set[asyncio.Task[None]] = set()
        self._told = ""

    def note(self, change: Change) -> None:
        """Put a change among the events, now."""
        self.events.append(Event(time.monotonic() - self._started_at, change))

    async def run(self) -> None:
        """Watch the gateway, tell the story and play the command line's faults, until cancelled."""
        await asyncio.gather(self._watch(), self._tell(), self._play_faults())

    async def look(self) -> None:
        """Read the gateway's status and metrics once."""
        self._reading = await self._admin.read()
        self._memory = self._measure_memory()

    def press(self, key: str) -> None:
        """Do what a key means; unknown keys mean nothing."""
        match key:
            case "e":
                self._ask(Verb.EMERGENCY, "key pressed")
            case "r":
                self._ask(Verb.RELEASE, "key pressed")
            case "f":
                kind, value = next(self._key_faults)
                self._behaviours[Arm.TREATMENT] = HEALTHY
                self._play(Fault(Arm.TREATMENT, kind, value, 0.0))
            case "h":
                self._heal()
            case "q":
                self.quit.set()

    def picture(self) -> Picture:
        """This moment."""
        now = time.monotonic()
        return Picture(
            guide=self._guide,
            elapsed=now - self._started_at,
            duration=self._options.duration,
            rate=self._options.rate,
            reading=self._reading,
            figures=self.tally.figures(now),
            curves={arm: self.tally.curve(arm, now, CURVE_SECONDS) for arm in Arm},
            overall_shares={arm: self.tally.overall_share(arm) for arm in Arm},
            users=self.tally.users,
            movers=self.tally.movers,
            unanswered=self.tally.unanswered,
            events=tuple(self.events),
            recent=tuple(self.tally.recent),
            behaviours=dict(self._behaviours),
            memory=self._memory,
            keys=self.keys,
            told=self._told,
        )

    async def _watch(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(_STATUS_EVERY)
            before = self._reading
            if number % _METRICS_EVERY == 0:
                await self.look()
            else:
                self._reading = await self._admin.read_status()
            if split_changed(before, self._reading):
                self.tally.restart_window(time.monotonic())
            for change in changes(before, self._reading):
                self.note(change)

    async def _tell(self) -> None:
        steps = self._options.scenario.steps
        for number, step in enumerate(steps, start=1):
            self._say(f"{number}/{len(steps)}  {step.says}")
            for act in step.acts:
                await self._act(act)
            await self._wait_for(step)
        if steps:
            self._say(OVER)

    def _say(self, words: str) -> None:
        self._told = words
        self.note(Change(words, Severity.TOLD))

    async def _act(self, act: Act) -> None:
        match act:
            case Verb():
                await self._order(act, f"scenario {self._options.scenario.name}")
            case Fault():
                self._play(act)
            case Heal():
                self._heal()

    async def _wait_for(self, step: Step) -> None:
        given_up = time.monotonic() + step.patience
        while step.until is not None and time.monotonic() < given_up:
            status = self._reading.status
            if status is not None and step.until(status):
                break
            await asyncio.sleep(_LOOK_EVERY)
        await asyncio.sleep(step.rests)

    async def _play_faults(self) -> None:
        for fault in sorted(self._options.faults, key=lambda fault: fault.at):
            await asyncio.sleep(self._started_at + fault.at - time.monotonic())
            self._play(fault)

    def _play(self, fault: Fault) -> None:
        self._behaviours[fault.arm] = self._behaviours[fault.arm].with_fault(fault)
        self._behave(self._behaviours)
        self.note(Change(f"fault played: {fault}", Severity.BAD))

    def _heal(self) -> None:
        self._behaviours = dict.fromkeys(Arm, HEALTHY)
        self._behave(self._behaviours)
        self.note(Change("pipelines healed", Severity.GOOD))

    def _ask(self, verb: Verb, reason: str) -> None:
        task = asyncio.create_task(self._order(verb, reason))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _order(self, verb: Verb, reason: str) -> None:
        if not await self._admin.write(verb, reason):
            self.note(Change(f"the gateway refused: {verb}", Severity.BAD))
