"""Messages to real receivers: who gets what, in which words, and what happens when a receiver misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import logs
from gateway.control.alerting import notices
from gateway.control.alerting import notifier as notifier_module
from gateway.control.alerting.notices import Notice, NoticeKind, happened, record
from gateway.control.alerting.notifier import Notifier, instance_of
from gateway.control.alerting.outbox import CAPACITY, MOST_REFUSALS, Message, Outbox, Patience
from gateway.control.alerting.waiting import unpack
from gateway.core.advice import on_alert
from gateway.model.alerts import Alert, Change, ChangeKind, Severity
from gateway.model.config import Config
from tests.support.configs import complete, load_text
from tests.support.polling import OF_TASKS, soon, turns
from tests.support.processes import free_port
from tests.support.receivers import TOKEN, Receiver, receiving

pytestmark = pytest.mark.socket

NOW = 1_800_000_000.0
IMPATIENT = Patience(one_try=5.0, first_pause=0.001, longest_pause=0.01, give_up=10.0)
RESIGNED = replace(IMPATIENT, give_up=0.5)
LONG = Patience(first_pause=3600.0, longest_pause=3600.0)
"""A pause that no test sees the end of."""
CRITICAL, HIGH, MEDIUM, LOW = Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW


def alert(severity: Severity = HIGH, worst: Severity | None = None, name: str = "error_rate") -> Alert:
    return Alert(
        name, "treatment", severity, worst or severity, "it is bad <&>", NOW - 60, 0.5, 0.02, 300.0, 99
    )


def raised(severity: Severity = HIGH) -> Notice:
    return notices.changed(Change(ChangeKind.RAISED, alert(severity), "it is bad"), NOW)


def channel(receiver: Receiver, kind: str = "webhook", severities: str = "critical, high, medium") -> str:
    return f'{{type: {kind}, url: "{receiver.url}", severities: [{severities}]}}'


def config(folder: Path, channels: dict[str, str], contacts: str = "{}", teams: str = "[]") -> Config:
    lines = "\n".join(f"    {name}: {text}" for name, text in channels.items())
    text = f"""\
notifications:
  channels:
{lines}
  contacts: {contacts}
deployment:
  rollback: {{emergency_contacts: {teams}}}
"""
    return load_text(folder, complete(text)).config


@contextlib.asynccontextmanager
async def notifying(
    config: Config, patience: Patience = IMPATIENT, **options: Any
) -> AsyncIterator[Notifier]:
    """A notifier at work."""
    notifier = Notifier(
        outbox=lambda name, url: Outbox(name, url, patience), now=lambda: NOW, resend_interval=60.0, **options
    )
    notifier.follow(config)
    running = asyncio.create_task(notifier.run())
    try:
        yield notifier
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def one_channel(
    folder: Path, *statuses: int, kind: str = "webhook"
) -> AsyncIterator[tuple[Notifier, Receiver]]:
    """A notifier with one channel, and what is at its end."""
    async with (
        receiving(*statuses) as receiver,
        notifying(config(folder, {"hook": channel(receiver, kind)})) as notifier,
    ):
        yield notifier, receiver


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every log line, whatever its level."""
    lines: list[str] = []
    monkeypatch.setattr(logs, "_say", lambda level, event, fields: lines.append(f"{event} {fields}"))
    return lines


# --- who gets what --------------------------------------------------------------------------------


async def test_a_channel_gets_what_its_severities_name(tmp_path: Path) -> None:
    """Low alerts are logged only, unless a channel names them."""
    async with receiving() as some, receiving() as every:
        channels = {"some": channel(some), "every": channel(every, severities="critical, high, medium, low")}
        async with notifying(config(tmp_path, channels)) as notifier:
            for severity in Severity:
                notifier.tell(raised(severity))
            assert await notifier.drained(OF_TASKS)
    assert [body["severity"] for body in some.bodies] == ["critical", "high", "medium"]
    assert [body["severity"] for body in every.bodies] == ["critical", "high", "medium", "low"]


async def test_a_team_on_call_gets_critical_and_high_and_another_the_record(tmp_path: Path) -> None:
    """Whatever their channels are for otherwise; nobody gets anything twice."""
    async with receiving() as oncall, receiving() as product:
        channels = {
            "pager": channel(oncall, severities="critical"),
            "product": channel(product, severities=""),
        }
        contacts = "{engineering: pager, sre: pager, product: product}"
        teams = (
            "[{team: engineering, oncall: true}, {team: sre, oncall: true}, {team: product, oncall: false}]"
        )
        async with notifying(config(tmp_path, channels, contacts, teams)) as notifier:
            for severity in Severity:
                notifier.tell(happened(severity, str(severity), "text", NOW))
            notifier.tell(record("rollback", "how it went", NOW, NOW, {"number": 1}))
            assert await notifier.drained(OF_TASKS)
    assert oncall.titles == ["critical", "high"]
    assert (product.titles, product.bodies[0]["kind"]) == (["rollback"], "record")


async def test_whoever_was_told_is_told_that_it_is_over(tmp_path: Path) -> None:
    """By the worst that it was, though it had eased by then; easing itself is no message."""
    async with receiving() as pager, receiving() as other:
        channels = {"pager": channel(pager, severities="critical"), "other": channel(other, severities="low")}
        async with notifying(config(tmp_path, channels)) as notifier:
            notifier.tell(raised(CRITICAL))
            eased = Change(ChangeKind.EASED, alert(MEDIUM, CRITICAL), "better", CRITICAL)
            over = Change(ChangeKind.RESOLVED, alert(MEDIUM, CRITICAL), "better", MEDIUM)
            notifier.tell(notices.changed(eased, NOW))
            notifier.tell(notices.changed(over, NOW))
            assert await notifier.drained(OF_TASKS)
    assert [body["kind"] for body in pager.bodies] == ["firing", "resolved"]
    assert [body["kind"] for body in other.bodies] == ["resolved"]


# --- in which words -------------------------------------------------------------------------------


async def test_a_webhook_gets_everything_as_json(tmp_path: Path) -> None:
    """Labels, value, threshold, window, samples and times."""
    async with receiving() as receiver, notifying(config(tmp_path, {"hook": channel(receiver)})) as notifier:
        notifier.tell(raised(HIGH))
        assert await notifier.drained(OF_TASKS)
    assert receiver.bodies == [
        {
            "kind": "firing",
            "severity": "high",
            "title": "error_rate of treatment",
            "text": "it is bad <&>",
            "advice": on_alert("error_rate", "treatment"),
            "at": "2027-01-15T08:00:00.000Z",
            "since": "2027-01-15T07:59:00.000Z",
            "labels": {"alertname": "GatewayErrorRate", "type": "error_rate", "arm": "treatment"},
            "details": {"value": 0.5, "threshold": 0.02, "window": 300.0, "samples": 99},
        }
    ]


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("error_rate of treatment is over", "last: it is bad <&>"),
        (
            "error_rate of treatment is over: better for 3 windows of 5m",
            "better for 3 windows of 5m; last: it is bad <&>",
        ),
    ],
)
def test_what_is_over_is_said_once(reason: str, text: str) -> None:
    """The title says that it is over, the text why and what it was."""
    notice = notices.changed(Change(ChangeKind.RESOLVED, alert(), reason), NOW)
    assert (notice.title, notice.text) == ("error_rate of treatment is over", text)


async def test_slack_gets_a_message_in_its_markup(tmp_path: Path) -> None:
    """With a text for notifications, a colour, and nothing that Slack takes for markup."""
    async with one_channel(tmp_path, kind="slack") as (notifier, receiver):
        notifier.tell(raised(HIGH))
        assert await notifier.drained(OF_TASKS)
    (body,) = receiver.bodies
    (attachment,) = body["attachments"]
    assert body["text"] == "HIGH: error_rate of treatment"
    assert attachment["text"] == f"it is bad &lt;&amp;&gt;\n{on_alert('error_rate', 'treatment')}"
    assert attachment["color"].startswith("#")


async def test_alertmanager_gets_alerts_that_end_by_themselves_and_is_told_again(tmp_path: Path) -> None:
    """Version 2 of its API; what stands is repeated, so that it ends if the gateway does."""
    async with receiving() as receiver:
        loaded = config(tmp_path, {"am": channel(receiver, "alertmanager")})
        async with notifying(loaded) as notifier:
            notifier.tell(raised(HIGH))
            assert await notifier.drained(OF_TASKS)
            await soon(lambda: len(receiver.bodies) == 1)
            notifier.standing = lambda: [notices.lasting(alert(HIGH), NOW), notices.lasting(alert(LOW), NOW)]
            notifier.tell_what_stands()
            assert await notifier.drained(OF_TASKS)
    assert set(receiver.paths) == {f"/{TOKEN}/api/v2/alerts"}
    first, again = receiver.bodies
    assert first == again
    assert first == [
        {
            "labels": {
                "alertname": "GatewayErrorRate",
                "type": "error_rate",
                "arm": "treatment",
                "severity": "high",
            },
            "annotations": {
                "summary": "error_rate of treatment",
                "description": "it is bad <&>",
                "advice": on_alert("error_rate", "treatment"),
            },
            "startsAt": "2027-01-15T07:59:00.000Z",
            "endsAt": "2027-01-15T08:05:00.000Z",
        }
    ]


async def test_alertmanager_s_alert_of_the_severity_before_ends(tmp_path: Path) -> None:
    """The severity is one of the labels: an alert that became graver is another one."""
    async with one_channel(tmp_path, kind="alertmanager") as (notifier, receiver):
        worse = Change(ChangeKind.WORSENED, alert(CRITICAL), "worse", HIGH)
        notifier.tell(notices.changed(worse, NOW))
        over = Change(ChangeKind.RESOLVED, alert(CRITICAL), "over", CRITICAL)
        notifier.tell(notices.changed(over, NOW))
        assert await notifier.drained(OF_TASKS)
    ends = [
        [(one["labels"]["severity"], one["endsAt"] > "2027-01-15T08:00:00.000Z") for one in body]
        for body in receiver.bodies
    ]
    assert ends == [[("critical", True), ("high", False)], [("critical", False)]]


async def test_everybody_is_told_which_gateway_it_is(tmp_path: Path) -> None:
    """In a fleet all send the same alerts: the recovery of one must not end those of the others."""
    kinds = ("webhook", "slack", "alertmanager")
    async with receiving() as hook, receiving() as slack, receiving() as manager:
        receivers = dict(zip(kinds, (hook, slack, manager), strict=True))
        loaded = config(tmp_path, {kind: channel(receivers[kind], kind) for kind in kinds})
        async with notifying(loaded, instance="pipeline-0:9900") as notifier:
            notifier.standing = lambda: [notices.lasting(alert(HIGH), NOW)]
            notifier.tell(raised(HIGH))
            assert await notifier.drained(OF_TASKS)
            notifier.tell_what_stands()
            assert await notifier.drained(OF_TASKS)
    assert hook.bodies[0]["labels"]["instance"] == "pipeline-0:9900"
    assert slack.bodies[0]["attachments"][0]["footer"] == "pipeline-0:9900"
    assert {one["labels"]["instance"] for body in manager.bodies for one in body} == {"pipeline-0:9900"}


def test_a_gateway_is_told_apart_by_machine_and_admin_port(tmp_path: Path) -> None:
    """The machine's name is the pod's; on one machine each has an admin port of its own."""
    machine = socket.gethostname()
    for address, instance in (("127.0.0.1:9911", f"{machine}:9911"), (f"unix:{tmp_path}/admin", machine)):
        found = load_text(tmp_path, complete(f'admin: {{address: "{address}"}}')).config
        assert instance_of(found) == instance


# --- receivers that misbehave ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_a_failure_that_may_pass_is_tried_again(tmp_path: Path, status: int) -> None:
    """Until it arrives, once, and in order."""
    async with one_channel(tmp_path, status, status, status) as (notifier, receiver):
        notifier.tell(raised(HIGH))
        notifier.tell(raised(CRITICAL))
        assert await notifier.drained(OF_TASKS)
        (view,) = notifier.channels()
    assert [body["severity"] for body in receiver.bodies] == ["high", "critical"]
    assert (view.sent, view.failed, view.dropped, view.error) == (2, 3, 0, "")


@pytest.mark.parametrize("status", [400, 404, 410, 301])
async def test_a_refusal_for_good_is_not_tried_again(tmp_path: Path, said: list[str], status: int) -> None:
    """What was dropped is counted and said; the next message is not held up."""
    async with one_channel(tmp_path, status) as (notifier, receiver):
        notifier.tell(raised(HIGH))
        notifier.tell(raised(CRITICAL))
        assert await notifier.drained(OF_TASKS)
        (view,) = notifier.channels()
    assert (receiver.tries, view.sent, view.failed, view.dropped) == (2, 1, 1, 1)
    assert any(line.startswith("notification dropped") and f"answered {status}" in line for line in said)


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """It would carry the message, and the secret in its address, to somebody else."""
    async with receiving() as other, one_channel(tmp_path, 307) as (notifier, receiver):
        receiver.headers["Location"] = other.url
        notifier.tell(raised(HIGH))
        assert await notifier.drained(OF_TASKS)
        assert (receiver.tries, other.tries, notifier.channels()[0].error) == (1, 0, "answered 307")


async def test_it_is_given_up_after_a_while(tmp_path: Path) -> None:
    """Half a second here; it is tried again until then."""
    async with receiving(*[500] * 1000) as receiver:
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded, RESIGNED) as notifier:
            notifier.tell(raised(HIGH))
            assert await notifier.drained(OF_TASKS)
            (view,) = notifier.channels()
    assert (view.sent, view.dropped, view.error) == (0, 1, "answered 500")
    assert receiver.tries == view.failed > 1


async def test_what_a_receiver_chokes_on_holds_up_nothing_else(tmp_path: Path) -> None:
    """An emergency arrives although a message before it never will."""
    async with receiving() as receiver:
        receiver.choking = "GatewayErrorRate"
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded, LONG) as notifier:
            notifier.tell(raised(HIGH))
            await soon(lambda: notifier.channels()[0].failed == 1)
            notifier.tell(happened(CRITICAL, "emergency", "by ann", NOW))
            await soon(lambda: receiver.titles == ["emergency"])


async def test_what_a_receiver_chokes_on_is_given_up_for_later_news_of_its_subject(
    tmp_path: Path, said: list[str]
) -> None:
    """After some refusals the next message is tried as well; its arrival shows whose fault it was."""
    async with receiving() as receiver:
        receiver.choking = "approved"
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded) as notifier:
            notifier.tell(happened(HIGH, "gate approved", "by ann", NOW))
            await soon(lambda: notifier.channels()[0].failed > MOST_REFUSALS)
            assert notifier.channels()[0].waiting == 1  # nothing shows yet that it is not the receiver
            notifier.tell(happened(HIGH, "phase advanced", "by ann", NOW))
            notifier.tell(happened(HIGH, "rolled back", "by bob", NOW))
            assert await notifier.drained(OF_TASKS)
    assert receiver.titles == ["phase advanced", "rolled back"]
    (view,) = notifier.channels()
    assert (view.sent, view.dropped) == (2, 1)
    (line,) = (line for line in said if line.startswith("notification dropped"))
    assert "gate approved" in line
    assert "a later one was not" in line


async def test_nothing_is_given_up_where_the_receiver_refuses_everything(tmp_path: Path) -> None:
    """It is the receiver's fault then; once it is back, everything arrives in its order."""
    titles = ["phase advanced", "rolled back", "latch released"]
    tries = 5 + 1, 1 + 1, 1 + 1, 1 + 1, 1 + 1 + 1  # of the first, and of those behind it
    async with one_channel(tmp_path, *[500] * sum(tries)) as (notifier, receiver):
        for title in titles:
            notifier.tell(happened(HIGH, title, "by ann", NOW))
        assert await notifier.drained(OF_TASKS)
    assert receiver.titles == titles
    assert notifier.channels()[0].dropped == 0


async def test_the_gravest_goes_first(tmp_path: Path) -> None:
    """Where several wait; of one subject the oldest, for the newest is what holds."""
    async with receiving() as receiver:
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded) as notifier:
            notifier.tell(raised(MEDIUM))
            notifier.tell(happened(HIGH, "latch released", "by ann", NOW))
            notifier.tell(happened(CRITICAL, "emergency", "by bob", NOW))
            assert await notifier.drained(OF_TASKS)
    assert receiver.titles == ["latch released", "emergency", "error_rate of treatment"]


async def test_news_of_a_subject_does_not_wait_for_the_pause_of_older_news(tmp_path: Path) -> None:
    """The receiver may be back since: what is in the way is tried at once."""
    async with receiving(500) as receiver:
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded, LONG) as notifier:
            notifier.tell(happened(CRITICAL, "emergency", "by ann", NOW))
            await soon(lambda: notifier.channels()[0].failed == 1)
            notifier.tell(happened(HIGH, "latch released", "by ann", NOW))
            await soon(lambda: receiver.titles == ["emergency", "latch released"])


async def test_a_receiver_that_asks_for_a_pause_gets_it(tmp_path: Path) -> None:
    """For every message: it is the receiver that has too much to do."""
    async with receiving(429) as receiver:
        receiver.headers["Retry-After"] = "3600"
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded, LONG) as notifier:
            notifier.tell(raised(HIGH))
            await soon(lambda: notifier.channels()[0].failed == 1)
            notifier.tell(happened(CRITICAL, "emergency", "by ann", NOW))
            assert not await notifier.drained(0.1)
            assert (receiver.tries, notifier.channels()[0].waiting) == (1, 2)


async def test_a_receiver_that_never_answers_holds_nobody_up(tmp_path: Path) -> None:
    """Neither who tells, nor the other channels; its message is given up."""
    async with receiving(stalled=True) as deaf, receiving() as good:
        channels = {"deaf": channel(deaf), "good": channel(good)}
        async with notifying(config(tmp_path, channels), replace(IMPATIENT, one_try=1.0)) as notifier:
            began = time.process_time()
            for _ in range(50):
                notifier.tell(raised(HIGH))
            assert time.process_time() - began < 0.2
            await soon(lambda: len(good.bodies) >= 50)
            await soon(lambda: notifier.channels()[0].failed > 0)
            assert "no answer within" in notifier.channels()[0].error


async def test_nobody_listening_is_a_failure_like_others(tmp_path: Path) -> None:
    """The reason is the system's, not the address."""
    text = f'{{type: webhook, url: "http://127.0.0.1:{free_port()}/{TOKEN}"}}'
    async with notifying(config(tmp_path, {"hook": text}), RESIGNED) as notifier:
        notifier.tell(raised(HIGH))
        await soon(lambda: notifier.channels()[0].dropped == 1)
        assert notifier.channels()[0].error == "Connection refused"


@contextlib.asynccontextmanager
async def first_under_way() -> AsyncIterator[Outbox]:
    """An outbox whose first message is at a receiver that does not answer."""
    async with receiving(stalled=True) as deaf, aiohttp.ClientSession() as session:
        box = Outbox("hook", deaf.url)
        box.put(Message(LOW, "under way", b"{}", topic="under way"))
        running = asyncio.create_task(box.run(session))
        await soon(lambda: deaf.tries == 1)
        yield box
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_full_queue_drops_the_least_grave_first(said: list[str]) -> None:
    """The oldest of them; what is under way stays."""
    async with first_under_way() as box:
        box.put(Message(LOW, "low", b""))
        for number in range(CAPACITY):
            box.put(Message(HIGH, f"high {number}", b""))
        assert (len(box.waiting), box.deliveries.dropped) == (CAPACITY, 2)
    dropped = [line for line in said if line.startswith("notification dropped")]
    assert ["'low'" in dropped[0], "'high 0'" in dropped[1]] == [True, True]


async def test_only_the_newest_of_a_topic_waits() -> None:
    """A deaf Alertmanager does not gather repetitions; what is under way to it stays."""
    async with first_under_way() as box:
        for number in range(10):
            box.put(Message(LOW, f"newer {number}", b"", topic="under way"))
        assert [message.title for message in box.waiting] == ["under way", "newer 9"]


@pytest.mark.parametrize(("failures", "most"), [(1, 2), (3, 8), (99, 300)])
def test_pauses_double_up_to_a_limit(failures: int, most: float) -> None:
    """Of random length, so that not all gateways come back at once."""
    pauses = [Patience().pause(failures) for _ in range(200)]
    assert 0 <= min(pauses) < most / 2 < max(pauses) <= most


# --- reloads, ends, secrets -----------------------------------------------------------------------


async def test_a_reload_keeps_what_waits_for_a_channel_that_stays(tmp_path: Path, said: list[str]) -> None:
    """With other severities at once; what waits for one that went is dropped and said."""
    async with receiving(stalled=True) as stays, receiving(stalled=True) as goes:
        before = config(tmp_path, {"stays": channel(stays), "goes": channel(goes)})
        after = config(tmp_path, {"stays": channel(stays, severities="low")})
        async with notifying(before, Patience()) as notifier:
            notifier.tell(raised(HIGH))
            notifier.follow(after)
            notifier.tell(raised(CRITICAL))
            notifier.tell(raised(LOW))
            stays.stalled.set()
            assert await notifier.drained(OF_TASKS)
    assert [body["severity"] for body in stays.bodies] == ["high", "low"]
    assert any("taken out of the config" in line and "goes" in line for line in said)


async def test_what_was_just_said_is_still_delivered_at_the_end(tmp_path: Path) -> None:
    """An emergency and then a stop: somebody hears of it."""
    async with receiving() as receiver:
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded) as notifier:
            await turns()
            notifier.tell(raised(CRITICAL))
        assert len(receiver.bodies) == 1


async def test_what_is_critical_or_high_survives_the_process_that_was_to_tell_it(tmp_path: Path) -> None:
    """In its order and once; the rest is not worth telling late, and what has arrived is not kept."""
    kept: list[bytes] = []
    async with receiving(stalled=True) as receiver:
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded, Patience(), keep=kept.append) as notifier:
            for severity in (CRITICAL, MEDIUM, HIGH):
                notifier.tell(raised(severity))
            await asyncio.sleep(0)
            killed = kept[-1]
    async with receiving() as receiver:
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded, keep=kept.append, left=unpack(killed)) as notifier:
            await asyncio.sleep(0)
            assert kept[-1] == killed
            assert await notifier.drained(OF_TASKS)
        assert [body["severity"] for body in receiver.bodies] == ["critical", "high"]
    assert unpack(kept[-1]) == {}


async def test_what_was_left_for_a_channel_that_is_gone_is_said(tmp_path: Path, said: list[str]) -> None:
    """The config changed while nobody was there."""
    left = {("gone", "webhook"): [Message(CRITICAL, "a title", b"{}")]}
    async with receiving() as receiver:
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded, left=left) as notifier:
            assert await notifier.drained(OF_TASKS)
    assert receiver.bodies == []
    assert any("notification dropped" in line and "gone" in line for line in said)


async def test_what_has_not_arrived_at_the_end_is_said(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whatever severity: the log is the last one to know."""
    monkeypatch.setattr(notifier_module, "LAST_PATIENCE", 0.01)
    async with receiving(stalled=True) as receiver:
        loaded = config(tmp_path, {"hook": channel(receiver)})
        async with notifying(loaded, Patience()) as notifier:
            await asyncio.sleep(0)
            notifier.tell(raised(MEDIUM))
    assert any("not delivered yet" in line and "'hook': 1" in line for line in said)


async def test_a_fault_in_the_notifier_s_own_task_is_not_silent(tmp_path: Path) -> None:
    """It ends `run`, which the task keeper starts again; what waits is delivered then."""
    async with receiving() as receiver:
        notifier = Notifier()
        notifier.follow(config(tmp_path, {"am": channel(receiver, "alertmanager")}))

        def broken() -> list[Notice]:
            raise RuntimeError("broken")

        notifier.standing = broken
        with pytest.raises(RuntimeError, match="broken"):
            await notifier.run()


async def test_a_channel_s_address_is_nowhere_to_be_seen(
    tmp_path: Path, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the log, the views, or any repr: it often is its own password."""
    caplog.set_level(logging.DEBUG)
    async with receiving(500, 404) as receiver:
        channels = {
            "hook": channel(receiver),
            "gone": f'{{type: slack, url: "http://127.0.0.1:{free_port()}/{TOKEN}"}}',
        }
        loaded = config(tmp_path, channels)
        async with notifying(loaded, RESIGNED) as notifier:
            notifier.tell(raised(HIGH))
            assert await notifier.drained(OF_TASKS)
            ours = [line.getMessage() for line in caplog.records if line.name != "aiohttp.access"]
            shown = [*said, *ours, repr(notifier), repr(notifier.channels()), repr(loaded)]
            shown.append(json.dumps([str(view) for view in notifier.channels()]))
    assert said
    assert not [text for text in shown if TOKEN in text]


def test_every_kind_of_notice_is_written_for_every_kind_of_channel() -> None:
    """Nothing fails on the way to people."""
    for kind in NoticeKind:
        notice = Notice(kind, HIGH, "title", "text", NOW, NOW, {"alertname": "x"}, {}, MEDIUM)
        for write in (notices.webhook, notices.slack, notices.alertmanager):
            assert json.loads(write(notice))
