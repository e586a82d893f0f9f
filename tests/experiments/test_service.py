"""Experiments in a whole control process: its API, its store, its file, over deaths and reloads."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.commands.status import render
from gateway.control.config.loading import load
from gateway.control.experiments import findings, outcomes, service
from gateway.control.experiments import participants as participation
from gateway.control.experiments.database import ExperimentsDatabase
from gateway.control.experiments.file import FILE
from gateway.control.store.api import FaultKind, Store
from gateway.control.store.file import DatabaseFault
from gateway.core.results.head import from_text
from gateway.model.records import FAILED
from tests.support.control import Client, Gateway, make_gateway, replace_file
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
from tests.support.polling import soon

pytestmark = pytest.mark.socket

API = "/api/v1"


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service looks at its work fifty times a second instead of once to four times."""
    monkeypatch.setattr(participation, "TAKE_INTERVAL", 0.02)
    monkeypatch.setattr(outcomes, "RECORDS_LOOK", 0.02)
    monkeypatch.setattr(findings, "WATCH_INTERVAL", 0.02)
    monkeypatch.setattr(service, "HOLD_INTERVAL", 0.02)


async def counted(client: Client, total: int, name: str = "exp") -> dict[str, Any]:
    """The document of an experiment, once so many users take part."""

    async def look() -> dict[str, Any] | None:
        document = await shown(client, name)
        return document if document["participants"] >= total else None

    return await soon(look, interval=0.02)


async def report(client: Client, *outcomes: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Post outcomes; status and document."""
    async with client.session.post(f"{client.url}{API}/outcomes", json=list(outcomes)) as answer:
        return answer.status, await answer.json(content_type=None)


def rating(number: int, **more: Any) -> dict[str, Any]:
    """An outcome of user-NUMBER in the experiment exp."""
    outcome = {"id": f"r{number}", "user_id": f"user-{number}", "metric": "user_satisfaction", "value": 1}
    return {**outcome, "experiment": "exp", **more}


async def reload(gateway: Gateway, client: Client, text: str) -> str | None:
    """Replace the config and have it read; why it is not in force, None where it is."""
    before = (await client.status())["config"]["digest"]
    replace_file(gateway.config, text)
    reloader = client.controller._reloader
    await reloader.check(requested=True)
    config = (await client.status())["config"]
    assert config["error"] or config["digest"] != before
    return config["error"]  # type: ignore[no-any-return]


def copy_of(gateway: Gateway, folder: Path) -> Gateway:
    """The gateway as a kill at this moment would leave it: its files as they are under the process."""
    copied = folder / "copy"
    copied.mkdir()
    for file in gateway.directory.iterdir():
        if file.is_file():
            (copied / file.name).write_bytes(file.read_bytes())
    return Gateway(copied, gateway.config, gateway.keeper, gateway.link)


# --- participants -------------------------------------------------------------------------------


async def test_participants_are_counted_once_for_each_user(tmp_path: Path) -> None:
    """Ten requests of a user are one participant; failures and refusals take part as well."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        for _ in range(10):
            visit(gateway, plain(users(40)))
        visit(gateway, [("user-1", FAILED, {}), ("user-77", FAILED, {})])
        document = await counted(client, 41)
        assert document["participants"] == 41
        assert sum(group["requests"] for group in document["groups"].values()) == 402
        metrics = await client.metrics()
    for group, found in document["groups"].items():
        line = (
            f'gateway_experiment_participants{{experiment="exp",group="{group}"}} {found["participants"]}.0'
        )
        assert line in metrics
    assert 'gateway_experiment_srm_p_value{experiment="exp"}' in metrics


async def test_nothing_is_counted_while_it_is_paused(tmp_path: Path) -> None:
    """Users stay where they are, requests come and go uncounted; started again it goes on."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        visit(gateway, plain(users(20)))
        await counted(client, 20)
        before = [(await assigned(client, user))["group"] for user in users(20)]
        status, paused = await client.ask("POST", f"{API}/experiments/exp/pause", reason="a look")
        assert (status, paused["status"], paused["acknowledged"]) == (200, "paused", True)
        visit(gateway, plain(users(40)))
        status, again = await client.ask("POST", f"{API}/experiments/exp/start")
        assert (status, again["status"]) == (200, "running")
        visit(gateway, plain(users(1, "late")))
        document = await counted(client, 21)
        assert document["participants"] == 21
        assert [(await assigned(client, user))["group"] for user in users(20)] == before


async def test_what_keeps_it_from_counting_is_said(tmp_path: Path) -> None:
    """Under the latch and in a phase that enrols nobody: no forecast, and no time that counts."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        visit(gateway, plain(users(40)))
        document = await counted(client, 40)
        assert (document["counting"], document["days_to_go"] is not None) == (True, True)
        await client.ask("POST", f"{API}/emergency")
        latched = await shown(client)

        async def time_went_on() -> dict[str, Any] | None:
            document = await shown(client)
            return document if document["running_seconds"] > latched["running_seconds"] else None

        after = await soon(time_went_on)
        assert after is not None
        (listed,) = (await client.ask("GET", f"{API}/experiments"))[1]
    assert latched["explanation"].startswith("nothing is counted while the latch is engaged; ")
    assert (latched["counting"], latched["days_to_go"], listed["counting"]) == (False, None, False)
    assert "to go" not in latched["explanation"]
    assert listed["explanation"] == latched["explanation"]
    assert after["counted_seconds"] == latched["counted_seconds"] > 0
    assert after["running_seconds"] > latched["running_seconds"]


async def test_a_phase_that_enrols_nobody_counts_nothing(tmp_path: Path) -> None:
    """The experiment runs, and says that nobody comes to it."""
    gateway = make_gateway(tmp_path, experiment_config(percentage=0, exp=halves()))
    async with serving(gateway) as client:
        document = await shown(client)
    assert document["explanation"].startswith("nothing is counted while the phase enrols nobody; ")
    assert (document["counting"], document["counted_seconds"]) == (False, 0)


async def test_no_name_in_the_metadata_gets_in_the_way(tmp_path: Path) -> None:
    """What an operator calls it is kept, beside what the gateway says itself."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    metadata = {"operator": "eve", "reason": "none", "event": "x", "status": "running", "ticket": 7}
    async with serving(gateway) as client:
        status, paused = await client.ask("POST", f"{API}/experiments/exp/pause", metadata=metadata)
        assert (status, paused["status"]) == (200, "paused")
        evidence = (await client.history())[-1]["evidence"]
    assert (evidence["status"], evidence["metadata.status"], evidence["ticket"]) == ("paused", "running", 7)


async def assigned(client: Client, user: str, name: str = "exp") -> dict[str, Any]:
    """The assignment of a user."""
    status, document = await client.ask("GET", f"{API}/experiments/{name}/assignments/{user}")
    assert status == 200, document
    return dict(document)


async def test_everything_is_as_it_was_after_a_restart(tmp_path: Path) -> None:
    """To the last digit: participants, means, intervals, the sample ratio, and the life of it."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        visit(gateway, [(user, 0.1 + 0.013 * n, {}) for n, user in enumerate(users(200))])
        await counted(client, 200)
        await report(client, *(rating(n, value=1 / (n + 1)) for n in range(200)))
        await client.ask("POST", f"{API}/experiments/exp/pause")
        before = await shown(client)
    async with serving(gateway) as client:
        assert moving_apart(await shown(client)) == moving_apart(before)


def moving_apart(document: dict[str, Any]) -> dict[str, Any]:
    """What does not go on by itself while an experiment is paused, nor is rounded by a kill."""
    moving = ("planned_end", "days_to_go", "explanation", "counted_seconds")
    return {key: value for key, value in document.items() if key not in moving}


async def test_a_kill_loses_no_more_than_what_was_not_flushed(tmp_path: Path) -> None:
    """What the file holds is what is shown: a file copied from under the process gives the same results."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        visit(gateway, plain(users(100), 0.3))
        await counted(client, 100)
        await report(client, *(rating(n) for n in range(50)))
        await client.ask("POST", f"{API}/experiments/exp/pause")
        before = await shown(client)
        other = copy_of(gateway, tmp_path)
    async with serving(other) as client:
        assert moving_apart(await shown(client)) == moving_apart(before)
        # What was acknowledged is known: the same ids again count nothing.
        _, receipt = await report(client, *(rating(n) for n in range(50)))
        assert receipt == {"accepted": 0, "repeated": 50, "refused": []}


# --- the end ------------------------------------------------------------------------------------


async def test_a_winner_serves_everybody_who_is_enrolled(tmp_path: Path) -> None:
    """Of treatment and of control; explain says so, and the results stand."""
    gateway = make_gateway(tmp_path, experiment_config(percentage=50, exp=halves()))
    async with serving(gateway) as client:
        visit(gateway, plain(users(50)))
        enrolled = sum((await participants(client)).values()) or (await counted(client, 10))["participants"]
        status, done = await client.ask("POST", f"{API}/experiments/exp/conclude", winner="treatment")
        assert (status, done["status"], done["winner"]) == (200, "concluded", "treatment")
        arms = [await explained(client, user) for user in users(50)]
        for arm in arms:
            expected = (
                ("treatment", "treatment", "group")
                if arm["enrolment"]["enrolled"]
                else (None, "control", "not_enrolled")
            )
            assert (arm["group"], arm["arm"], arm["reason"]) == expected
        assert arms[0]["ranges"] == [{"group": "treatment", "arm": "treatment", "start": 0.0, "end": 1.0}]
        visit(gateway, plain(users(50, "late")))
        assert (await client.status())["mode"] == "running"
        after = await shown(client)
        assert after["participants"] == enrolled
    async with serving(gateway) as client:
        assert moving_apart(await shown(client)) == moving_apart(after)
        status, refused = await report(client, rating(1))
        assert (status, refused["refused"][0]["code"]) == (422, "not_running")


async def explained(client: Client, user: str) -> dict[str, Any]:
    """The explanation of a user's decision."""
    status, document = await client.ask("GET", f"{API}/explain?user={user}")
    assert status == 200
    return dict(document)


async def test_control_as_the_winner_also_pauses_the_rollout(tmp_path: Path) -> None:
    """Nothing is to be rolled out further; the history says who decided and why."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        assert (await client.status())["pause"] is None
        status, done = await client.ask(
            "POST", f"{API}/experiments/exp/conclude", winner="control", operator="ann", reason="worse"
        )
        assert (status, done["rollout_paused"]) == (200, True)
        assert {(await explained(client, user))["arm"] for user in users(20)} == {"control"}
        found = await client.status()
        assert (found["mode"], found["pause"]["operator"]) == ("paused", "ann")
        assert found["pause"]["reason"] == "control won the experiment exp, and control serves it"
        console = Console(width=200)
        with console.capture() as printed:
            console.print(render(found, time.time()))
        assert ", by ann: control won the experiment exp" in printed.get()
        events = [event for event in await client.history() if event["type"] in ("experiment", "pause")]
    assert [(event["type"], event["operator"]) for event in events] == [
        ("experiment", "gateway"),
        ("experiment", "ann"),
        ("pause", "ann"),
    ]
    assert events[1]["evidence"] == {
        "experiment": "exp",
        "status": "concluded",
        "before": "running",
        "winner": "control",
    }


async def test_a_draft_made_by_hand_can_be_deleted(tmp_path: Path) -> None:
    """And made anew under its id; what has run, and what the config holds, stays. Who and why are kept."""
    gateway = make_gateway(
        tmp_path, experiment_config(exp=halves(), planned=halves(route=None, enabled=False))
    )
    groups = {"control": {"weight": 1}, "treatment": {"weight": 1}}
    mine = f"{API}/experiments/mine"
    async with serving(gateway) as client:
        for _ in range(2):
            assert (await client.ask("POST", f"{API}/experiments", id="mine", groups=groups))[0] == 201
            async with client.session.delete(f"{client.url}{mine}?operator=ann&reason=a+slip") as answer:
                document = await answer.json()
            assert (answer.status, document["id"], document["status"]) == (200, "mine", "draft")
            assert (await client.ask("GET", mine))[0] == 404
        event = (await client.history())[-1]
        assert (event["operator"], event["reason"]) == ("ann", "a slip")
        assert event["evidence"] == {"experiment": "mine", "status": "deleted", "before": "draft"}
        for name, status, why in (
            ("exp", 409, "only a draft can be deleted"),
            ("planned", 409, "the config holds planned: take it out there"),
            ("mine", 404, "there is no experiment mine"),
        ):
            refused, problem = await client.ask("DELETE", f"{API}/experiments/{name}")
            assert (refused, why in problem["detail"]) == (status, True)
        version = (await shown(client))["version"]
        tag = {"If-Match": f'"{version - 1}"'}
        assert (await client.ask("DELETE", f"{API}/experiments/exp", headers=tag))[0] == 412
    async with serving(gateway) as client:
        assert {one["id"] for one in (await client.ask("GET", f"{API}/experiments"))[1]} == {"exp", "planned"}


# --- by hand ------------------------------------------------------------------------------------


GROUPS = {"control": {"weight": 1}, "treatment": {"weight": 1, "configuration": {"model": "small"}}}


async def test_an_experiment_made_by_hand(tmp_path: Path) -> None:
    """Created as a draft, started, read, concluded, and there after a restart."""
    gateway = make_gateway(tmp_path, experiment_config())
    async with serving(gateway) as client:
        status, made = await client.ask("POST", f"{API}/experiments", id="mine", groups=GROUPS, duration="3d")
        assert (status, made["status"], made["origin"], made["routes"]) == (201, "draft", "api", ["default"])
        assert (await explained(client, "user-1"))["experiment"] is None
        started = await client.ask("POST", f"{API}/experiments/mine/start")
        assert started[0] == 200, started
        assert (await explained(client, "user-1"))["experiment"] == "mine"
        visit(gateway, plain(users(30)))
        await counted(client, 30, "mine")
    async with serving(gateway) as client:
        assert (await shown(client, "mine"))["participants"] == 30
        status, listed = await client.ask("GET", f"{API}/experiments")
        assert [(one["id"], one["status"]) for one in listed] == [("mine", "running")]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"id": "exp", "groups": GROUPS}, 409, "the config holds an experiment exp"),
        ({"id": "a", "groups": {}}, 400, "groups: this is empty"),
        ({"id": "a", "groups": {"a": {"weight": 0}}}, 400, "all weights are 0"),
        ({"id": "a", "groups": {"a": {"weight": 1, "upstream": "no"}}}, 400, "unknown upstream 'no'"),
        ({"id": "a", "groups": GROUPS, "routes": ["no"]}, 400, "unknown route 'no'"),
        ({"id": "a b", "groups": GROUPS}, 400, "id"),
        ({"groups": GROUPS}, 400, "id"),
        ({"id": "a", "groups": GROUPS, "wieghts": 1}, 400, "unknown key 'wieghts'"),
        ({"id": "a", "groups": {"a": {"wieght": 1}}}, 400, "did you mean weight?"),
        ({"id": "a", "groups": GROUPS, "duration": "soon"}, 400, "duration"),
    ],
)
async def test_what_cannot_be_created(tmp_path: Path, body: dict[str, Any], status: int, words: str) -> None:
    """Each with its reason, in the words of the config file."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        answer, problem = await client.ask("POST", f"{API}/experiments", **body)
    assert (answer, words in problem["detail"]) == (status, True), problem


async def test_what_is_created_with_a_word(tmp_path: Path) -> None:
    """A draft that does not do what its author may think: the answer says so, as `check` does of a file."""
    gateway = make_gateway(tmp_path, experiment_config())
    odd = {"control": {"weight": 0}, "large": {"weight": 1}}
    async with serving(gateway) as client:
        _, plain_one = await client.ask("POST", f"{API}/experiments", id="a", groups=GROUPS)
        body: dict[str, Any] = {"id": "b", "groups": odd, "success_metrics": []}
        _, odd_one = await client.ask("POST", f"{API}/experiments", **body)
    assert plain_one["warnings"] == []
    assert odd_one["warnings"] == [
        "groups: only one group has users: there is nothing to compare",
        "groups.large: the group large says neither dspy_enabled nor upstream: control serves it",
        "success_metrics: no success metric is named: the results will name no winner",
    ]


async def test_which_routes_are_meant(tmp_path: Path) -> None:
    """The only one that there is; of several, one must be named, for a draft on none could never start."""
    gateway = make_gateway(tmp_path, experiment_config(routes=["default", "chat"]))
    async with serving(gateway) as client:
        status, problem = await client.ask("POST", f"{API}/experiments", id="a", groups=GROUPS)
        named, made = await client.ask("POST", f"{API}/experiments", id="a", groups=GROUPS, routes=["chat"])
    assert (status, problem["detail"]) == (
        400,
        "no route is named: nobody would take part; expected some of default, chat",
    )
    assert (named, made["routes"]) == (201, ["chat"])


async def test_steps_that_are_refused(tmp_path: Path) -> None:
    """Unknown names, steps that do not fit, and a version that moved."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        for path, body, status, code in (
            ("nobody/start", {}, 404, "unknown_experiment"),
            ("exp/start", {}, 409, "not_applicable"),
            ("exp/conclude", {"winner": "nobody"}, 400, "unknown_name"),
            ("exp/conclude", {}, 400, "unknown_name"),
        ):
            answer, problem = await client.ask("POST", f"{API}/experiments/{path}", **body)
            assert (answer, problem.get("code")) == (status, code)
        version = (await shown(client))["version"]
        moved = {"If-Match": f'"{version + 1}"'}
        answer, problem = await client.ask("POST", f"{API}/experiments/exp/pause", headers=moved)
        assert (answer, (await shown(client))["status"]) == (412, "running")
        stands = {"If-Match": f'"{version}"'}
        answer, done = await client.ask("POST", f"{API}/experiments/exp/pause", headers=stands)
        assert (answer, done["version"]) == (200, version + 1)


# --- reloads ------------------------------------------------------------------------------------


async def test_edits_of_a_running_experiment(tmp_path: Path) -> None:
    """Weights are refused with the way out; a raised revision is an epoch; out of the file is the end."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    uneven = {"control": {"weight": 10}, "treatment": {"weight": 90}}
    async with serving(gateway) as client:
        visit(gateway, plain(users(20)))
        await counted(client, 20)
        error = await reload(gateway, client, experiment_config(exp=halves(groups=uneven)))
        assert error is not None
        assert "raise its revision to 2" in error
        assert (await shown(client))["groups"]["treatment"]["share"] == 0.5
        assert await reload(gateway, client, experiment_config(exp=halves(groups=uneven, revision=2))) is None
        document = await shown(client)
        assert (document["epoch"], document["groups"]["treatment"]["share"]) == (2, 0.9)
        visit(gateway, plain(users(20, "late")))
        assert (await counted(client, 40))["sample_ratio"]["ok"]
        assert await reload(gateway, client, experiment_config()) is None
        document = await shown(client)
        assert (document["status"], document["winner"]) == ("concluded", None)
        assert (await explained(client, "user-1"))["experiment"] is None


async def test_weights_of_a_paused_one_are_refused_and_of_a_concluded_one_are_not(tmp_path: Path) -> None:
    """What counts is its life, not what the file says about it."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    edited = experiment_config(exp=halves(seed="another"))
    async with serving(gateway) as client:
        await client.ask("POST", f"{API}/experiments/exp/pause")
        assert "seed changed while it runs" in str(await reload(gateway, client, edited))
        await client.ask("POST", f"{API}/experiments/exp/conclude", winner="treatment")
        assert await reload(gateway, client, edited + " ") is None
        assert (await explained(client, "user-1"))["group"] == "treatment"


async def test_a_concluded_one_begins_anew_with_a_raised_revision(tmp_path: Path) -> None:
    """Its participants, its time and its planned day are those of its new life, over restarts too."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves(duration="1ms")))
    again = experiment_config(exp=halves(revision=2))
    async with serving(gateway) as client:
        visit(gateway, plain(users(30)))
        await counted(client, 30)
        ran = now(client)
        client.controller._parts.experiments.findings.look()  # the planned day is over
        await client.ask("POST", f"{API}/experiments/exp/conclude", winner="control")
        await client.ask("POST", f"{API}/experiments/exp/conclude", winner="treatment")
        assert (await shown(client))["verdict"] == "stop"
        assert await reload(gateway, client, again) is None
        document = await shown(client)
        assert (document["epoch"], document["verdict"]) == (2, "continue")
        assert document["groups"]["control"]["participants"] == 0
        assert (document["winner"], document["running_seconds"] < 60) == (None, True)
        visit(gateway, plain(users(20)))
        assert (await counted(client, 20))["sample_ratio"]["ok"]
        _, receipt = await report(client, rating(1, at=ran))
        assert receipt["refused"][0]["reason"] == "exp was concluded since then, and began anew"
        assert (await report(client, rating(1)))[1]["accepted"] == 1
    async with serving(gateway) as client:
        assert (await counted(client, 20))["status"] == "running"


async def test_a_new_life_that_comes_to_nothing_leaves_what_was_concluded(tmp_path: Path) -> None:
    """A config was prepared for and never put in force: the results stand, over restarts too."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    refused = tmp_path / "refused.yaml"
    refused.write_text(experiment_config(exp=halves(revision=2)))
    async with serving(gateway) as client:
        visit(gateway, plain(users(30)))
        await counted(client, 30)
        await client.ask("POST", f"{API}/experiments/exp/conclude", winner="control")
        room = client.controller._parts.experiments
        await room.desk.prepare(load(refused, {}))
        await room._participants.flush()
        await client.ask("POST", f"{API}/experiments/exp/conclude", winner="treatment")
        before = await shown(client)
        assert sum(group["participants"] for group in before["groups"].values()) == 30
    async with serving(gateway) as client:
        assert await shown(client) == before


# --- outcomes -----------------------------------------------------------------------------------


async def test_outcomes_count_once_and_for_the_users_group(tmp_path: Path) -> None:
    """By id, within a request and between them; each in the mean of its own group."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves(minimum_sample_size=1)))
    async with serving(gateway) as client:
        visit(gateway, plain(users(60)))
        await counted(client, 60)
        group_of = {user: (await assigned(client, user))["group"] for user in users(60)}
        ratings = [rating(n, value=float(group_of[f"user-{n}"] == "treatment")) for n in range(60)]
        status, receipt = await report(client, *ratings, ratings[0])
        assert (status, receipt) == (200, {"accepted": 60, "repeated": 1, "refused": []})
        _, receipt = await report(client, *ratings)
        assert receipt["repeated"] == 60
        found = (await shown(client))["metrics"]["user_satisfaction"]["groups"]
    sizes = {group: list(group_of.values()).count(group) for group in ("control", "treatment")}
    assert found == {
        "control": {"n": sizes["control"], "mean": 0.0},
        "treatment": {"n": sizes["treatment"], "mean": 1.0},
    }


async def test_outcomes_are_taken_for_every_id_that_may_take_part(tmp_path: Path) -> None:
    """Where whole tokens are ids, they are longer than anything else in an outcome."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    token = "a-token." * 400
    async with serving(gateway) as client:
        visit(gateway, plain([token]))
        await counted(client, 1)
        status, receipt = await report(client, rating(1, user_id=token, route="default"))
    assert (status, receipt["accepted"]) == (200, 1), receipt


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (rating(1, experiment="nobody"), "unknown_experiment"),
        (rating(1, metric="beauty"), "unknown_metric"),
        (rating(1, metric="response_time"), "unknown_metric"),
        (rating(1, value=1.5), "value"),
        (rating(1, at=1.0), "time"),
        (rating(1, at="2999-01-01T00:00:00Z"), "time"),
        (rating(3), "override"),
        (rating(999), "no_participant"),
        (rating(1, value="good"), "malformed"),
        (rating(1, value=10**400), "malformed"),
        (rating(1, user_id="x" * 8_193), "malformed"),
        (rating(1, route="nowhere"), "route"),
        (rating(1, id=""), "malformed"),
        (rating(1, at="yesterday"), "malformed"),
        (rating(1, extra=1), "malformed"),
        ({"id": "x"}, "malformed"),
        ("x", "malformed"),
    ],
)
async def test_an_outcome_that_belongs_nowhere_does_not_harm_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Any, code: str
) -> None:
    """It is refused with its place, its id and a reason; the good one beside it is counted."""
    monkeypatch.setattr(outcomes, "RECORDS_PATIENCE", 0.1)
    config = json.loads(experiment_config(exp=halves()))
    config["overrides"] = {"users": {"treatment": ["user-3"]}}
    gateway = make_gateway(tmp_path, json.dumps(config))
    async with serving(gateway) as client:
        visit(gateway, plain(users(10)))
        await counted(client, 9)
        status, receipt = await report(client, rating(2), outcome)
        assert status == 200, receipt
        assert (receipt["accepted"], len(receipt["refused"])) == (1, 1)
        (refused,) = receipt["refused"]
        assert (refused["index"], refused["code"]) == (1, code)
        status, problem = await report(client, outcome)
        assert (status, problem["accepted"], problem["refused"][0]["code"]) == (422, 0, code)


async def test_at_says_when_the_user_was_served(tmp_path: Path) -> None:
    """While it was paused, under the latch, and before: refused; while it ran: counted, whatever is now."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        visit(gateway, plain(users(10)))
        await counted(client, 10)
        ran = now(client)
        await client.ask("POST", f"{API}/experiments/exp/pause")
        paused = await later(client)
        await client.ask("POST", f"{API}/emergency")
        latched = await later(client)
        for at, code in ((paused, "not_running"), (latched, "latched"), (None, "latched")):
            _, receipt = await report(client, rating(1, at=at))
            assert receipt["refused"][0]["code"] == code
        status, receipt = await report(client, rating(1, at=ran))
        assert (status, receipt["accepted"]) == (200, 1)
        when = (await client.ask("GET", f"{API}/experiments/exp/assignments/user-1?at={ran}"))[1]
        assert when["group"] in ("control", "treatment")
        assert (await assigned(client, "user-1"))["reason"] == "latch"


def now(client: Client) -> float:
    return client.controller._now()


DISTINCT = 0.005
"""Seconds between moments that no rounding makes one."""


async def later(client: Client) -> float:
    """A moment that is surely behind what was done, and before what comes next."""
    done = now(client)
    moment = await soon(lambda: (at := now(client)) > done + DISTINCT and at, interval=DISTINCT)
    await soon(lambda: now(client) > moment + DISTINCT, interval=DISTINCT)
    return moment


async def test_an_outcome_waits_for_its_users_first_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that rates at once is not refused because the worker's records are still on their way."""
    looks, hand = [], outcomes.Outcomes._hand

    async def noted(self: outcomes.Outcomes, handed: Any) -> Any:
        looks.append(handed)
        return await hand(self, handed)

    monkeypatch.setattr(outcomes.Outcomes, "_hand", noted)
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        await shown(client)
        posting = asyncio.create_task(report(client, rating(1)))
        await soon(lambda: len(looks) > 1)
        visit(gateway, plain(["user-1"]))
        status, receipt = await posting
    assert (status, receipt["accepted"]) == (200, 1)


async def test_outcomes_of_the_rollout_go_to_the_windows(tmp_path: Path) -> None:
    """Without an experiment: to the arm that the user was in; each once."""
    gateway = make_gateway(tmp_path, experiment_config(percentage=50))
    seen: list[tuple[str, str, str, float]] = []
    async with serving(gateway) as client:
        await client.status()
        windows = client.controller._parts.windows
        windows.add_outcome = lambda *of, **_: seen.append(of)  # type: ignore[method-assign]
        ratings = [
            {"id": f"r{n}", "user_id": f"user-{n}", "metric": "user_satisfaction", "value": True}
            for n in range(40)
        ]
        status, receipt = await report(client, *ratings, ratings[5])
        assert (status, receipt["accepted"], receipt["repeated"]) == (200, 40, 1)
        arms = [(await explained(client, user))["arm"] for user in users(40)]
    assert [(arm, route) for arm, route, *_ in seen] == [(arm, "default") for arm in arms]
    assert {of[2:] for of in seen} == {("user_satisfaction", 1.0)}


async def test_of_one_user_s_ratings_the_first_is_evidence(tmp_path: Path) -> None:
    """All count, but who rates again and again is one user: of each metric in each arm one in ten minutes."""
    gateway = make_gateway(tmp_path, experiment_config(percentage=100))
    firsts: list[tuple[str, bool]] = []
    async with serving(gateway) as client:
        await client.status()
        windows = client.controller._parts.windows
        windows.add_outcome = lambda *of, first, **_: firsts.append((of[2], first))  # type: ignore[method-assign]
        ratings = [
            {"id": f"{user}{metric}{n}", "user_id": user, "metric": metric, "value": 0}
            for user in ("ann", "bob")
            for metric in ("user_satisfaction", "accuracy")
            for n in range(5)
        ]
        for part in (ratings[:3], ratings[3:]):
            assert (await report(client, *part))[1]["accepted"] == len(part)
    once = [True, False, False, False, False]
    assert firsts == [
        (metric, first) for _ in "ab" for metric in ("user_satisfaction", "accuracy") for first in once
    ]


async def are_stored(store: Store, metric: str) -> bool:
    """True once sums of a metric are on the disk."""
    return any(metric in name for tick in await store.ticks(0, 2**40) for name in tick.sums)


async def test_outcomes_of_the_rollout_survive_a_kill(tmp_path: Path) -> None:
    """Acknowledged and not yet in the windows' sums: the next process counts them, and those in them once."""
    gateway = make_gateway(tmp_path, experiment_config(percentage=50))
    first, second = (
        [{"id": f"{part}{n}", "user_id": f"user-{n}", "metric": "accuracy", "value": 0.5} for n in range(20)]
        for part in "ab"
    )
    async with serving(gateway) as client:
        windows = client.controller._parts.windows
        assert (await report(client, *first))[1]["accepted"] == 20
        windows.flush()
        await soon(lambda: are_stored(client.controller._parts.store, "accuracy"))
        assert (await report(client, *second))[1]["accepted"] == 20
        copied = copy_of(gateway, tmp_path)
    async with serving(copied) as client:
        stays = client.controller._parts.windows.phases()
        arms = [arm for stay in stays for arm in stay.arms.values()]
        assert sum(arm.scores["accuracy"].count for arm in arms if "accuracy" in arm.scores) == 40


async def test_as_many_outcomes_as_are_allowed_fit_into_a_request(tmp_path: Path) -> None:
    """With ids, times and names of usual length."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        visit(gateway, plain(users(1)))
        await counted(client, 1)
        at = datetime.now(UTC).isoformat()
        status, receipt = await report(
            client, *(rating(0, id=f"{n:032x}-request", route="default", at=at) for n in range(1000))
        )
    assert (status, receipt.get("accepted")) == (200, 1000), receipt


async def test_too_many_outcomes_are_refused_whole(tmp_path: Path) -> None:
    """In one request, and waiting for the disk: nothing of them is taken."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        await client.status()
        status, problem = await report(client, *({"id": f"{n}"} for n in range(1001)))
        assert (status, "at most 1000" in problem["detail"]) == (413, True)
        room = client.controller._parts.experiments
        room.outcomes._waiting = 20_000
        status, problem = await report(client, rating(1))
        assert (status, "send them again" in problem["detail"]) == (429, True)
        room.outcomes._waiting = 0


async def test_a_disk_that_refuses_and_then_takes(tmp_path: Path) -> None:
    """No acknowledgement without the disk; the same outcomes again count once, and nothing is lost."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves(minimum_sample_size=1)))
    real = ExperimentsDatabase.write
    async with serving(gateway) as client:
        visit(gateway, plain(users(10)))
        await counted(client, 10)

        def refuse(self: ExperimentsDatabase, batch: object) -> None:
            raise DatabaseFault(FaultKind.FULL, "no space left")

        ExperimentsDatabase.write = refuse  # type: ignore[method-assign, assignment]
        try:
            status, problem = await report(client, *(rating(n) for n in range(10)))
            assert (status, "each counts once" in problem["detail"]) == (503, True)
            types = {alert["type"] for alert in (await client.status())["alerts"]}
            assert "experiments_not_durable" in types
        finally:
            ExperimentsDatabase.write = real  # type: ignore[method-assign]
        status, receipt = await report(client, *(rating(n) for n in range(10)))
        assert (status, receipt["accepted"] + receipt["repeated"]) == (200, 10)
        found = (await shown(client))["metrics"]["user_satisfaction"]["groups"]
        assert sum(group["n"] for group in found.values()) == 10
    assert count(gateway, "outcomes") == 10
    assert stored_participants(gateway) == 10


def count(gateway: Gateway, table: str) -> int:
    """Rows on disk."""
    connection = sqlite3.connect(gateway.directory / FILE)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


def stored_participants(gateway: Gateway) -> int:
    """Participants that the file has."""
    connection = sqlite3.connect(gateway.directory / FILE)
    try:
        return sum(from_text(head).rows for (head,) in connection.execute("SELECT body FROM heads"))
    finally:
        connection.close()


# --- trouble ------------------------------------------------------------------------------------


async def test_a_corrupt_file_is_moved_aside_and_everything_else_goes_on(tmp_path: Path) -> None:
    """Results begin anew; the gateway serves, and the file is kept for whoever wants to look."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    (gateway.directory / FILE).write_bytes(b"no database " * 1000)
    async with serving(gateway) as client:
        visit(gateway, plain(users(5)))
        assert (await counted(client, 5))["participants"] == 5
    assert [path.name for path in gateway.directory.glob(f"{FILE}.corrupt-*")]


async def test_the_rollout_is_held_while_a_sample_ratio_is_off(tmp_path: Path) -> None:
    """A broken split marks the results invalid and holds; it ends with the experiment."""
    gateway = make_gateway(tmp_path, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        await client.status()
        lost = broken(gateway, users(3000))
        visit(gateway, plain(lost))
        document = await counted(client, len(lost))
        assert (document["verdict"], document["sample_ratio"]["ok"]) == ("invalid", False)
        await holds(client, ["sample_ratio"])
        windows = client.controller._parts.windows
        assert not windows.sample_ratio_ok()
        await client.ask("POST", f"{API}/experiments/exp/conclude", winner="treatment")
        await holds(client, [])


def broken(gateway: Gateway, names: Iterable[str]) -> list[str]:
    """The users that a split leaves which loses every third of treatment's."""
    from gateway.core.split import Table

    table = Table(gateway.link.current)
    route = table.routes[0]
    groups = {
        name: table.decide(route, False, (True, True), name.encode(), None, b"").group for name in names
    }
    return [name for n, (name, group) in enumerate(groups.items()) if group != "treatment" or n % 3]


async def holds(client: Client, kinds: list[str]) -> None:
    """Wait until these hold the rollout."""
    desk = client.controller._parts.desk
    await soon(lambda: [hold.kind.value for hold in desk.state.holds] == kinds)
