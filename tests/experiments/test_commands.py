"""What `gateway experiment` prints for people."""

from __future__ import annotations

from pathlib import Path

from gateway.commands.experiment import render, render_list
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
    assert any(line.startswith("response_time (less is better)  control") for line in text)
    assert any(line.split()[:1] == ["treatment"] and line.split()[-1] == "1" for line in text)
    assert listed.splitlines()[1].split()[:4] == ["exp", "running", "80", "continue"]


def test_a_list_of_nothing() -> None:
    """Said in words."""
    assert render_list([]) == "There are no experiments."
