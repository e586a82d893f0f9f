"""The participant table against a dictionary that keeps every value."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.results.participants import ParticipantTable, StoredRow
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


@given(records=RECORDS, more=RECORDS)
def test_what_is_rebuilt_from_rows_is_the_same_to_the_last_digit(
    records: list[tuple[int, int, int, float]], more: list[tuple[int, int, int, float]]
) -> None:
    """Rows written on the way and again at the end, as a store keeps them; then both go on alike."""
    table = table_of(records)
    store = {row[:2]: row for row in table.take_changed()}
    table.merge(more, SERIES, METRICS)
    store.update({row[:2]: row for row in table.take_changed()})
    rebuilt = ParticipantTable(["control", "treatment"], metrics=table.metrics)
    rebuilt.load(store.values())
    assert exactly(rebuilt.tally()) == exactly(table.tally())
    for either in (table, rebuilt):
        either.merge(records, SERIES, METRICS)
    assert exactly(rebuilt.tally()) == exactly(table.tally())


def exactly(tally: Tally) -> str:
    """All of a tally, digit by digit."""
    return repr(tally)


def test_only_what_changed_is_to_be_written() -> None:
    """A row is handed out once, and again when it changes; users are signed, as SQLite has it."""
    table = table_of([(2**64 - 1, 10, REQUEST, 0.5), (7, 11, REQUEST, 1.0)])
    assert sorted((row.user, row.group) for row in table.take_changed()) == [
        (-1, "control"),
        (7, "treatment"),
    ]
    assert table.take_changed() == []
    assert table.report(7, "treatment", "accuracy", 0.9)
    assert [row.user for row in table.take_changed()] == [7]


def test_rows_from_a_time_with_fewer_metrics_load() -> None:
    """A metric that came later is missing there, and nothing else."""
    early = table_of([(1, 10, REQUEST, 0.5)])
    rows = early.take_changed()
    late = table_of([(2, 10, REQUEST, 1.5), (2, 10, 1, 0.9)])
    rows += late.take_changed()
    rebuilt = ParticipantTable([], metrics=late.metrics)
    rebuilt.load(rows)
    control = rebuilt.tally().find("control")
    assert (control.participants, control.find(RESPONSE_TIME).mean) == (2, 1.0)
    assert (control.find("accuracy").n, control.find("accuracy").mean) == (1, 0.9)


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


def test_a_user_may_have_more_values_than_two_bytes_count() -> None:
    """A robot's 70,000 requests: its mean and its row stay right."""
    table = table_of([(1, 10, REQUEST, float(number % 2)) for number in range(70_000)])
    rebuilt = ParticipantTable([])
    rebuilt.load(table.take_changed())
    for either in (table, rebuilt):
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
    assert isinstance(table_of([(1, 10, REQUEST, 0.1)]).take_changed()[0], StoredRow)
