"""Ticks of many workers become one stream: nothing lost, nothing doubled, in order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.folding import MOST_TAKEN, Fold, Progress, Tick
from gateway.core.sums import Profile
from gateway.model.codec import decode, encode
from gateway.model.observation import Observation, Outcome, TickReport, TickReports
from gateway.model.scores import Score
from gateway.model.snapshot import Arm
from gateway.model.ticks import (
    LEAST_QUARTER,
    QUARTERS,
    Counts,
    bucket_of,
    log_latency,
    pack,
    quarter_of,
    tick_of,
    unpack,
)
from gateway.proxy.tally import Tally
from gateway.proxy.ticks import SLACK
from tests.support.counting import SNAPSHOT, Clock, CountingWorker, response
from tests.support.examples import examples

HEAD_LIMIT, SETTLE_LIMIT = 62_000, 301_000
TREATMENT, CONTROL = Arm.TREATMENT, Arm.CONTROL

FATES = ("ok", "error", "reset", "missing", "truncated", "left", "refused")


@dataclass(frozen=True)
class Request:
    """When it starts (half seconds), its head comes and it ends (half seconds later), and how."""

    start: int
    head: int
    end: int
    arm: Arm
    fate: str
    worker: int


requests = st.builds(
    Request,
    start=st.integers(0, 20),
    head=st.integers(0, 6),
    end=st.integers(0, 12),
    arm=st.sampled_from(list(Arm)),
    fate=st.sampled_from(FATES),
    worker=st.integers(0, 3),
)
deliveries = st.lists(st.sampled_from((0, 1, 1, 2)), min_size=8, max_size=40)
"""How often each report arrives, in turns: lost, once, twice."""

WITH_HEAD = {"ok": 200, "error": 503, "missing": 404, "truncated": 200}
OUTCOMES = {
    "ok": Outcome.OK,
    "error": Outcome.UPSTREAM_ERROR,
    "missing": Outcome.OK,
    "truncated": Outcome.TRUNCATED,
    "reset": Outcome.RESET,
    "left": Outcome.CLIENT_CLOSED,
    "refused": Outcome.REJECTED,
}


def play(stream: list[Request], workers: int, arrivals: list[int]) -> tuple[list[Tick], list[Tick]]:
    """Serve a stream; the ticks that closed and that settled."""
    clock = Clock()
    begin = clock.at
    team = [CountingWorker(clock, pid) for pid in range(workers)]
    fold = Fold()
    tallies: dict[int, Tally] = {}
    closed: list[Tick] = []
    settled: list[Tick] = []
    turn = 0
    for half in range(58):
        clock.at = begin + half / 2
        for number, request in enumerate(stream):
            if request.start == half:
                tallies[number] = team[request.worker % workers].start(request.arm)
            head = response(WITH_HEAD[request.fate]) if request.fate in WITH_HEAD else None
            if request.start + request.head == half and head is not None:
                tallies[number].answer(head, False)
            if request.start + request.head + request.end == half:
                tallies[number].end(head, OUTCOMES[request.fate], False, 0.5 + request.end, 0.5)
        if half % 2:
            continue
        arrived: list[Observation] = []
        for worker in team:
            report = decode(Observation, encode(worker.report()))
            turn += 1
            # At the end everything arrives: lost is what came too late so far.
            arrived += [report] * (arrivals[turn % len(arrivals)] if half < 44 else 1)
        fold.take(arrived, range(workers))
        progress = fold.advance(round(clock.at * 1000), HEAD_LIMIT, SETTLE_LIMIT)
        closed += progress.closed
        settled += progress.settled
    return closed, settled


def totals(ticks: Iterable[Tick]) -> dict[str, dict[str, object]]:
    """Sums by arm, latencies and all."""
    arms = {arm.label: Profile() for arm in Arm}
    for tick in ticks:
        for series, counts in tick.counts.items():
            arms[series.arm].count(counts)
    return {arm: {**profile.numbers(), "latencies": profile.latencies} for arm, profile in arms.items()}


def expected(stream: list[Request], arm: Arm) -> dict[str, int]:
    """What the fates amount to, counted by hand."""
    fates = Counter(request.fate for request in stream if request.arm is arm)
    return {
        "started": fates.total(),
        "answered": fates.total() - fates["left"] - fates["refused"],
        "errors": fates["error"] + fates["reset"],
        "client_errors": fates["missing"],
        "truncated": fates["truncated"],
        "successes": fates["ok"],
    }


@examples(25)
@given(st.lists(requests, max_size=25), st.integers(2, 4), deliveries)
def test_any_split_over_workers_with_lost_and_repeated_reports_gives_equal_sums(
    stream: list[Request], workers: int, arrivals: list[int]
) -> None:
    """Counts are cumulative in their tick: one worker and a perfect link, or many and a bad one."""
    _, alone = play(stream, 1, [1])
    closed, settled = play(stream, workers, arrivals)
    assert totals(settled) == totals(alone)
    for arm in Arm:
        found = totals(settled)[arm.label]
        assert {name: found[name] for name in expected(stream, arm)} == expected(stream, arm)
        heads = totals(closed)[arm.label]
        assert [heads[name] for name in ("started", "answered", "errors", "client_errors")] == [
            found[name] for name in ("started", "answered", "errors", "client_errors")
        ]


@examples(15)
@given(st.lists(requests, max_size=25), deliveries)
def test_ticks_close_and_settle_once_and_in_order(stream: list[Request], arrivals: list[int]) -> None:
    """Whoever folds them sees time go forward."""
    for ticks in play(stream, 3, arrivals):
        beginnings = [tick.at for tick in ticks]
        assert beginnings == sorted(set(beginnings))


class Scene:
    """One or two workers, a fold, and a clock."""

    def __init__(self, workers: int = 1) -> None:
        self.clock = Clock()
        self.workers = [CountingWorker(self.clock, pid) for pid in range(workers)]
        self.worker = self.workers[0]
        self.fold = Fold()
        self.live = set(range(workers))

    def after(self, seconds: float, silent: Iterable[int] = ()) -> Progress:
        """Let time pass; all live workers but the `silent` ones report, then the fold advances."""
        self.clock.at += seconds
        speaking = [one for one in self.workers if one.pid in self.live and one.pid not in silent]
        self.fold.take([worker.report() for worker in speaking], self.live)
        return self.fold.advance(round(self.clock.at * 1000), HEAD_LIMIT, SETTLE_LIMIT)


def sums(ticks: Iterable[Tick], arm: Arm = TREATMENT) -> tuple[int, int, int]:
    """Started, answered, errors."""
    found = totals(ticks)[arm.label]
    return found["started"], found["answered"], found["errors"]  # type: ignore[return-value]


def test_a_tick_waits_for_the_head_of_every_request_that_started_in_it() -> None:
    """Fast failures are not judged before the slow successes beside them."""
    scene = Scene()
    scene.worker.serve(TREATMENT, 3, status=500)
    slow = scene.worker.start(TREATMENT)
    progress = scene.after(10)
    assert (progress.closed, progress.settled) == ((), ())
    slow.answer(response(), False)
    progress = scene.after(1)
    assert sums(progress.closed) == (4, 4, 3)
    assert progress.settled == ()


def test_quarters_that_are_open_can_be_looked_at() -> None:
    """As they stand, oldest first: what is not in them is sure to be in one that closed."""
    scene = Scene()
    scene.worker.serve(TREATMENT, 3)
    assert sums(scene.after(1).closed) == (3, 3, 0)
    slow = scene.worker.start(TREATMENT)
    scene.worker.serve(TREATMENT, 2, status=500)
    assert scene.after(1).closed == ()
    scene.worker.serve(TREATMENT, 4)
    assert scene.after(1).closed == ()
    (second, third) = scene.fold.open_heads()
    assert sums([second]) == (3, 2, 2)
    assert sums([third]) == (4, 4, 0)
    slow.answer(response(), False)
    scene.after(1)
    assert list(scene.fold.open_heads()) == []


def test_later_ticks_wait_for_the_ones_before() -> None:
    """In order: a tick that is complete does not overtake one that is not."""
    scene = Scene()
    slow = scene.worker.start(CONTROL)
    scene.clock.at += 1
    scene.worker.serve(TREATMENT)
    assert scene.after(5).closed == ()
    slow.answer(response(), False)
    assert len(scene.after(1).closed) == 2


def test_a_head_that_never_comes_is_given_up_at_the_limit() -> None:
    """Then the request is neither good nor bad, and what it becomes later adds nothing."""
    scene = Scene()
    scene.worker.serve(TREATMENT, 2)
    hung = scene.worker.start(TREATMENT)
    assert scene.after(HEAD_LIMIT / 1000 - 1).closed == ()
    closed = scene.after(2).closed
    assert sums(closed) == (3, 2, 0)
    hung.end(None, Outcome.TIMEOUT, False, 70.0, 0.05)
    assert scene.after(1).closed == ()


def test_an_open_stream_is_not_cut_short_after_the_settling_time() -> None:
    """A tick settles at its limit at the latest, with what is known then."""
    scene = Scene()
    stream = scene.worker.start(TREATMENT)
    stream.answer(response(), False)
    assert sums(scene.after(3).closed) == (1, 1, 0)
    assert scene.after(SETTLE_LIMIT / 1000 - 5).settled == ()
    settled = scene.after(3).settled
    assert sums(settled) == (1, 1, 0)
    stream.end(response(), Outcome.TRUNCATED, False, 400.0, 0.05)
    assert scene.after(1).settled == ()


def test_the_running_tick_is_open_and_so_is_its_running_quarter() -> None:
    """Requests may still start in them."""
    scene = Scene()
    scene.worker.serve(TREATMENT)
    assert scene.after(0).closed == ()
    assert scene.after(0.24).closed == ()
    progress = scene.after(0.01)
    assert (sums(progress.closed), progress.settled) == ((1, 1, 0), ())
    assert scene.after(0.74).settled == ()
    assert sums(scene.after(0.01).settled) == (1, 1, 0)


def test_each_quarter_of_a_tick_closes_for_itself() -> None:
    """What went well at its beginning is judged apart from what failed at its end."""
    scene = Scene()
    scene.worker.serve(TREATMENT, 5)
    scene.clock.at += 0.25
    scene.worker.serve(TREATMENT, 2)
    slow = scene.worker.start(TREATMENT)
    scene.clock.at += 0.25
    scene.worker.serve(TREATMENT, 4, status=500)
    assert [sums([tick]) for tick in scene.after(0.25).closed] == [(5, 5, 0)]
    slow.answer(response(), False)
    assert [sums([tick]) for tick in scene.after(0).closed] == [(3, 3, 0), (4, 4, 4)]


@given(st.floats(0.1, 100.0), st.floats(0.0, 1e6))
def test_a_quarter_lies_in_one_tick_and_quarters_leave_no_gap(interval: float, at: float) -> None:
    """Whatever the length of a tick: heads and ticks count the same requests."""
    interval = round(interval, 3)
    begin, end = quarter_of(at, interval)
    tick, length = tick_of(at, interval), round(interval * 1000)
    assert tick <= begin <= int(at * 1000) < end <= tick + length
    assert end == tick + length or quarter_of(end / 1000 + 1e-6, interval)[0] == end
    assert end - begin <= max(LEAST_QUARTER, -(-length // QUARTERS))


def test_a_report_amid_a_tick_does_not_end_it() -> None:
    """What starts after it, in the same tick, counts as well."""
    scene = Scene()
    scene.worker.serve(TREATMENT)
    scene.after(0.3)
    scene.worker.serve(TREATMENT)
    assert sums(scene.after(4).settled) == (2, 2, 0)


def test_a_worker_that_has_not_reported_holds_the_tick_open() -> None:
    """It may know of requests that nobody else does."""
    scene = Scene(2)
    scene.after(0)
    scene.worker.serve(TREATMENT)
    scene.workers[1].serve(CONTROL)
    assert scene.after(5, silent=[1]).closed == ()
    assert sums(scene.after(1).closed, CONTROL) == (1, 1, 0)


def test_a_worker_that_has_not_spoken_yet_holds_the_tick_open() -> None:
    """It was started a moment ago, or this control process was."""
    scene = Scene(2)
    scene.worker.serve(TREATMENT)
    assert scene.after(5, silent=[1]).closed == ()
    assert sums(scene.after(1).closed) == (1, 1, 0)


def test_a_worker_that_never_speaks_again_holds_nothing_up_for_ever() -> None:
    """At the limit ticks close without it."""
    scene = Scene(2)
    scene.after(0)
    scene.worker.serve(TREATMENT)
    assert sums(scene.after(HEAD_LIMIT / 1000 + 1, silent=[1]).closed) == (1, 1, 0)


def test_what_a_dead_worker_left_open_is_withdrawn_in_both_arms() -> None:
    """Its outcomes count, its open requests do not, and nothing waits for them."""
    scene = Scene(2)
    for arm in Arm:
        scene.workers[1].start(arm)
        scene.workers[1].serve(arm, 2, status=500)
    assert scene.after(5).closed == ()
    scene.live = {0}
    progress = scene.after(1)
    for arm in Arm:
        assert sums(progress.closed, arm) == (3, 2, 2)
        assert sums(progress.settled, arm) == (3, 2, 2)


def test_nobody_waits_any_more_in_a_dead_worker() -> None:
    """Its open requests are over in the ticks as they stand, too: they must not pass for slow ones."""
    scene = Scene(2)
    scene.worker.serve(TREATMENT)
    scene.worker.start(CONTROL)
    scene.workers[1].start(TREATMENT)
    scene.after(0)
    scene.live.remove(1)
    scene.after(5)
    (tick,) = scene.fold.standing()
    open_ones = {series.arm: counts.started - counts.ended for series, counts in tick.counts.items()}
    assert open_ones == {"treatment": 0, "control": 1}
    assert list(scene.fold.standing(tick.at + 1)) == []


def test_last_words_of_a_dead_worker_count() -> None:
    """Its last report may be read after it was seen dead."""
    scene = Scene(2)
    scene.after(0)
    scene.workers[1].serve(TREATMENT, 2)
    words = scene.workers[1].report()
    scene.live = {0}
    scene.fold.take([words], scene.live)
    assert sums(scene.after(4).settled) == (2, 2, 0)


def test_dead_workers_are_forgotten_and_their_repeated_reports_add_nothing() -> None:
    """A hundred deaths leave nothing behind."""
    scene = Scene(100)
    words = []
    counted = 0
    for pid in range(100):
        scene.live = {pid}
        scene.workers[pid].serve(TREATMENT, 2)
        words = [*words[-8:], scene.workers[pid].report()]
        scene.fold.take(words, scene.live)
        counted += sums(scene.after(4).settled)[0]
    assert counted == 200
    assert repr(scene.fold).startswith("<Fold workers=1 ")


@pytest.mark.slow
def test_ticks_that_could_not_be_told_are_told_before_they_count_as_complete() -> None:
    """A report of quarters after one that did not leave: else control settled past what it never got."""
    scene = Scene()
    scene.after(0)
    worker = scene.worker
    worker.ticks.sent()
    worker.serve(TREATMENT, 7)
    scene.clock.at += 1
    worker.report()  # its packet finds no room
    scene.clock.at += 0.25
    known = worker.report(of_quarters=True)
    worker.ticks.sent()
    scene.fold.take([known], scene.live)
    progress = scene.fold.advance(round(scene.clock.at * 1000), HEAD_LIMIT, SETTLE_LIMIT)
    assert sums(progress.settled) == (7, 7, 0)


def test_old_ticks_that_wait_to_be_taken_in_are_not_given_up() -> None:
    """After a restart there are hundreds, and those of one worker may come looks after another's."""
    scene = Scene(2)
    number = 4 * MOST_TAKEN
    for _ in range(number):
        for worker in scene.workers:
            worker.serve(TREATMENT)
        scene.clock.at += 1
    scene.clock.at += SETTLE_LIMIT / 1000 - 10
    reports = [worker.report() for worker in scene.workers]
    settled: list[Tick] = []
    while True:
        scene.fold.take(reports, scene.live)
        settled += scene.fold.advance(round(scene.clock.at * 1000), HEAD_LIMIT, SETTLE_LIMIT).settled
        if not scene.fold.behind:
            break
    assert sums(settled) == (2 * number, 2 * number, 0)


def test_a_tick_of_ten_minutes_loses_no_request() -> None:
    """Its first ones are not forgotten before its last ones can be over."""
    scene, tick = Scene(), 600_000
    scene.worker.follow(replace(SNAPSHOT, tick=tick / 1000))
    closed: list[Tick] = []
    settled: list[Tick] = []
    for second in range(0, 1900, 50):
        if 600 <= second < 1200:
            scene.worker.serve(TREATMENT)
        scene.clock.at += 50
        scene.fold.take([scene.worker.report()], scene.live)
        now = round(scene.clock.at * 1000)
        progress = scene.fold.advance(now, HEAD_LIMIT + tick, SETTLE_LIMIT + tick)
        closed += progress.closed
        settled += progress.settled
    assert sums(closed) == sums(settled) == (12, 12, 0)


def test_a_worker_forgets_what_is_long_settled() -> None:
    """Its reports do not grow with its age."""
    scene = Scene()
    sizes = []
    for _ in range(800):
        scene.worker.serve(TREATMENT)
        scene.worker.serve(CONTROL)
        scene.after(1)
        sizes.append(len(scene.worker.report().ticks.ticks))
    assert max(sizes) <= SETTLE_LIMIT / 1000 + SLACK + 2
    assert sizes[-1] == max(sizes)


@pytest.mark.slow
def test_a_worker_forgets_the_series_of_former_snapshots() -> None:
    """A thousand publications later it knows no more series than at first."""
    scene = Scene()
    for version in range(2, 1000):
        scene.worker.follow(replace(SNAPSHOT, version=version))
        scene.worker.serve(TREATMENT)
        scene.after(1)
    report = scene.worker.report().ticks
    assert len(report.series) == len(report.ticks)
    assert len(report.series) <= SETTLE_LIMIT / 1000 + SLACK + 2


@pytest.mark.slow
def test_a_report_stays_small() -> None:
    """At 200 requests a second of every latency, a whole report is under 700 kilobytes."""
    scene = Scene()
    for quarter in range(345 * QUARTERS):
        for number in range(200 // QUARTERS):
            scene.worker.serve(CONTROL, seconds=0.05 * 1.004 ** ((number * 7 + quarter) % 900))
        scene.after(1 / QUARTERS)
    assert len(encode(scene.worker.report())) < 700_000


def test_a_tick_that_grows_longer_never_reopens_one_that_was_reported() -> None:
    """A reload may change the tick: what was reported as complete stays complete."""
    scene = Scene()
    scene.clock.at += 8.5
    scene.after(0)
    through = scene.worker.report().ticks.through
    scene.worker.follow(replace(SNAPSHOT, version=2, tick=10.0))
    scene.worker.serve(TREATMENT, 3)
    report = scene.worker.report().ticks
    assert report.through >= through
    assert all(tick.at >= through for tick in report.ticks)
    assert sums(scene.after(15).settled) == (3, 3, 0)


buckets = st.dictionaries(st.integers(0, 4000), st.integers(1, 10**9))
numbers = st.floats(-1e12, 1e12)
scores = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    st.builds(Score, st.integers(0, 10**9), numbers, numbers),
)


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(0, 10**9), min_size=8, max_size=8),
    st.tuples(buckets, buckets, buckets),
    scores,
)
def test_packing_is_undone_by_unpacking(
    series: int, numbers: list[int], counted: tuple[dict[int, int], ...], scores: dict[str, Score]
) -> None:
    """Counts travel as text and come back equal, to the last bit."""
    *fixed, failed_over = numbers
    counts = Counts(*fixed, *counted, scores, failed_over)
    assert " " not in pack(series, counts)
    assert unpack(pack(series, counts)) == (series, counts)


@pytest.mark.parametrize(
    "junk", ["", "1,2", "a", "1,2,3,4,5,6,7,8,9", "1,2,3,4,5,6,7,8,9;1;;;", "1,2,3,4,5,6,7,8,9;;;;a,1"]
)
def test_junk_is_no_tick(junk: str) -> None:
    """Foreign text raises; it never becomes numbers."""
    with pytest.raises((ValueError, TypeError)):
        unpack(junk)


@given(st.floats(1e-5, 1e5))
def test_a_latency_is_known_to_a_quarter_of_a_percent(seconds: float) -> None:
    """The middle of its bucket is that near."""
    assert math.exp(log_latency(bucket_of(seconds))) == pytest.approx(seconds, rel=0.0026)


steps = st.lists(
    st.tuples(
        st.sampled_from(("start", "end", "quarter", "second", "long", "anew")),
        st.sampled_from((True, True, False)),
        st.booleans(),
    ),
    max_size=60,
)


@given(steps)
def test_reports_of_what_changed_add_up_to_whole_ones(steps: list[tuple[str, bool, bool]]) -> None:
    """Whichever of them left or was of quarters alone, and whenever everything has to be told anew."""
    clock = Clock()
    teller, witness = CountingWorker(clock, 1), CountingWorker(clock, 2)
    known: TickReports | None = None
    open_requests: list[tuple[Tally, Tally]] = []
    for step, leaves, of_quarters in steps:
        match step:
            case "start":
                open_requests.append((teller.start(TREATMENT), witness.start(TREATMENT)))
            case "end" if open_requests:
                for tally in open_requests.pop():
                    tally.end(None, Outcome.RESET, False, 1.0, 0.0)
            case "quarter":
                clock.at += 0.25
            case "second":
                clock.at += 1.0
            case "long":
                clock.at += 200.0
            case "anew":
                teller.ticks.begin_anew()
                known = None
        told, whole = teller.ticks.report(of_quarters=of_quarters), witness.ticks.report()
        if leaves:
            teller.ticks.sent()
            known = told.after(known or told)
            assert texts(known.heads) == texts(whole.heads)
            assert known.heads_through == whole.heads_through
            if told.whole or not of_quarters:
                assert (known.through, texts(known.ticks)) == (whole.through, texts(whole.ticks))
                assert known.series == whole.series


def texts(ticks: Iterable[TickReport]) -> dict[int, str]:
    """The counts by their tick."""
    return {tick.at: tick.counts for tick in ticks}


def test_a_report_of_quarters_says_nothing_of_ticks() -> None:
    """Neither their counts nor that they are complete: else what is left out would be lost."""
    scene = Scene()
    scene.after(0)
    worker = scene.worker
    worker.ticks.sent()
    worker.serve(TREATMENT, 3)
    scene.clock.at += 1.25
    report = worker.report(of_quarters=True).ticks
    assert (report.ticks, report.through, report.at) == ((), 1_000_000, 1_000_000)
    assert [tick.at for tick in report.heads] == [1_000_000]
    worker.ticks.sent()
    assert sums(scene.after(0).settled) == (3, 3, 0)


def test_a_report_of_changes_leaves_out_what_stands() -> None:
    """Thousands of requests of the last minutes are not told again each second."""
    clock = Clock()
    worker = CountingWorker(clock, 1)
    for _ in range(100):
        worker.serve(TREATMENT, 5)
        clock.at += 1.0
        worker.ticks.report()
        worker.ticks.sent()
    worker.serve(TREATMENT, 1)
    assert len(worker.ticks.report().ticks) == 1
