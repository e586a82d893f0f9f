"""With a real Alertmanager on the other side: what we push, and what its webhook does to a real gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.control.alerting import notices
from gateway.control.alerting.notifier import Notifier
from gateway.latch import LatchState
from gateway.model.alerts import Alert, Change, ChangeKind, Severity
from tests.support.alertmanager import Alertmanager, alertmanager
from tests.support.configs import complete, load_text
from tests.support.polling import eventually, soon
from tests.support.processes import Gateway

pytestmark = pytest.mark.process

EVERYBODY = {"deployment": {"initial_phase": "canary", "phases": {"canary": {"user_percentage": 100}}}}


def an_alert(severity: Severity) -> Alert:
    text = "error rate of treatment is 5 %"
    return Alert("error_rate", "treatment", severity, severity, text, time.time() - 60, 0.05, 0.02, 300.0, 99)


def engaged(latch: LatchState | None) -> LatchState | None:
    """The latch if it is engaged."""
    return latch if latch is not None and latch.engaged else None


async def until(running: Alertmanager, severities: list[str]) -> None:
    """Wait until exactly these alerts stand."""

    async def stands() -> bool:
        alerts = await asyncio.to_thread(running.alerts)
        return sorted(alert["labels"]["severity"] for alert in alerts) == severities

    await soon(stands, patience=10.0, interval=0.05)


async def test_alertmanager_takes_our_alerts_and_knows_when_they_are_over(tmp_path: Path) -> None:
    """Raised, graver (one alert still, not two), repeated, over."""
    with alertmanager(tmp_path) as running:
        text = f'notifications: {{channels: {{am: {{type: alertmanager, url: "{running.url}"}}}}}}'
        notifier = Notifier()
        notifier.follow(load_text(tmp_path, complete(text)).config)
        delivering = asyncio.create_task(notifier.run())
        try:
            change = Change(ChangeKind.RAISED, an_alert(Severity.HIGH), "")
            notifier.tell(notices.changed(change, time.time()))
            await until(running, ["high"])
            (taken,) = running.alerts()
            assert taken["labels"]["alertname"] == "GatewayErrorRate"
            assert taken["annotations"]["description"] == "error rate of treatment is 5 %"
            change = Change(ChangeKind.WORSENED, an_alert(Severity.CRITICAL), "", Severity.HIGH)
            notifier.tell(notices.changed(change, time.time()))
            await until(running, ["critical"])
            notifier.standing = lambda: [notices.lasting(an_alert(Severity.CRITICAL), time.time())]
            notifier.tell_what_stands()
            assert await notifier.drained(10.0)
            await until(running, ["critical"])
            notifier.standing = tuple
            change = Change(ChangeKind.RESOLVED, an_alert(Severity.CRITICAL), "", Severity.CRITICAL)
            notifier.tell(notices.changed(change, time.time()))
            await until(running, [])
            (view,) = notifier.channels()
            assert (view.failed, view.dropped) == (0, 0)
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)


def test_its_webhook_flips_a_gateway_and_its_repetitions_do_not_undo_a_release(
    tmp_path: Path, gateways: Callable[..., Gateway]
) -> None:
    """A firing alert with the label: everybody to control; released, it stays released while it repeats."""
    gateway = gateways(extra=EVERYBODY)
    gateway.start()
    admin = f"http://127.0.0.1:{gateway.admin_port}"
    assert gateway.arm() == "treatment"
    with alertmanager(tmp_path, f"{admin}/api/v1/alerts/alertmanager") as running:
        labels = {"alertname": "DspyAnswersBadly", "gateway_action": "emergency"}
        running.fire(labels, {"summary": "everything is wrong"})
        eventually("the alert flips the gateway", lambda: gateway.arm() == "control")
        latch = eventually("the latch is on disk", lambda: engaged(gateway.latch()))
        assert latch.operator == "alertmanager"
        assert latch.reason == "DspyAnswersBadly: everything is wrong"
        assert gateway.run("release", "--admin", admin).returncode == 0
        eventually("the release reaches every worker", lambda: gateway.arm() == "treatment")
        sent = running.notifications()
        eventually("it repeats itself", lambda: running.notifications() > sent, 30.0, interval=0.2)
        assert {gateway.get(user=f"u{n}").arm for n in range(20)} == {"treatment"}
