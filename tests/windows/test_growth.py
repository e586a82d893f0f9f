"""What is kept in step with open ticks is what adding everything up again would give."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.traffic import ROW_SECONDS, Moment, Strata, Traffic
from gateway.core.folding import MOST_SETTLED, MOST_TAKEN, Fold, Tick, add, growth
from gateway.core.judging import slowdown
from gateway.core.sums import Profile
from gateway.model.observation import Outcome
from gateway.model.scores import Score
from gateway.model.snapshot import Arm
from gateway.model.ticks import Counts, Series
from gateway.proxy.tally import Tally
from tests.support.counting import Clock, CountingWorker, response
from tests.support.examples import examples

TREATMENT = Arm.TREATMENT
HEAD_LIMIT, SETTLE_LIMIT = 20_000, 60_000
LOOK_BACK = 40.0

steps = st.lists(
    st.tuples(
        st.sampled_from(("serve", "open", "end", "cut", "replace", "silence", "look")),
        st.integers(0, 1),
        st.sampled_from(list(Arm)),
        st.sampled_from((0.5, 1.0, 1.0, 7.0)),
    ),
    min_size=5,
    max_size=60,
)


class Scene:
    """Workers that die and are replaced, a fold, and what follows its growth."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.workers = [CountingWorker(self.clock, pid) for pid in range(2)]
        self.reports = {worker.pid: worker.report() for worker in self.workers}
        self.open: list[tuple[int, Tally]] = []
        self.fold = Fold()
        self.settled: list[Tick] = []
        self.grown: dict[int, dict[Series, Counts]] = {}
        self.traffic = Traffic()

    def serve(self, index: int, arm: Arm) -> None:
        """A success, a failure, and a score."""
        worker = self.workers[index]
        worker.serve(arm, 1, seconds=0.1 + worker.pid / 10, scores={"accuracy": 0.3})
        worker.serve(arm, 1, status=500, first=True)

    def begin(self, index: int, arm: Arm) -> None:
        """A stream begins."""
        worker = self.workers[index]
        tally = worker.start(arm)
        tally.answer(response(), False)
        self.open.append((worker.pid, tally))

    def end(self, outcome: Outcome) -> None:
        """The oldest stream of a worker that lives ends."""
        live = {worker.pid for worker in self.workers}
        self.open = [(pid, tally) for pid, tally in self.open if pid in live]
        if self.open:
            self.open.pop(0)[1].end(response(), outcome, False, 3.0, 0.5)

    def replace(self, index: int) -> None:
        """A worker dies, with or without last words."""
        pid = max(self.reports) + 1
        self.workers[index] = CountingWorker(self.clock, pid)

    def report(self, silent: int | None = None) -> None:
        """All workers report, but for one that is silent."""
        for index, worker in enumerate(self.workers):
            if index != silent:
                self.reports[worker.pid] = worker.report()

    def look(self) -> None:
        """Fold what is there; what it says grew goes to whoever follows that."""
        self.fold.take(self.reports.values(), [worker.pid for worker in self.workers])
        progress = self.fold.advance(round(self.clock.at * 1000), HEAD_LIMIT, SETTLE_LIMIT)
        self.settled += progress.settled
        for tick in progress.grown:
            self.traffic.remember((tick.at // 1000, tick.counts), LOOK_BACK)
            sums = self.grown.setdefault(tick.at, {})
            for series, counts in tick.counts.items():
                sums[series] = add(sums[series], counts) if series in sums else counts

    def act(self, what: str, index: int, arm: Arm) -> None:
        """One step of the story."""
        match what:
            case "serve":
                self.serve(index, arm)
            case "open":
                self.begin(index, arm)
            case "end":
                self.end(Outcome.OK)
            case "cut":
                self.end(Outcome.TRUNCATED)
            case "replace":
                self.replace(index)
        if what != "look":
            self.report(index if what == "silence" else None)

    @property
    def known(self) -> list[Tick]:
        """Every tick, as it settled or as it stands."""
        return [*self.settled, *self.fold.standing()]


def from_scratch(ticks: Iterable[Tick], since: float) -> dict[tuple[str, str], Profile]:
    """What `Traffic.recent` says, by adding all of it up."""
    row: dict[tuple[str, str], Profile] = {}
    for _, counts in moments(ticks, since):
        for series, count in counts.items():
            row.setdefault((series.route, series.arm), Profile()).count(count)
    return row


def moments(ticks: Iterable[Tick], since: float) -> Iterable[Moment]:
    """The ticks in the rows of ten seconds from `since` on."""
    for tick in ticks:
        at = tick.at // 1000
        if at - at % ROW_SECONDS + ROW_SECONDS > since:
            yield at, tick.counts


@examples(60)
@given(steps)
def test_growth_adds_up_to_the_ticks_and_to_every_sum_of_them(
    story: list[tuple[str, int, Arm, float]],
) -> None:
    """Whatever comes in whatever order: deaths, silence, streams that end late, many looks or few."""
    scene = Scene()
    for what, index, arm, seconds in story:
        scene.act(what, index, arm)
        scene.clock.at += seconds
        scene.look()
        since = scene.clock.at - LOOK_BACK
        expected, found = from_scratch(scene.known, since), scene.traffic.recent(since)
        assert {key: plain(profile) for key, profile in found.items() if profile.started} == {
            key: plain(profile) for key, profile in expected.items()
        }
        strata = Strata()
        for at, counts in moments(scene.known, since):
            for series, count in counts.items():
                strata.of(at, series.route, series.arm).count(count)
        assert slowdown(scene.traffic.contrast(since)) == pytest.approx(slowdown(strata.contrast()))
    for tick in scene.known:
        assert {series: settled(counts) for series, counts in scene.grown[tick.at].items()} == {
            series: settled(counts) for series, counts in tick.counts.items()
        }


def plain(profile: Profile) -> tuple[object, ...]:
    """A profile, its scores rounded: they were added in another order."""
    numbers = {name: round(value, 6) for name, value in profile.numbers().items()}
    return numbers, profile.latencies, profile.first_bytes


def settled(counts: Counts) -> Counts:
    """Counts with rounded scores."""
    scores = {
        name: Score(score.count, round(score.total, 6), round(score.squares, 6))
        for name, score in counts.scores.items()
    }
    return add(growth(Counts(scores=counts.scores), counts), Counts(scores=scores))


def test_what_changed_at_once_is_taken_in_by_portions() -> None:
    """All streams are cut at once: no look has to take all of it, and nothing is missing in the end."""
    scene = Scene()
    scene.replace(1)
    number = 3 * MOST_TAKEN
    for _ in range(number):
        scene.begin(0, TREATMENT)
        scene.clock.at += 1.0
        scene.report()
        scene.look()
    assert not scene.fold.behind
    oldest = scene.open.pop(0)[1]
    while scene.open:
        scene.end(Outcome.TRUNCATED)
    looks = catch_up(scene)
    assert scene.settled == []
    oldest.end(response(), Outcome.TRUNCATED, False, 3.0, 0.5)
    looks += catch_up(scene)
    assert looks >= number / MOST_TAKEN + number / MOST_SETTLED - 1
    scene.clock.at += 5.0
    scene.report()
    scene.look()
    counts = [count for tick in scene.known for count in tick.counts.values()]
    assert sum(count.truncated for count in counts) == number
    assert len(scene.settled) == number


def catch_up(scene: Scene) -> int:
    """Look until nothing is left of the newest reports; how often that was."""
    scene.report()
    for looks in range(1, 100):
        before = len(scene.settled)
        scene.look()
        assert len(scene.settled) - before <= MOST_SETTLED
        if not scene.fold.behind:
            return looks
    raise AssertionError("it never ends")
