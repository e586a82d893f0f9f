"""What `gateway status` prints of the arms: several spans of time side by side, and the phases before."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console, Group

from gateway.commands.arms import MOST_PAST_PHASES, MOST_ROUTES, lines

NOW = 1_800_000_000.0
BEGAN = "2027-01-15T06:00:00.000Z"
"""Two hours before NOW."""


def arm(requests: int, errors: int = 0, p90: float | None = 0.2) -> dict[str, Any]:
    """An arm over a span of time."""
    times = {"mean": p90, "p50": p90, "p90": p90, "p99": p90}
    rate = errors / requests if requests else None
    return {"requests": requests, "errors": errors, "error_rate": rate, **times, "first_byte": times}


def stay(phase: str, control: int, treatment: int) -> dict[str, Any]:
    """A stay in a phase."""
    arms = {"control": arm(control, 1), "treatment": arm(treatment, 0, 1.5)}
    return {"phase": phase, "epoch": 1, "since": BEGAN, "arms": arms}


def status(
    *phases: dict[str, Any], shift: float | None = None, routes: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """As much of the status document as is shown here; the rollout is in canary."""
    times = {"mean": 0.1, "p50": 0.1, "p90": 0.1, "p99": 0.1}
    total = {"requests": 12_345, "error_rate": 0.5, "inflight": 7, "latency": times}
    arms = {"control": arm(40, 1), "treatment": arm(0, p90=None)}
    return {
        "phase": "canary",
        "window": {
            "since": BEGAN,
            "seconds": 300.0,
            "performance_degradation": shift,
            "arms": arms,
            "routes": routes,
        },
        "phases": list(phases),
        "arms": {name: {**total, "time_to_first_byte": times} for name in ("control", "treatment")},
    }


def shown(document: dict[str, Any], width: int = 80) -> list[str]:
    """The lines on a terminal of that width."""
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(Group(*lines(document, NOW)))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_three_spans_stand_side_by_side_on_an_ordinary_terminal() -> None:
    """Nothing is cut or wrapped at 80 columns; what has no figures has a dash."""
    titles, names, requests, errors, inflight, *_ = shown(status(stay("canary", 3000, 30)))
    assert titles.split() == ["5", "min", "phase", "in", "all"]
    assert names.split() == ["control", "treatment"] * 3
    assert requests.split() == ["requests", "40", "0", "3,000", "30", "12,345", "12,345"]
    assert errors.replace(" %", "%").split() == ["errors", "2.50%", "-", "0.03%", "0.00%", "50.00%", "50.00%"]
    assert inflight.split() == ["in", "flight", "7", "7"]


def test_latencies_are_shown_only_where_they_can_be_compared() -> None:
    """Those of the totals are estimates, of failures too: beside the others they would mislead."""
    rows = {line[:13].strip(): line[13:].split() for line in shown(status(stay("canary", 3000, 30)))}
    for label in ("latency, mean", "p50", "p90", "p99", "first byte"):
        assert rows[label] == ["200", "ms", "-", "200", "ms", "1.50", "s"]


@pytest.mark.parametrize("phases", [(), (stay("staging", 10, 10),)])
def test_a_phase_that_nothing_is_known_of_has_no_columns(phases: tuple[dict[str, Any], ...]) -> None:
    """The newest stay may be of another phase for a moment: it is not shown as this one."""
    assert shown(status(*phases))[1].split() == ["control", "treatment"] * 2


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (0.12, "treatment is 12 % slower than control beside it, over 5 min"),
        (-0.8, "treatment is 80 % faster than control beside it, over 5 min"),
        (0.001, "treatment is as fast as control beside it, over 5 min"),
    ],
)
def test_how_the_arms_compare_is_said_in_words(shift: float, said: str) -> None:
    """A sign is easily misread at night."""
    assert said in shown(status(shift=shift))


def test_without_both_arms_nothing_is_compared() -> None:
    """Neither as fast nor slower."""
    assert not any("control beside it" in line for line in shown(status()))


def test_the_phases_before_have_a_line_each_newest_first() -> None:
    """The newest few that had traffic; the present one is in the table above."""
    stays = [stay(f"p{number}", 100, 10) for number in range(MOST_PAST_PHASES + 2)]
    found = shown(status(*stays, stay("idle", 0, 0), stay("canary", 10, 10)))
    begin = next(number for number, line in enumerate(found) if line.startswith("phases before"))
    before = found[begin + 1 :]
    assert [line.split()[0] for line in before] == [f"p{number}" for number in range(6, 1, -1)]
    assert " ".join(before[0].split()) == "p6 2 h 100 / 10 1.00 % / 0.00 % 200 ms / 1.50 s"


def test_several_routes_have_a_line_each_and_the_worst_one_is_first() -> None:
    """Where treatment fails is what somebody who was woken up wants to know."""
    routes = {f"r{number}": {"control": arm(100), "treatment": arm(number)} for number in range(1, 20)}
    routes["search"] = {"control": arm(100, 1), "treatment": arm(10, 5)}
    found = shown(status(routes=routes))
    begin = next(number for number, line in enumerate(found) if line.startswith("routes, 5 min"))
    lines_of_routes = found[begin + 1 :]
    assert len(lines_of_routes) == MOST_ROUTES
    assert " ".join(lines_of_routes[0].split()) == "search 100 / 10 1.00 % / 50.00 % 200 ms / 200 ms"
    assert lines_of_routes[1].startswith("r19 ")


def test_a_single_route_is_not_said_twice() -> None:
    """It is what the table above is of."""
    routes = {"default": {"control": arm(1), "treatment": arm(1)}}
    assert not any("routes" in line for line in shown(status(routes=routes)))
