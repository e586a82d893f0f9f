"""What `gateway experiment` prints for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.commands.experiment import render, render_list, render_step
from tests.support.control import make_gateway
from tests.support.experiments import (
    experiment_config,
    halves,
    participants,
    plain,
    serving,
    shown,
    users,
    visit,
)

pytestmark = pytest.mark.socket


async def test_show_says_the_verdict_first_then_groups_then_metrics(tmp_path: Path) -> None:
    """Numbers in columns, nothing before there is anything, and no JSON."""
    gateway = make_gateway(
        tmp_path, experiment_config(exp=halves(name="A trial", success_metrics=["response_time"]))
    )
    async with serving(gateway) as client:
        draft = render(await shown(client))
        visit(gateway, plain(users(80)))
        while sum((await participants(client)).values()) < 80:
            pass
        document = await shown(client)
        text = render(document).splitlines()
        listed = render_list([document])
    assert draft.splitlines()[1:4] == [
        "A trial",
        "",
        "CONTINUE: nothing to judge by: no success metric has a value yet",
    ]
    assert text[0].startswith("exp is running, started 20")
    assert any(line.split()[:3] == ["control", "50", "%"] for line in text)
    assert any(line.startswith("response_time (less is better, decides)  control") for line in text)
    assert any(line.split()[-4:] == ["none", "-", "-", "-"] for line in text)  # all took as long
    assert listed.splitlines()[1].split()[:4] == ["exp", "running", "80", "continue"]


async def test_figures_are_told_in_their_units(tmp_path: Path) -> None:
    """Shares in percent, times in theirs, small chances as such, and no test of what never happened."""
    metrics = ["accuracy", "response_time"]
    gateway = make_gateway(tmp_path, experiment_config(exp=halves(success_metrics=metrics)))
    async with serving(gateway) as client:
        visits = [(name, 0.2 + n / 1000, {"accuracy": n / 100}) for n, name in enumerate(users(80))]
        visit(gateway, visits)
        while sum((await participants(client)).values()) < 80:
            pass
        document = await shown(client)
    document |= {"running_seconds": 97_200.0, "counted_seconds": 3_600.0, "days_to_go": 0.0874}
    (accuracy,) = document["metrics"]["accuracy"]["comparisons"]
    accuracy |= {"difference": 0.0321, "lift": 0.09, "interval": [0.011, 0.0533], "p_value": 1.6e-13}
    document["metrics"]["accuracy"]["groups"]["treatment"]["mean"] = 0.9082
    text = render(document)
    assert ", has run for 1 d 3 h, but counted for 1 h only\n" in text
    assert " UTC; forecast: 2 h 5 min to go." in text
    of_treatment = [line.split() for line in text.splitlines() if line.split()[:1] == ["treatment"]]
    _, of_accuracy, of_times, of_errors = of_treatment
    assert " ".join(of_accuracy[2:]) == "90.82 % +3.21 points +9 % +1.1 to +5.33 points < 0.001"
    assert of_times[3] == "ms"
    labels = [line.partition(")")[0] for line in text.splitlines() if "is better" in line]
    assert labels == ["accuracy (more is better, decides", "response_time (less is better"]
    assert of_errors[2:] == ["0", "%", "none", "-", "-", "-"]
    assert "e-" not in text


async def test_to_conclude_says_what_it_came_to(tmp_path: Path) -> None:
    """Whoever names a winner sees in the same breath whether the results named it."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        _, concluded = await client.ask("POST", "/api/v1/experiments/exp/conclude", winner="treatment")
    assert render_step(concluded).splitlines() == [
        "exp is concluded, treatment won.",
        "Concluded, treatment serves; nothing to judge by: no success metric has a value yet",
    ]


def test_a_list_of_nothing() -> None:
    """Said in words."""
    assert render_list([]) == "There are no experiments."
