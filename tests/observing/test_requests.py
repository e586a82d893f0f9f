"""What a worker observes of real requests, beyond their counts: firsts, times, reports, records."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from gateway.core.folding import Fold, add
from gateway.latch import LatchKind
from gateway.model.records import NO_OUTCOME, REQUEST, Record
from gateway.model.snapshot import FULL_SHARE, ConnectionLimits, Experiment
from gateway.model.ticks import Counts, Series, log_latency
from tests.support.dataplane import Rig
from tests.support.polling import wait_until
from tests.support.raw import Exchange, Script, answering, echo
from tests.support.snapshots import make_experiment, make_route
from tests.windows.test_counting import BRISK, ask, cut, get, idle, observed, resetting, silent, with_status

pytestmark = pytest.mark.socket

METRICS = ("accuracy", "cost_per_request")
REPORTING = with_status(b"200 OK", b"X-Gateway-Metric: accuracy=0.75, cost_per_request=2, mood=1")
HALVES = make_experiment({"control": 0, "treatment": 1})


def counted(rig: Rig, first: bool | None = None) -> Counts:
    """Treatment's counts over all series, or over those of users' first requests or the others."""
    fold = Fold()
    fold.take(observed(rig), [])
    sums = Counts()
    for tick in fold.standing():
        for series, counts in tick.counts.items():
            if series.arm == "treatment" and first in (None, series.first):
                sums = add(sums, counts)
    return sums


def seconds(buckets: Iterable[int]) -> list[float]:
    """The latencies that buckets stand for."""
    return [math.exp(log_latency(bucket)) for bucket in buckets]


def experiment_rig(script: Script = echo, experiment: Experiment = HALVES, **options: Any) -> Rig:
    """Everybody is in treatment, the group of an experiment."""
    return Rig(
        percentage=100,
        script=script,
        routes=(make_route(experiment=experiment),),
        metrics=METRICS,
        timeouts=BRISK,
        **options,
    )


def recorded(rig: Rig, number: int) -> list[Record]:
    """The next so many records, once they have come."""
    found: list[Record] = []

    def come() -> bool:
        for batch in rig.plane.link.drain_records():
            found.extend(batch.records())
        return len(found) >= number

    assert wait_until(come)
    assert len(found) == number
    return found


def test_a_user_s_first_request_is_apart_from_the_others() -> None:
    """Two users with three requests each: two are first, four are not."""
    with Rig(percentage=100) as rig, rig.connect() as client:
        for user in (b"alice", b"bob", b"alice", b"bob", b"alice", b"bob"):
            client.send(get(b"/", user))
            client.response()
        assert (counted(rig, True).started, counted(rig, False).started) == (2, 4)
        assert sum(counted(rig).latencies.values()) == 6


def test_a_reload_marks_nobody_anew() -> None:
    """The marks are the page's, whatever snapshot serves."""
    with Rig(percentage=100) as rig, rig.connect() as client:
        for version in (2, 3):
            client.send(get())
            client.response()
            rig.plane.publish(replace(rig.snapshot, version=version * 10))
        assert (counted(rig, True).started, counted(rig, False).started) == (1, 1)


def test_who_changes_arms_is_first_in_the_other_one_too() -> None:
    """A phase that begins, or a trial, has its users' first requests at once and not ten minutes later."""
    with Rig(percentage=0) as rig, rig.connect() as client:
        for version, share in ((20, 0), (30, FULL_SHARE), (40, 0), (50, FULL_SHARE)):
            enrolment = replace(rig.snapshot.enrolment, share=share)
            rig.plane.publish(replace(rig.snapshot, version=version, enrolment=enrolment))
            client.send(get())
            client.response()
        assert (counted(rig, True).started, counted(rig, False).started) == (1, 1)


def test_a_user_s_first_request_on_each_route_counts() -> None:
    """Who asks first for what works is not lost to the judgement of what is asked next."""
    with (
        Rig(percentage=100, routes=(make_route("models", "/models"), make_route())) as rig,
        rig.connect() as client,
    ):
        for path in (b"/models", b"/", b"/models", b"/"):
            client.send(get(path))
            client.response()
        assert (counted(rig, True).started, counted(rig, False).started) == (2, 2)


def test_nobody_is_first_where_requests_count() -> None:
    """`rollback.unit: request` looks at every request alike."""
    with Rig(percentage=100, marks_users=False) as rig, rig.connect() as client:
        client.send(get())
        client.response()
        assert (counted(rig, True).started, counted(rig, False).started) == (0, 1)


def test_a_request_that_does_not_count_does_not_use_up_the_mark() -> None:
    """Under the latch nobody is first; after the release the next request is."""
    with Rig(percentage=100) as rig, rig.connect() as client:
        number = rig.plane.latch.engage(LatchKind.EMERGENCY, "test", "test")
        for _ in range(2):
            client.send(get())
            client.response()
            rig.plane.latch.release(number)
        assert (counted(rig, True).started, counted(rig, False).started) == (1, 0)


def test_times_to_the_first_byte_are_kept_beside_latencies() -> None:
    """Of successes: the head came at once, the rest a quarter of a second later."""

    def slow(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        threading.Event().wait(0.25)
        exchange.send(b"lf")

    with Rig(percentage=100, script=slow) as rig, rig.connect() as client:
        client.send(get())
        client.response()
        counts = counted(rig)
        (first_byte,), (latency,) = seconds(counts.first_bytes), seconds(counts.latencies)
        assert first_byte < latency - 0.15
        assert latency > 0.24


def test_who_leaves_is_kept_with_the_time_that_was_waited() -> None:
    """Before a head and amid an answer alike."""
    with Rig(percentage=100, script=silent) as rig:
        with rig.connect() as client:
            client.send(get())
            assert wait_until(lambda: len(rig.treatment.heads) == 1)
            threading.Event().wait(0.2)
        assert wait_until(lambda: idle(rig))
        counts = counted(rig)
        assert (counts.withdrawn, list(counts.left.values())) == (1, [1])
        assert 0.2 <= seconds(counts.left)[0] < 5


def test_declared_metrics_are_added_up() -> None:
    """Those of the snapshot; the header itself never reaches the client."""
    with Rig(percentage=100, script=REPORTING, metrics=METRICS) as rig, rig.connect() as client:
        for _ in range(3):
            client.send(get())
            assert client.response().value(b"x-gateway-metric") is None
        scores = counted(rig).scores
        assert {name: (one.count, one.total, one.squares) for name, one in scores.items()} == {
            "accuracy": (3, 2.25, 1.6875),
            "cost_per_request": (3, 6.0, 12.0),
        }


def test_garbage_in_a_report_is_counted_and_harms_nothing() -> None:
    """The answer is a success; the values are not taken."""
    script = with_status(b"200 OK", b"X-Gateway-Metric: accuracy=2, cost_per_request=much")
    with Rig(percentage=100, script=script, metrics=METRICS) as rig, rig.connect() as client:
        client.send(get())
        assert client.response().status == 200
        counts = counted(rig)
        assert (sum(counts.latencies.values()), counts.scores) == (1, {})
        assert [report.reports_refused for report in observed(rig)] == [2]


def test_what_control_reports_in_treatment_s_place_is_not_treatment_s() -> None:
    """Treatment has the failure and the blame, and none of control's accuracy."""
    with experiment_rig(REPORTING) as rig:
        rig.treatment.close()
        with rig.connect() as client:
            client.send(get())
            assert client.response().status == 200
        counts = counted(rig)
        assert (counts.errors, counts.scores) == (1, {})
        (record,) = recorded(rig, 1)
        assert math.isnan(record.value)


def test_a_request_of_an_experiment_leaves_a_record_and_each_report_one_more() -> None:
    """By user, series and metric."""
    with experiment_rig(REPORTING) as rig, rig.connect() as client:
        client.send(get(b"/", b"alice"))
        client.response()
        found: list[Record] = []
        names: dict[int, Series] = {}

        def come() -> bool:
            for batch in rig.plane.link.drain_records():
                assert batch.metrics == METRICS
                names.update(batch.series)
                found.extend(batch.records())
            return len(found) == 3

        assert wait_until(come)
        assert {record.user for record in found} == {xxh3_64_intdigest(b"alice")}
        (series,) = {names[record.series] for record in found}
        assert (series.experiment, series.group, series.arm) == ("exp", "treatment", "treatment")
        by_metric = {record.metric: record.value for record in found}
        assert (by_metric[1], by_metric[2]) == (0.75, 2.0)
        assert 0 < by_metric[REQUEST] < 5


@pytest.mark.parametrize(
    "script",
    [
        with_status(b"503 No"),
        with_status(b"200 OK", b"X-Gateway-Metric: success=0"),
        resetting,
        cut,
        silent,
        answering(b"no http\r\n\r\n", close=True),
    ],
    ids=["503", "success=0", "reset", "cut", "silent", "garbage"],
)
def test_a_failure_is_recorded_as_one(script: Script) -> None:
    """Of the head or after it."""
    with experiment_rig(script) as rig:
        with rig.connect() as client:
            ask(client, get(b"/", b"alice", b"Connection: close"))
        (record,) = recorded(rig, 1)
        assert record.metric == REQUEST
        assert math.isnan(record.value)


def test_a_caller_s_mistake_and_a_client_that_left_are_recorded_without_an_outcome() -> None:
    """Their users take part: that was fixed before."""
    with experiment_rig(with_status(b"404 Not Found")) as rig, rig.connect() as client:
        client.send(get())
        client.response()
        assert [record.value for record in recorded(rig, 1)] == [NO_OUTCOME]
    with experiment_rig(silent) as rig:
        with rig.connect() as client:
            client.send(get())
            assert wait_until(lambda: len(rig.treatment.heads) == 1)
        assert [record.value for record in recorded(rig, 1)] == [NO_OUTCOME]


def test_a_request_that_the_latch_takes_from_the_queue_is_recorded_once() -> None:
    """Its user had been dealt to the group: leaving it out would tilt the groups' sizes."""
    go_on = threading.Event()

    def held(exchange: Exchange) -> None:
        exchange.body()
        go_on.wait(5)
        exchange.answer(b"done")

    limits = ConnectionLimits(connections=1, pending=10)
    patient = {"connection_limits": limits, "percentage": 100, "script": held}
    with (
        Rig(routes=(make_route(experiment=HALVES),), **patient) as rig,
        rig.connect() as first,
        rig.connect() as second,
    ):
        first.send(get())
        assert wait_until(lambda: len(rig.treatment.heads) == 1)
        second.send(get(b"/queued", b"bob"))
        assert wait_until(lambda: counted(rig).started == 2)
        rig.plane.latch.engage(LatchKind.EMERGENCY, "test", "test")
        go_on.set()
        first.response()
        second.response()
        bob = xxh3_64_intdigest(b"bob")
        assert [record.value for record in recorded(rig, 2) if record.user == bob] == [NO_OUTCOME]


@pytest.mark.parametrize(
    "options",
    [{"experiment": None}, {"experiment": replace(HALVES, counted=False)}],
    ids=["no experiment", "not counted"],
)
def test_nothing_is_recorded_where_no_experiment_counts(options: dict[str, Any]) -> None:
    """Counts are enough for everybody else."""
    with experiment_rig(REPORTING, **options) as rig:
        with rig.connect() as client:
            client.send(get())
            client.response()
        rig.plane.call(rig.plane.worker.abort)
        assert rig.plane.link.drain_records() == []
