"""What upstreams report is taken where it makes sense, and counted where it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.scores import MOST_SCORE, Score
from gateway.proxy.reports import MOST_REPORTED, ReportReader

METRICS = ("accuracy", "cost_per_request", "mood")


def read(report: bytes) -> tuple[dict[str, float], int]:
    """The values by name, and how many were refused."""
    reader = ReportReader()
    reader.follow(METRICS)
    return {METRICS[index]: value for index, value in reader.read(report)}, reader.refused


@pytest.mark.parametrize(
    ("report", "values", "refused"),
    [
        (b"accuracy=0.93, cost_per_request=0.0021, success=0", (0.93, 0.0021, None), 0),
        (b" \taccuracy \t= 1e-3\t", (0.001, None, None), 0),
        (b"mood=-3.5", (None, None, -3.5), 0),
        (b"", (None, None, None), 0),
        (b",,accuracy=0,", (0.0, None, None), 0),
        (b"speed=3", (None, None, None), 0),
        (b"Accuracy=0.5", (None, None, None), 0),
        (b"accuracy=1.01", (None, None, None), 1),
        (b"cost_per_request=-1", (None, None, None), 1),
        (b"mood=nan, accuracy=inf, cost_per_request=-inf", (None, None, None), 3),
        (b"mood=1e13", (None, None, None), 1),
        (b"accuracy=", (None, None, None), 1),
        (b"accuracy", (None, None, None), 1),
        (b"=5", (None, None, None), 1),
        (b"mood=1_000", (None, None, None), 1),
        (b"mood=0x10", (None, None, None), 1),
        (b"mood=" + b"1" * 41, (None, None, None), 1),
        (b"mood=\xd9\xa3", (None, None, None), 1),
        (b"accuracy=0.5, accuracy=0.7", (0.5, None, None), 1),
        (b"accuracy=0.5," + b" " * MOST_REPORTED, (None, None, None), 1),
    ],
)
def test_each_kind_of_report(report: bytes, values: tuple[float | None, ...], refused: int) -> None:
    """Declared metrics, in their range, once each; a stranger's metric is no mistake."""
    expected = {name: value for name, value in zip(METRICS, values, strict=True) if value is not None}
    assert read(report) == (expected, refused)


@given(st.binary(max_size=200))
def test_no_report_is_an_error(report: bytes) -> None:
    """Whatever comes, what is taken is in range."""
    values, _ = read(report)
    assert all(-MOST_SCORE <= value <= MOST_SCORE for value in values.values())
    assert 0 <= values.get("accuracy", 0) <= 1


def test_nothing_is_taken_that_nobody_declared() -> None:
    """Without metrics in the snapshot a report is not even a mistake."""
    reader = ReportReader()
    assert reader.read(b"accuracy=0.5") == ()
    assert reader.refused == 0


def test_scores_count_their_distance_from_one_as_bad_rounded_up() -> None:
    """0.9 and 0.8 are 0.3 wrong, which counts as one; ten times 0.9 is one wrong, not two."""
    assert (Score.of(0.9) + Score.of(0.8)).bad == 1
    tenth = Score()
    for _ in range(10):
        tenth += Score.of(0.9)
    assert tenth.bad == 1
    assert (tenth + Score.of(0.99)).bad == 2
    assert Score.of(1.0).bad == 0
