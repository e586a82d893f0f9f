"""The participant table against a dictionary that keeps every value."""

from __future__ import annotations

import math
import random
import statistics
import struct
from array import array
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.results.head import from_text, to_text
from gateway.core.results.journal import PAGE, Changes
from gateway.core.results.numbers import pack, unpack
from gateway.core.results.participants import ParticipantTable
from gateway.core.results.tally import ERROR_RATE, RESPONSE_TIME, Arrivals, Tally
from gateway.model.records import FAILED, NO_OUTCOME, REQUEST

METRICS = ("accuracy", "cost_per_request")
SERIES = {10: 0, 11: 1}
"""Two series of the experiment; any other number is none of its."""

USERS = st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1, 12345678901234567890]) | st.integers(0, 2**64 - 1)
REQUESTS = st.tuples(
    USERS,
    st.sampled_from([10, 11, 99]),
    st.just(REQUEST),
    st.floats(0, 100) | st.just(FAILED) | st.just(NO_OUTCOME),
)
REPORTS = st.tuples(USERS, st.sampled_from([10, 11, 99]), st.sampled_from([1, 2]), st.floats(-1e3, 1e3))
RECORDS = st.lists(REQUESTS | REPORTS, max_size=60)


def table_of(records: list[tuple[int, int, int, float]], **options: object) -> ParticipantTable:
    """A table with records merged into it."""
    table = ParticipantTable(["control", "treatment"], **options)  # type: ignore[arg-type]
    table.merge(records, SERIES, METRICS)
    return table


def values_of(records: list[tuple[int, int, int, float]]) -> dict[tuple[str, str], dict[int, list[float]]]:
    """Every value by (group, metric) and user, kept as it came."""
    values: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for user, series, metric, value in records:
        if series not in SERIES:
            continue
        group = ("control", "treatment")[SERIES[series]]
        if metric != REQUEST:
            values[group, METRICS[metric - 1]][user].append(value)
        elif value != NO_OUTCOME:
            values[group, ERROR_RATE][user].append(float(math.isnan(value)))
            if not math.isnan(value):
                values[group, RESPONSE_TIME][user].append(value)
    return values


@given(records=RECORDS)
def test_the_tally_is_that_of_means_over_participants(records: list[tuple[int, int, int, float]]) -> None:
    """Numbers, means and variances of per-user means, for every group and metric."""
    tally = table_of(records).tally()
    values = values_of(records)
    for group in ("control", "treatment"):
        takes_part = {
            user
            for user, series, *_ in records
            if SERIES.get(series) == ("control", "treatment").index(group)
        }
        assert tally.find(group).participants == len(takes_part)
        assert tally.find(group).requests == sum(map(len, values[group, ERROR_RATE].values()))
        for metric in (RESPONSE_TIME, ERROR_RATE, *METRICS):
            found = tally.find(group).find(metric)
            means = [math.fsum(given) / len(given) for given in values[group, metric].values()]
            assert found.n == len(means)
            if means:
                assert found.mean == pytest.approx(statistics.fmean(means), rel=1e-9, abs=1e-12)
            if len(means) > 1:
                assert found.variance == pytest.approx(statistics.variance(means), rel=1e-9, abs=1e-9)


@given(records=RECORDS, seed=st.integers(0, 1000))
def test_the_order_of_records_does_not_matter(records: list[tuple[int, int, int, float]], seed: int) -> None:
    """Whole values: the same to the last digit, however they were shuffled and cut into batches."""
    dealt = [
        (user, 10 + user % 2, metric, value if math.isnan(value) else float(math.floor(value)))
        for user, _, metric, value in records
    ]
    shuffled = random.Random(seed).sample(dealt, len(dealt))
    other = ParticipantTable(["control", "treatment"])
    cut = len(dealt) // 3
    for batch in (shuffled[:cut], shuffled[cut:]):
        other.merge(batch, SERIES, METRICS)
    assert other.tally() == table_of(dealt).tally()


class Kept:
    """What a store has of a table: the newest head, pages and the journal that is not void."""

    def __init__(self) -> None:
        self.head = ""
        self.pages: dict[int, bytes] = {}
        self.journal: dict[int, bytes] = {}

    def take(self, changes: Changes | None) -> None:
        """Write what changed."""
        if changes is not None:
            self.head = changes.head
            self.journal[changes.number] = changes.entry
            self.pages.update(changes.pages)
            self.journal = {n: entry for n, entry in self.journal.items() if n > changes.void}

    def table(self, *, recounted: bool = False) -> ParticipantTable:
        """The table again; `recounted` adds the totals up from the rows."""
        head = to_text(replace(from_text(self.head), totals=None)) if recounted else self.head
        table = ParticipantTable.stored(head)
        for number, data in self.pages.items():
            table.load_page(number, data)
        for number, data in self.journal.items():
            table.load_entry(number, data)
        for _ in table.finish():
            pass
        return table


@given(records=RECORDS, more=RECORDS)
def test_what_is_rebuilt_from_a_store_is_the_same_to_the_last_digit(
    records: list[tuple[int, int, int, float]], more: list[tuple[int, int, int, float]]
) -> None:
    """Written on the way and again at the end; then both go on alike. So are totals added up anew."""
    table, kept = table_of([(1, 10, REQUEST, 1.0), *records]), Kept()
    kept.take(table.take_changes())
    table.merge(more, SERIES, METRICS)
    kept.take(table.take_changes())
    rebuilt, recounted = kept.table(), kept.table(recounted=True)
    assert exactly(rebuilt.tally()) == exactly(recounted.tally()) == exactly(table.tally())
    for one in (table, rebuilt, recounted):
        one.merge(records, SERIES, METRICS)
    assert exactly(rebuilt.tally()) == exactly(recounted.tally()) == exactly(table.tally())


@pytest.mark.slow
def test_the_journal_stays_short_and_nothing_is_lost_in_its_rounds() -> None:
    """Arrivals, then many small changes: it holds about half of the rows at most, and all is there."""
    draw, table, kept = random.Random(5), ParticipantTable(["control", "treatment"]), Kept()
    users = [draw.getrandbits(64) for _ in range(4 * PAGE + 7)]
    for first in range(0, len(users), 500):
        table.merge([(user, 10, REQUEST, 0.25) for user in users[first : first + 500]], SERIES, METRICS)
        kept.take(table.take_changes())
    for turn in range(300):
        some = draw.sample(users, 40)
        table.merge([(user, 10, 1 + turn % 2, 0.5) for user in some], SERIES, METRICS)
        kept.take(table.take_changes())
        assert sum(64 + len(unpack(entry)[0]) for entry in kept.journal.values()) < 0.65 * len(users)
        if turn % 100 == 50:  # a restart on the way
            table = kept.table()
    assert exactly(kept.table().tally()) == exactly(kept.table(recounted=True).tally())
    assert exactly(kept.table().tally()) == exactly(table.tally())
    table.merge([(user, 10, REQUEST, 0.25) for user in users], SERIES, METRICS)
    assert len(table) == len(users)


def exactly(tally: Tally) -> str:
    """All of a tally, digit by digit."""
    return repr(tally)


def test_only_what_changed_is_to_be_written() -> None:
    """A row is handed out once, and again when it changes; nothing where nothing did."""
    table = table_of([(2**64 - 1, 10, REQUEST, 0.5), (7, 11, REQUEST, 1.0)])
    first = table.take_changes()
    assert first is not None
    assert unpack(first.entry)[0].tolist() == [0, 1]
    assert table.take_changes() is None
    assert table.report(7, "treatment", "accuracy", 0.9)
    second = table.take_changes()
    assert second is not None
    assert (unpack(second.entry)[0].tolist(), first.number, second.number) == ([1], 1, 2)


def test_pages_from_a_time_with_fewer_metrics_load() -> None:
    """A metric that came later is missing there, and nothing else."""
    table = table_of([(user, 10, REQUEST, 0.5) for user in range(PAGE)])
    early = table.take_changes()
    assert early is not None
    assert list(early.pages) == [0]
    kept = Kept()
    kept.take(early)
    table.merge([(2, 10, REQUEST, 1.5), (2, 10, 1, 0.9)], SERIES, METRICS)
    kept.take(table.take_changes())
    assert len(unpack(kept.pages[0])) < len(unpack(kept.journal[2])) - 1
    control = kept.table(recounted=True).tally().find("control")
    assert (control.participants, control.find(RESPONSE_TIME).n) == (PAGE, PAGE)
    assert (control.find("accuracy").n, control.find("accuracy").mean) == (1, 0.9)
    assert exactly(kept.table().tally()) == exactly(table.tally())


@pytest.mark.parametrize("cut", [0, 1, 6, -1])
def test_bytes_that_are_no_arrays_are_refused(cut: int) -> None:
    """Cut off anywhere, or longer than they say."""
    whole = pack([array("Q", [1, 2]), array("d", [0.5]), array("B")])
    assert unpack(whole) == [array("Q", [1, 2]), array("d", [0.5]), array("B")]
    with pytest.raises((ValueError, struct.error)):
        unpack(whole[:cut] if cut >= 0 else whole + b"more")


def test_a_user_in_two_groups_counts_in_each_but_arrived_once() -> None:
    """A new epoch deals anew: whoever comes back elsewhere is no evidence of how users are dealt."""
    table = table_of([(1, 10, REQUEST, 0.1), (2, 11, REQUEST, 0.1)])
    table.begin_epoch(2, ["control", "treatment", "third"])
    table.merge(
        [(1, 11, REQUEST, 0.1), (2, 11, REQUEST, 0.1), (3, 12, REQUEST, 0.1)], {**SERIES, 12: 2}, METRICS
    )
    tally = table.tally()
    assert [(group.group, group.participants) for group in tally.groups] == [
        ("control", 1),
        ("treatment", 2),
        ("third", 1),
    ]
    assert tally.arrivals == (
        Arrivals(1, "control", 1),
        Arrivals(1, "treatment", 1),
        Arrivals(2, "third", 1),
    )


def test_single_values_are_capped() -> None:
    """Before they are added; a cap that is lifted later leaves what was counted as it is."""
    table = table_of([(1, 10, REQUEST, 90.0), (1, 10, REQUEST, 2.0)], caps={RESPONSE_TIME: 10.0})
    assert table.tally().find("control").find(RESPONSE_TIME).mean == 6.0
    table.set_caps({})
    table.merge([(2, 10, REQUEST, 90.0)], SERIES, METRICS)
    assert table.tally().find("control").find(RESPONSE_TIME).mean == 48.0


def test_late_outcomes_are_for_participants_only() -> None:
    """Nobody takes part by being rated."""
    table = table_of([(1, 10, REQUEST, 0.1)])
    assert table.report(1, "control", "user_satisfaction", 0.8)
    assert not table.report(1, "treatment", "user_satisfaction", 0.8)
    assert not table.report(2, "control", "user_satisfaction", 0.8)
    assert not table.report(1, "nowhere", "user_satisfaction", 0.8)
    assert [table.is_participant(user, "control") for user in (1, 2)] == [True, False]
    assert table.tally().find("control").find("user_satisfaction").n == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e13])
def test_what_is_no_measurement_is_refused(value: float) -> None:
    """By a report aloud; in a batch it is passed over, and the rest counts."""
    table = table_of([(1, 10, 1, value), (1, 10, 1, 0.5)])
    assert table.tally().find("control").find("accuracy").mean == 0.5
    with pytest.raises(ValueError, match="no measurement"):
        table.report(1, "control", "accuracy", value)


def test_request_metrics_are_measured_and_not_reported() -> None:
    """A pipeline that reports a response_time of its own does not mix it with the measured one."""
    table = ParticipantTable(["control"])
    table.merge([(1, 0, REQUEST, 2.0), (1, 0, 1, 7.0)], {0: 0}, ["response_time"])
    assert table.tally().find("control").find(RESPONSE_TIME).mean == 2.0
    with pytest.raises(ValueError, match="measured"):
        table.report(1, "control", "error_rate", 1.0)


def test_a_user_may_have_more_values_than_one_byte_or_two_count() -> None:
    """A robot's 70,000 requests: its mean and its row stay right."""
    table = table_of([(1, 10, REQUEST, float(number % 2)) for number in range(70_000)])
    kept = Kept()
    kept.take(table.take_changes())
    for either in (table, kept.table(), kept.table(recounted=True)):
        either.merge([(1, 10, REQUEST, FAILED)] * 2, SERIES, METRICS)
        control = either.tally().find("control")
        assert (control.requests, control.find(RESPONSE_TIME).mean) == (70_002, 0.5)
        assert control.find(ERROR_RATE).mean == pytest.approx(float(Fraction(2, 70_002)), abs=1e-15)


def test_many_users_are_found_again() -> None:
    """Every segment has grown several times, and nobody is there twice."""
    draw = random.Random(1)
    users = [draw.getrandbits(64) for _ in range(20_000)]
    table = table_of([(user, 10, REQUEST, 1.0) for user in users])
    assert all(table.is_participant(user, "control") for user in users)
    assert not any(table.is_participant(user ^ 1, "control") for user in users)
    table.merge([(user, 10, REQUEST, 1.0) for user in users], SERIES, METRICS)
    assert len(table) == table.tally().find("control").participants == 20_000


def test_a_table_knows_what_it_was_given() -> None:
    """Names and numbers of groups, metrics in the order of the rows, and mistakes refused."""
    table = ParticipantTable(["control"], metrics=(RESPONSE_TIME, ERROR_RATE, "accuracy"), epoch=3)
    assert table.metrics == (RESPONSE_TIME, ERROR_RATE, "accuracy")
    assert (table.groups, table.group_number("control")) == (("control",), 0)
    with pytest.raises(KeyError):
        table.group_number("other")
    with pytest.raises(ValueError, match="begin with"):
        ParticipantTable([], metrics=("accuracy", RESPONSE_TIME))
    with pytest.raises(ValueError, match="from 1"):
        table.begin_epoch(0, [])
