"""The demo's story: told in order, each step waiting for what it wants to show."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.demo.faults import HEALTHY, Behaviour, Fault, FaultKind
from gateway.demo.picture import Guide
from gateway.demo.play import Options, Play
from gateway.demo.readings import Latch, Metrics, Reading, Status
from gateway.demo.scenarios import OVER, SCENARIOS, Heal, Scenario, Step, Verb
from gateway.model.snapshot import Arm
from tests.support.polling import soon

QUIET = Status("canary", 20.0, Latch(), (1,), 0, 0, "aa", "")
ERRORS = Fault(Arm.TREATMENT, FaultKind.ERRORS, 0.5, 0.0)


class Operated:
    """An admin API that does what it is told, and shows it."""

    def __init__(self, *refused: str) -> None:
        self.status = QUIET
        self.asked: list[str] = []
        self._refused = refused

    async def read_status(self) -> Reading:
        return Reading(self.status, Metrics())

    async def read(self) -> Reading:
        return await self.read_status()

    async def write(self, path: str, reason: str) -> bool:
        self.asked.append(path)
        if path == Verb.EMERGENCY:
            self.status = replace(self.status, latch=Latch(True, "emergency", reason, "demo"))
        return path not in self._refused


def play(admin: Operated, *steps: Step) -> tuple[Play, list[dict[Arm, Behaviour]]]:
    """A play of these steps, and what its pipelines are told."""
    told: list[dict[Arm, Behaviour]] = []
    scenario = Scenario("test", "a test", "", steps)
    guide = Guide("", "", "", "", "")
    options = Options(None, 1.0, (), scenario)
    return Play(options, guide, admin, lambda behaviours: told.append(dict(behaviours)), lambda: 0), told


async def until(play: Play, done: Callable[[], bool]) -> None:
    """Run the play until something holds."""
    running = asyncio.create_task(play.run())
    await soon(done, patience=10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def words(play: Play) -> list[str]:
    return [event.change.text for event in play.events]


async def test_a_story_is_told_in_its_order() -> None:
    """What is said, done and healed comes as it is written, and the end is said."""
    steps = (
        Step("first", (Verb.ADVANCE,), rests=0),
        Step("second", (ERRORS,), rests=0),
        Step("third", (Heal.HEAL,), rests=0),
    )
    admin = Operated()
    played, told = play(admin, *steps)
    await until(played, lambda: OVER in words(played))
    assert admin.asked == [Verb.ADVANCE]
    assert [one[Arm.TREATMENT] for one in told] == [HEALTHY.with_fault(ERRORS), HEALTHY]
    assert words(played) == [
        "1/3  first",
        "2/3  second",
        "fault played: treatment errors 50%",
        "3/3  third",
        "pipelines healed",
        OVER,
    ]


async def test_a_step_waits_for_what_it_wants_to_show() -> None:
    """The next words come once the gateway's status says so."""
    looks: list[bool] = []

    def engaged(status: Status) -> bool:
        looks.append(status.latch.engaged)
        return looks[-1]

    waits = Step("waits", (), engaged, rests=0)
    admin = Operated()
    played, _ = play(admin, waits, Step("after", rests=60))
    running = asyncio.create_task(until(played, lambda: "2/2  after" in words(played)))
    await soon(lambda: len(looks) > 1)
    assert "2/2  after" not in words(played)
    await admin.write(Verb.EMERGENCY, "now")
    await running


async def test_a_story_goes_on_without_what_never_comes() -> None:
    """Patience ends: a demo that is watched does not stand still for ever."""
    never = Step("never", (), lambda status: False, rests=0, patience=0.05)
    played, _ = play(Operated(), never)
    await until(played, lambda: OVER in words(played))


async def test_what_the_gateway_refuses_is_said() -> None:
    """A refusal is among the events, and the story goes on."""
    played, _ = play(Operated(Verb.ADVANCE), Step("tries", (Verb.ADVANCE,), rests=0))
    await until(played, lambda: OVER in words(played))
    assert "the gateway refused: rollout/advance" in words(played)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_every_scenario_can_be_read_on_one_line(scenario: Scenario) -> None:
    """The words fit a screen of a usual width, with their number before them."""
    assert all(len(step.says) <= 95 for step in scenario.steps)
