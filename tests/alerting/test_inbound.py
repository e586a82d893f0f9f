"""Alertmanager's webhook: a label of a firing alert asks for a rollback or an emergency, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.alerting.inbound import (
    MOST_REMEMBERED,
    ForeignAlert,
    Inbound,
    MalformedError,
    read_payload,
)
from gateway.control.rollout.desk import Refused
from gateway.model.rollout import Mode, Notify, Refusal, RefusalCode
from tests.support.control import CONFIG, make_gateway
from tests.support.wiring import Scene

pytestmark = pytest.mark.socket


def nobody(notify: Notify) -> None:
    """Is told."""


DOOR = "/api/v1/alerts/alertmanager"


def foreign(
    action: str | None = "rollback",
    name: str = "HighErrorRate",
    *,
    status: str = "firing",
    began: str = "2026-01-31T12:00:00Z",
    fingerprint: str = "c0ffee",
) -> dict[str, Any]:
    labels = {"alertname": name, "severity": "critical"}
    if action is not None:
        labels["gateway_action"] = action
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": "errors over 2 %", "description": "for 5 minutes"},
        "startsAt": began,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": fingerprint,
    }


def payload(*alerts: Mapping[str, Any]) -> dict[str, Any]:
    """As Alertmanager 0.25 sends it."""
    return {
        "receiver": "gateway",
        "status": "firing",
        "alerts": list(alerts),
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
    }


@pytest.mark.parametrize("action", ["rollback", "emergency"])
async def test_a_firing_alert_that_asks_for_it_gets_it(tmp_path: Path, action: str) -> None:
    """Everything to control, a step back, with the alert's words, and the latch on disk."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        status, answer = await client.ask("POST", DOOR, **payload(foreign(action)))
        event = (await client.history())[-1]
    assert (status, answer) == (
        200,
        {"taken": [{"alert": "HighErrorRate", "action": action, "repeated": False}], "ignored": []},
    )
    assert gateway.page.engaged
    assert (event["type"], event["operator"]) == (action, "alertmanager")
    assert event["reason"] == "HighErrorRate: for 5 minutes; errors over 2 %"
    assert event["evidence"]["alerts"][0]["severity"] == "critical"
    assert (tmp_path / "state" / "latch").exists()


async def test_a_token_names_the_operator(tmp_path: Path) -> None:
    """As with every write; without one it is refused."""
    (tmp_path / "am.token").write_text("secret\n")
    gateway = make_gateway(tmp_path, CONFIG + "admin: {tokens: {prometheus-eu: am.token}}\n")
    async with gateway.control() as client:
        assert (await client.ask("POST", DOOR, **payload(foreign())))[0] == 401
        assert not gateway.page.engaged
        headers = {"Authorization": "Bearer secret"}
        status, _ = await client.ask("POST", DOOR, headers=headers, **payload(foreign()))
        _, history = await client.ask("GET", "/api/v1/history", headers=headers)
    assert (status, history[-1]["operator"]) == (200, "prometheus-eu")


@pytest.mark.parametrize(
    "alerts",
    [[], [foreign(None)], [foreign(status="resolved")], [foreign("reboot", status="resolved")]],
    ids=["none", "no label", "resolved", "unknown action resolved"],
)
async def test_what_asks_for_nothing_does_nothing(tmp_path: Path, alerts: list[dict[str, Any]]) -> None:
    """It is answered, so that Alertmanager does not send it again and again."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        assert await client.ask("POST", DOOR, **payload(*alerts)) == (200, {"taken": [], "ignored": []})
    assert not gateway.page.engaged


@pytest.mark.parametrize("asked", ["reboot", "Rollback", ""])
async def test_an_action_that_is_not_known_is_said_and_stops_nothing(tmp_path: Path, asked: str) -> None:
    """Each delivery is answered with it, and what the others ask for is done."""
    gateway = make_gateway(tmp_path)
    unknown = foreign(asked, name="Typo", fingerprint="2")
    async with gateway.control() as client:
        _, answer = await client.ask("POST", DOOR, **payload(unknown))
        assert answer["taken"] == []
        assert not gateway.page.engaged
        status, answer = await client.ask("POST", DOOR, **payload(unknown, foreign()))
    assert (status, len(answer["taken"]), gateway.page.engaged) == (200, 1, True)
    (ignored,) = answer["ignored"]
    assert (ignored["alert"], ignored["asked"]) == ("Typo", asked)
    assert "none of rollback, emergency" in ignored["reason"]


async def test_people_hear_once_of_an_action_that_is_not_known(scene: Scene) -> None:
    """Whoever wrote it counts on it; a repetition is no news, another firing is."""
    told: list[Notify] = []
    async with scene.control() as room:
        inbound = Inbound(room.store, room.desk, room.latch, told.append)
        twice = [foreign("reboot", name="Typo"), foreign("halt", name="Other", fingerprint="2")]
        for _ in range(3):
            await inbound.take(read_payload(payload(*twice)), None)
    async with scene.control() as room:
        inbound = Inbound(room.store, room.desk, room.latch, told.append)
        await inbound.take(read_payload(payload(*twice)), None)
        assert len(told) == 1
        await inbound.take(read_payload(payload({**twice[0], "startsAt": "later"})), None)
    first, second = told
    assert (first.severity, "Typo asks for 'reboot'; Other asks for 'halt'" in first.text) == ("high", True)
    assert "Other" not in second.text


async def test_a_repeated_group_is_acted_upon_once_also_over_a_restart(tmp_path: Path) -> None:
    """A repetition does not undo an operator's release; firing anew does."""
    gateway = make_gateway(tmp_path)
    repeated = {"taken": [{"alert": "HighErrorRate", "action": "rollback", "repeated": True}], "ignored": []}
    async with gateway.control() as client:
        await client.ask("POST", DOOR, **payload(foreign()))
        await client.ask("POST", "/api/v1/release")
        assert await client.ask("POST", DOOR, **payload(foreign())) == (200, repeated)
    async with gateway.control() as client:
        assert await client.ask("POST", DOOR, **payload(foreign())) == (200, repeated)
        assert not gateway.page.engaged
        await client.ask("POST", DOOR, **payload(foreign(began="2026-01-31T13:00:00Z")))
        assert gateway.page.engaged


async def test_two_alertmanagers_at_once_are_one_rollback(tmp_path: Path) -> None:
    """A pair sends everything twice."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        await asyncio.gather(*(client.ask("POST", DOOR, **payload(foreign())) for _ in range(5)))
        assert [event["type"] for event in await client.history()] == ["rollback"]


async def test_several_alerts_are_one_step_and_emergency_outranks(tmp_path: Path) -> None:
    """With the words of all of them."""
    gateway = make_gateway(tmp_path)
    alerts = [
        foreign(name="One"),
        foreign("emergency", name="Two", fingerprint="2"),
        foreign(None, name="Three"),
    ]
    async with gateway.control() as client:
        _, answer = await client.ask("POST", DOOR, **payload(*alerts))
        (event,) = await client.history()
    assert [one["alert"] for one in answer["taken"]] == ["One", "Two"]
    assert (event["type"], "One: " in event["reason"], "Two: " in event["reason"]) == (
        "emergency",
        True,
        True,
    )
    assert "Three" not in event["reason"]


async def test_where_people_must_approve_a_rollback_waits_and_an_emergency_does_not(tmp_path: Path) -> None:
    """An alert is a machine's judgement."""
    text = CONFIG + "  rollback: {manual_approval_required: true}\n"
    gateway = make_gateway(tmp_path, text)
    async with gateway.control() as client:
        await client.ask("POST", DOOR, **payload(foreign()))
        gates = [gate["id"] for gate in (await client.status())["gates"]]
        assert ("rollback" in gates, gateway.page.engaged) == (True, False)
        await client.ask("POST", DOOR, **payload(foreign("emergency", fingerprint="2")))
        assert gateway.page.engaged


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "alerts is not a list"),
        ({"alerts": {}}, "alerts is not a list"),
        ({"alerts": [1]}, "alerts[0] is not an object"),
        ({"alerts": [foreign(), {"status": "on"}]}, "alerts[1].status"),
        ({"alerts": [{"status": "firing"}]}, "alerts[0].labels"),
        ({"alerts": [{"status": "firing", "labels": {"a": 1}}]}, "alerts[0].labels.a"),
        ({"alerts": [foreign() | {"annotations": "x"}]}, "alerts[0].annotations"),
        ({"alerts": [foreign() | {"startsAt": 5}]}, "alerts[0].startsAt"),
    ],
)
async def test_a_malformed_payload_is_a_clear_refusal(
    tmp_path: Path, body: dict[str, Any], where: str
) -> None:
    """And nothing of it is acted upon, were the rest never so right."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        headers = {"Content-Type": "application/json"}
        async with client.session.post(client.url + DOOR, data=json.dumps(body), headers=headers) as answer:
            problem = await answer.json(content_type=None)
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert where in problem["detail"]
    assert not gateway.page.engaged


async def test_what_was_refused_is_not_remembered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next repetition is acted upon."""
    async with scene.control() as room:
        inbound = Inbound(room.store, room.desk, room.latch, nobody)
        alerts = read_payload(payload(foreign()))

        async def refuse(*_: object) -> None:
            raise Refused(Refusal(RefusalCode.NOT_APPLICABLE, "not now"))

        with monkeypatch.context() as patch:
            patch.setattr(room.desk, "apply", refuse)
            with pytest.raises(Refused):
                await inbound.take(alerts, None)
        (taken,) = (await inbound.take(alerts, None)).taken
        assert (taken.repeated, room.desk.state.mode) == (False, Mode.LATCHED)


async def test_what_is_remembered_is_bounded_and_forgets_what_is_resolved(scene: Scene) -> None:
    """A thousand firing alerts at most."""
    async with scene.control() as room:
        inbound = Inbound(room.store, room.desk, room.latch, nobody)
        many = [foreign(fingerprint=str(number)) for number in range(MOST_REMEMBERED + 10)]
        await inbound.take(read_payload(payload(*many)), None)
        assert repr(inbound) == f"<Inbound remembered={MOST_REMEMBERED}>"
        gone = [{**one, "status": "resolved"} for one in many]
        await inbound.take(read_payload(payload(*gone)), None)
        assert repr(inbound) == "<Inbound remembered=0>"


anything = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
nearly = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["firing", "resolved", "x"]) | anything,
        "labels": st.dictionaries(st.text(), st.text()) | anything,
        "annotations": st.dictionaries(st.text(), st.text()) | anything,
        "startsAt": anything,
        "fingerprint": anything,
    },
)


@given(st.fixed_dictionaries({"alerts": st.lists(nearly | anything, max_size=4) | anything}))
def test_any_payload_is_read_or_refused_in_words(body: dict[str, Any]) -> None:
    """Nothing else ever comes of it, and what is read can be shown and stored."""
    alerts: tuple[ForeignAlert, ...] = ()
    try:
        alerts = read_payload(body)
    except MalformedError as error:
        refusal = str(error)
    else:
        refusal = "none"
    assert refusal
    for alert in alerts:
        json.dumps([alert.name, alert.reason, alert.key, alert.action]).encode()
