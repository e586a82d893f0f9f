"""The rollout through the admin API: every write, every refusal, and the description held true."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.control.admin.openapi import DOCUMENT
from gateway.model.observation import BreakerReport, BreakerState
from gateway.model.snapshot import Arm
from tests.support.control import CONFIG, Client, Gateway, make_gateway, make_observation
from tests.support.counting import Clock, CountingWorker
from tests.support.polling import soon
from tests.support.wiring import LADDER, refusing_disk

pytestmark = pytest.mark.socket

API = "/api/v1"
ADVANCE, ROLLBACK = f"{API}/rollout/advance", f"{API}/rollout/rollback"
PAUSE, RESUME = f"{API}/rollout/pause", f"{API}/rollout/resume"
RELEASE, EMERGENCY = f"{API}/release", f"{API}/emergency"
APPROVAL = "canary.limited_production.manual_approval"
GATED = CONFIG.replace(
    "    canary: {user_percentage: 1}\n",
    """\
    canary: {user_percentage: 1, duration: 24h}
  gates:
    canary -> limited_production:
      - {type: manual_approval, approvals: 2}
""",
)
TOKENS = "admin: {tokens: {ann: ann.token, bob: bob.token}}\n"


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway in canary with nothing before the next phase."""
    return make_gateway(tmp_path)


@pytest.fixture
def gated(tmp_path: Path) -> Gateway:
    """A gateway in canary; a day and the words of two people stand before the next phase."""
    for name in ("ann", "bob"):
        (tmp_path / f"{name}.token").write_text(f"secret-of-{name}\n")
    return make_gateway(tmp_path, GATED + TOKENS)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer secret-of-{name}"}


# --- steps ---------------------------------------------------------------------------------------------


async def test_the_whole_ladder_by_the_api(tmp_path: Path) -> None:
    """Each advance answers with where the rollout stands, and the workers have the share by then."""
    gateway = make_gateway(tmp_path, CONFIG.replace("initial_phase: canary", "initial_phase: development"))
    async with gateway.control() as client:
        for phase in LADDER[1:]:
            status, stands = await client.ask("POST", ADVANCE, operator="ann", reason="onwards")
            assert (status, stands["phase"], stands["acknowledged"]) == (200, phase, True)
            assert gateway.link.current.user_percentage == stands["user_percentage"]
        status, problem = await client.ask("POST", ADVANCE)
        assert (status, problem["code"]) == (409, "last_phase")
        history = await client.history()
    assert [(event["from"], event["to"]) for event in history] == list(pairwise(LADDER))
    assert {event["operator"] for event in history} == {"ann"}


async def test_a_failed_advance_says_for_every_gate_why(gated: Gateway) -> None:
    """The gates as the status has them, with values and thresholds."""
    async with gated.control() as client:
        status, problem = await client.ask("POST", ADVANCE, headers=bearer("ann"))
        shown = (await client.ask("GET", f"{API}/status", headers=bearer("ann")))[1]["gates"]
    assert (status, problem["code"]) == (409, "gates")
    assert [gate["id"] for gate in problem["gates"]] == [gate["id"] for gate in shown]
    time, approval = problem["gates"]
    assert (time["verdict"], time["threshold"], time["transition"]) == (
        "pending",
        86400.0,
        "canary -> limited_production",
    )
    assert (approval["verdict"], approval["reason"]) == ("pending", "0 of 2 approvals")


async def test_two_approvals_are_two_named_people(gated: Gateway) -> None:
    """The token says who; by the gate's type or its id."""
    async with gated.control() as client:
        for name, gate in (("ann", "manual_approval"), ("ann", APPROVAL)):
            path = f"{API}/gates/{gate}/approve"
            status, stands = await client.ask("POST", path, headers=bearer(name), operator="mallory")
            assert (status, stands["gate"]["reason"]) == (200, "1 of 2 approvals")
        _, shown = await client.ask("GET", f"{API}/status", headers=bearer("ann"))
        assert shown["gates"][1]["verdict"] == "pending"
        await client.ask("POST", f"{API}/gates/{APPROVAL}/approve", headers=bearer("bob"))
        _, shown = await client.ask("GET", f"{API}/status", headers=bearer("ann"))
        assert (shown["gates"][1]["verdict"], shown["gates"][1]["reason"]) == ("pass", "approved by ann, bob")


async def test_a_name_that_nobody_vouches_for_is_not_one_of_two(tmp_path: Path) -> None:
    """Without tokens anybody could be two people."""
    async with make_gateway(tmp_path, GATED).control() as client:
        status, problem = await client.ask("POST", f"{API}/gates/{APPROVAL}/approve", operator="ann")
        assert (status, problem["code"]) == (409, "unnamed")


async def test_an_unknown_gate_is_404_and_a_rejection_fails_the_gate(gated: Gateway) -> None:
    """With the gates that there are."""
    async with gated.control() as client:
        status, problem = await client.ask("POST", f"{API}/gates/none/approve", headers=bearer("ann"))
        assert status == 404
        assert APPROVAL in problem["detail"]
        path = f"{API}/gates/{APPROVAL}/reject"
        await client.ask("POST", path, headers=bearer("ann"), reason="no")
        _, shown = await client.ask("GET", f"{API}/status", headers=bearer("ann"))
        assert (shown["gates"][1]["verdict"], shown["gates"][1]["reason"]) == ("fail", "rejected by ann: no")


@pytest.mark.parametrize("path", [ADVANCE, RESUME, f"{API}/gates/manual_approval/approve"])
async def test_while_latched_it_is_refused(gateway: Gateway, path: str) -> None:
    """Advance, resume and approve: 409, which the commands turn into exit 3."""
    async with gateway.control() as client:
        await client.ask("POST", PAUSE)
        await client.ask("POST", EMERGENCY, reason="fire")
        status, problem = await client.ask("POST", path)
        assert (status, problem["code"]) == (409, "latched")
        assert "fire" in problem["detail"]


async def test_pause_holds_the_way_up_and_a_rollback_goes_on(gateway: Gateway) -> None:
    """And `paused` stays over a release."""
    async with gateway.control() as client:
        assert (await client.ask("POST", PAUSE))[1]["mode"] == "paused"
        assert (await client.ask("POST", ADVANCE, force=True))[0] == 409
        _, stands = await client.ask("POST", ROLLBACK, reason="bad answers")
        assert (stands["phase"], stands["latched"], stands["user_percentage"]) == ("staging", True, 0)
        _, stands = await client.ask("POST", RELEASE)
        assert (stands["paused"], stands["latched"]) == (True, False)
        assert (await client.ask("POST", RESUME))[1]["mode"] == "running"


async def test_a_release_comes_back_under_its_ceiling(gateway: Gateway) -> None:
    """Which `--percentage` moves, and the next advance lifts."""
    async with gateway.control() as client:
        await client.ask("POST", ROLLBACK)
        _, stands = await client.ask("POST", RELEASE)
        assert (stands["phase"], stands["ceiling"], stands["user_percentage"]) == ("staging", 1, 1)
        _, stands = await client.ask("POST", RELEASE, percentage=2.5)
        assert (stands["released"], stands["ceiling"], stands["user_percentage"]) == (False, 2.5, 2.5)
        assert gateway.link.current.user_percentage == 2.5
        _, stands = await client.ask("POST", ADVANCE)
        assert (stands["phase"], stands["ceiling"], stands["user_percentage"]) == ("canary", None, 1)


async def test_a_graceful_rollback_is_refused_while_control_is_down(gateway: Gateway) -> None:
    """Control could not take over: nothing begins, and the answer says what would work."""
    async with gateway.control() as client:
        gateway.report(
            make_observation("a", 7, endpoints=(("traditional", 9001, False), ("dspy", 9002, True)))
        )
        status, problem = await client.ask("POST", ROLLBACK, graceful=True)
        assert (status, problem["code"]) == (409, "control_unhealthy")
        assert "traditional" in problem["detail"]
        assert (await client.status())["drain"] is None
        gateway.report(
            make_observation("a", 7, endpoints=(("traditional", 9001, True), ("dspy", 9002, False)))
        )
        assert (await client.ask("POST", ROLLBACK, graceful=True))[0] == 200


async def test_a_graceful_rollback_is_refused_while_control_fails(gateway: Gateway) -> None:
    """What it answered lately is beyond treatment's limit: users are not handed over step by step to that."""
    async with gateway.control() as client:
        await client.status()
        worker = CountingWorker(Clock(time.monotonic()), 7, gateway.link.current)
        worker.serve(Arm.CONTROL, 20, status=500, first=True)
        gateway.report(worker.report())
        monitor = client.controller._parts.monitor
        await soon(lambda: monitor.control_fails)
        status, problem = await client.ask("POST", ROLLBACK, graceful=True)
        assert (status, problem["code"]) == (409, "control_unhealthy")
        assert "without --graceful" in problem["detail"]
        assert (await client.ask("POST", ROLLBACK))[0] == 200


@pytest.mark.parametrize("state", list(BreakerState))
async def test_the_breaker_is_in_the_status_and_the_metrics(gateway: Gateway, state: BreakerState) -> None:
    """As the worst-off worker has it; and treatment counts as available while one lets requests through."""
    async with gateway.control() as client:
        endpoints = (("traditional", 9001, True), ("dspy", 9002, True))
        closed = BreakerReport("dspy", BreakerState.CLOSED, True, "", 0)
        tripped = BreakerReport("dspy", state, state is BreakerState.CLOSED, "a probe failed", 2)
        gateway.report(make_observation("a", 7, endpoints=endpoints, breakers=(tripped,)))
        shown = (await client.status())["upstreams"]
        assert shown["dspy"]["breaker"]["state"] == state.label
        assert shown["dspy"]["available"] == (state is BreakerState.CLOSED)
        assert (shown["traditional"]["breaker"], shown["traditional"]["arms"]) == (None, ["control"])
        gauge = f'gateway_circuit_breaker_state{{upstream="dspy"}} {state.value}.0'
        gateway.report(make_observation("b", 8, endpoints=endpoints, breakers=(closed,)))
        assert gauge in await client.metrics()
        assert (await client.status())["upstreams"]["dspy"]["available"]


async def test_a_graceful_rollback_drains(tmp_path: Path) -> None:
    """Step by step, then latched, while the API shows where it is."""
    drained = CONFIG + "  rollback: {drain: {steps: 2, over: 2s}}\n"
    gateway = make_gateway(tmp_path, drained)
    async with gateway.control() as client:
        _, stands = await client.ask("POST", ROLLBACK, graceful=True, operator="ann", reason="slow")
        assert (stands["mode"], stands["user_percentage"], stands["latched"]) == ("draining", 0.5, False)
        drain = (await client.status())["drain"]
        assert (drain["step"], drain["steps"], drain["operator"]) == (1, 2, "ann")
        await soon(lambda: gateway.page.engaged, patience=10)
        assert (await client.status())["phase"] == "staging"


@pytest.mark.parametrize("path", [ADVANCE, ROLLBACK, PAUSE, RELEASE])
async def test_what_depends_on_an_older_state_is_412(gateway: Gateway, path: str) -> None:
    """Nothing is done, and the answer says which version stands."""
    async with gateway.control() as client:
        version = (await client.status())["version"]
        await client.ask("POST", PAUSE)
        await client.ask("POST", RESUME)
        headers = {"If-Match": f'"{version}"'}
        status, problem = await client.ask("POST", path, headers=headers)
        assert status == 412
        assert str(version + 2) in problem["detail"]
        assert (await client.status())["version"] == version + 2
        assert not gateway.page.engaged
        headers = {"If-Match": f'"1", "{version + 2}"'}
        assert (await client.ask("POST", PAUSE, headers=headers))[0] == 200


async def test_a_full_disk_is_503_for_what_lets_users_in(gateway: Gateway) -> None:
    """And shows in the status; an emergency goes through."""
    async with gateway.control() as client:
        with refusing_disk():
            status, problem = await client.ask("POST", ADVANCE)
            assert status == 503
            assert "no space left" in problem["detail"]
            alerts = (await client.status())["alerts"]
            assert "state_not_durable" in [alert["type"] for alert in alerts]
            assert (await client.ask("POST", EMERGENCY))[0] == 200
            assert (await client.status())["phase"] == "staging"


@pytest.mark.parametrize(
    "body",
    [
        {"force": "yes"},
        {"graceful": True},
        {"percentage": 1},
        {"number": 1},
        {"force": True, "metadata": 1},
    ],
)
async def test_an_advance_takes_its_own_keys_only(gateway: Gateway, body: dict[str, Any]) -> None:
    """A key of another write is a slip."""
    async with gateway.control() as client:
        assert (await client.ask("POST", ADVANCE, **body))[0] == 400
        assert (await client.status())["phase"] == "canary"


@pytest.mark.parametrize("percentage", [-1, 101, "5", True, [5]])
async def test_a_share_is_a_number_from_0_to_100(gateway: Gateway, percentage: object) -> None:
    """Nothing else moves the ceiling."""
    async with gateway.control() as client:
        assert (await client.ask("POST", RELEASE, percentage=percentage))[0] == 400


async def test_free_metadata_is_kept_with_the_event(gateway: Gateway) -> None:
    """Of every write."""
    async with gateway.control() as client:
        for path in (PAUSE, RESUME, ADVANCE, ROLLBACK, RELEASE, EMERGENCY):
            status, _ = await client.ask("POST", path, metadata={"ticket": path})
            assert status == 200
        history = await client.history()
    writes = [event for event in history if event["type"] != "alert"]  # on a slow machine no worker is one
    assert [event["evidence"]["ticket"] for event in writes] == [
        PAUSE,
        RESUME,
        ADVANCE,
        ROLLBACK,
        RELEASE,
        EMERGENCY,
    ]


async def test_metadata_never_stands_in_for_what_the_gateway_says(gateway: Gateway) -> None:
    """Whatever an operator calls it: history and metrics tell what happened, and keep the words too."""
    forged = {"cause": "evidence", "version": "v7", "repeated": True, "number": 0, "failed": "no", "hooks": 9}
    async with gateway.control() as client:
        assert (await client.ask("POST", ROLLBACK, metadata=forged))[0] == 200
        (event,) = [event for event in await client.history() if event["type"] == "rollback"]
        metrics = await client.metrics()
        status = await client.status()
    kept = {name: event["evidence"][f"metadata.{name}"] for name in forged}
    assert kept == forged
    assert event["evidence"]["cause"] == "operator"
    assert event["evidence"]["version"] == status["version"]
    assert 'gateway_rollbacks_total{reason="operator"} 1.0' in metrics


async def test_the_metrics_of_phases_and_gates(gated: Gateway) -> None:
    """Names, labels and codes of the contract."""
    async with gated.control() as client:
        await client.ask("POST", f"{API}/gates/{APPROVAL}/reject", headers=bearer("ann"))
        before = await client.metrics()
        await client.ask("POST", ADVANCE, headers=bearer("ann"), force=True)
        await client.ask("POST", ROLLBACK, headers=bearer("ann"))
        after = await client.metrics()
    assert f'gateway_gate_status{{gate="{APPROVAL}"}} 2.0' in before
    assert 'gateway_gate_status{gate="canary.limited_production.time_based"} 0.0' in before
    assert f'gateway_gate_threshold{{gate="{APPROVAL}",metric="approvals"}} 2.0' in before
    assert f'gateway_gate_value{{gate="{APPROVAL}",metric="approvals"}} 0.0' in before
    moved = 'gateway_phase_transitions_total{from="canary",reason="force",to="limited_production"} 1.0'
    assert moved in after
    assert 'gateway_rollbacks_total{reason="operator"} 1.0' in after
    assert 'gateway_phase_info{phase="canary"} 1.0' in after
    assert "gateway_cutover_engaged 1.0" in after
    assert "gateway_user_percentage 0.0" in after


# --- the split over the ladder ---------------------------------------------------------------------------


# --- the description -------------------------------------------------------------------------------------


def check_answer(method: str, path: str, status: int, answer: Any) -> None:
    """Raise unless the description has this status and the answer fits its schema."""
    described = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert str(status) in described, f"{method} {path} answered {status}"
    response = described[str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    (media,) = response["content"].values()
    jsonschema.validate(answer, {**media["schema"], "components": DOCUMENT["components"]})


async def test_every_answer_fits_its_description(gated: Gateway) -> None:
    """Every path, what is granted and what is refused."""
    gated.report(make_observation("a", 11))
    token = bearer("ann")
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", ADVANCE, {}),
        ("POST", ADVANCE, {"force": True}),
        ("POST", ROLLBACK, {"graceful": True}),
        ("POST", ROLLBACK, {}),
        ("POST", ADVANCE, {}),
        ("POST", RELEASE, {"number": 99}),
        ("POST", RELEASE, {"percentage": 7}),
        ("POST", PAUSE, {}),
        ("POST", PAUSE, {}),
        ("POST", RESUME, {"unknown": 1}),
        ("POST", RESUME, {}),
        ("POST", f"{API}/gates/{{gate}}/approve", {}),
        ("POST", f"{API}/gates/{{gate}}/reject", {}),
        ("POST", EMERGENCY, {}),
        ("GET", f"{API}/status", {}),
        ("GET", f"{API}/history", {}),
        ("GET", f"{API}/explain", {}),
    ]
    async with gated.control() as client:
        for method, path, body in calls:
            for headers in (token, {}):
                status, answer = await client.ask(
                    method, path.replace("{gate}", APPROVAL), headers=headers, **body
                )
                assert status < 500
                check_answer(method, path, status, answer)
        await check_gates(client, token)


async def check_gates(client: Client, token: dict[str, str]) -> None:
    """An approval that is granted and one of a gate that is not there, after a release."""
    await client.ask("POST", RELEASE, headers=token)
    while (await client.ask("GET", f"{API}/status", headers=token))[1]["phase"] != "canary":
        await client.ask("POST", ADVANCE, headers=token, force=True)
    for gate in (APPROVAL, "none"):
        for verb in ("approve", "reject"):
            status, answer = await client.ask("POST", f"{API}/gates/{gate}/{verb}", headers=token)
            assert status == (404 if gate == "none" else 200)
            check_answer("POST", f"{API}/gates/{{gate}}/{verb}", status, answer)
