"""Notices for people, and the format that each kind of channel needs.

Pure values and pure translation. It does not know the address of a channel, so no secret can get into a
message; nor does it know who is told.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.control.rollout.views import timestamp
from gateway.core.advice import on_alert
from gateway.model.alerts import Alert, Change, ChangeKind, Severity

STANDS_FOR = 300.0
"""Seconds for which Alertmanager takes an alert to stand that is not told again: if we die, it ends."""
HAPPENED_STANDS_FOR = 900.0
"""Seconds for which it takes what happened once, such as a rollback, to stand."""
_TEXT_LIMIT = 2700
"""Characters of a text: Slack cuts a section's text at 3,000, and the advice stands below it."""


class NoticeKind(enum.StrEnum):
    """What a notice says of its subject."""

    HAPPENED = "happened"
    """Once, and that is all."""
    FIRING = "firing"
    """It lasts, until a notice of the same subject says that it is resolved."""
    UPDATED = "updated"
    """It lasts, and nobody need hear of it again: only machines, which go by what stands."""
    RESOLVED = "resolved"
    RECORD = "record"
    """What happened and how it went, told once it is all over."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be told. Times are Unix seconds; `since` is when it began.

    `labels` say what it is about: they are the same as long as it lasts. `severity` is how grave it is,
    or was at its worst where it is over; `before` is what was told last, where that differs. `advice`
    says what can be done about it.
    """

    kind: NoticeKind
    severity: Severity
    title: str
    text: str
    at: float
    since: float
    labels: Mapping[str, str]
    details: Mapping[str, Any] = field(default_factory=dict)
    before: Severity | None = None
    advice: str = ""

    @property
    def subject(self) -> str:
        """What it is about: of one subject the newest notice is what holds."""
        return " ".join(value for name, value in sorted(self.labels.items()) if name != "event")


def happened(severity: Severity, title: str, text: str, at: float, advice: str = "") -> Notice:
    """A notice of the rollout's."""
    labels = {"alertname": "GatewayRollout", "event": title}
    return Notice(NoticeKind.HAPPENED, severity, title, text, at, at, labels, advice=advice)


def record(title: str, text: str, at: float, since: float, details: Mapping[str, Any]) -> Notice:
    """What happened, after it."""
    labels = {"alertname": "GatewayRecord", "event": title}
    return Notice(NoticeKind.RECORD, Severity.LOW, title, text, at, since, labels, details)


def lasting(alert: Alert, at: float) -> Notice:
    """An alert that stands, and that people have heard of."""
    return _of_alert(NoticeKind.UPDATED, alert.severity, alert, alert.message, at)


def changed(change: Change, at: float) -> Notice:
    """What is new about an alert."""
    alert = change.alert
    match change.kind:
        case ChangeKind.RAISED:
            return _of_alert(NoticeKind.FIRING, alert.severity, alert, alert.message, at)
        case ChangeKind.WORSENED:
            return _of_alert(NoticeKind.FIRING, alert.severity, alert, alert.message, at, change.before)
        case ChangeKind.EASED:
            return _of_alert(NoticeKind.UPDATED, alert.severity, alert, alert.message, at, change.before)
        case ChangeKind.RESOLVED:
            why = change.reason.removeprefix(_over(alert)).removeprefix(": ")  # the title says the rest
            text = "; ".join(filter(None, (why, f"last: {alert.message}")))
            return _of_alert(NoticeKind.RESOLVED, alert.worst, alert, text, at, change.before)


def _over(alert: Alert) -> str:
    return f"{alert.subject} is over"


def _of_alert(
    kind: NoticeKind, severity: Severity, alert: Alert, text: str, at: float, before: Severity | None = None
) -> Notice:
    over = kind is NoticeKind.RESOLVED
    title, advice = (_over(alert), "") if over else (alert.subject, on_alert(*alert.key))
    labels = {"alertname": _camel(alert.type), "type": alert.type}
    if alert.arm:
        labels["arm"] = alert.arm
    details = {
        "value": alert.value,
        "threshold": alert.threshold,
        "window": alert.window,
        "samples": alert.samples,
    }
    return Notice(kind, severity, title, text, at, alert.since, labels, details, before, advice)


def _camel(name: str) -> str:
    return "Gateway" + "".join(part.capitalize() for part in name.split("_"))


# --- as channels want it --------------------------------------------------------------------------


def webhook(notice: Notice) -> bytes:
    """One JSON object that says everything."""
    return _json(
        {
            "kind": notice.kind.value,
            "severity": notice.severity.value,
            "title": notice.title,
            "text": notice.text,
            "advice": notice.advice,
            "at": timestamp(notice.at),
            "since": timestamp(notice.since),
            "labels": dict(notice.labels),
            "details": dict(notice.details),
        }
    )


_COLOURS = {
    Severity.CRITICAL: "#b00020",
    Severity.HIGH: "#e65100",
    Severity.MEDIUM: "#f9a825",
    Severity.LOW: "#607d8b",
}
_OVER = "#2e7d32"


def slack(notice: Notice) -> bytes:
    """An incoming webhook's message (docs.slack.dev, "Sending messages using incoming webhooks")."""
    over = notice.kind is NoticeKind.RESOLVED
    head = "RESOLVED" if over else notice.severity.value.upper()
    if notice.kind is NoticeKind.RECORD:
        head = "RECORD"
    title = f"{head}: {_escaped(notice.title)}"
    body = {
        "color": _OVER if over else _COLOURS[notice.severity],
        "title": title,
        "text": _escaped("\n".join(filter(None, (notice.text[:_TEXT_LIMIT], notice.advice)))),
        "fallback": title,
        "footer": _escaped(notice.labels.get("instance", "")),
        "ts": int(notice.at),
    }
    return _json({"text": title, "attachments": [body]})


def _escaped(text: str) -> str:
    """The three characters that Slack takes for markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def alertmanager(notice: Notice) -> bytes:
    """The body of `POST /api/v2/alerts` (Alertmanager's openapi.yaml, postableAlerts).

    An alert is told from another by its labels, and its severity is one of them: where that moved, the
    alert of the severity before ends.
    """
    alerts = [_postable(notice)]
    if notice.before is not None and notice.kind is not NoticeKind.RESOLVED:
        alerts.append(_postable(notice, ended=notice.before))
    if notice.kind is NoticeKind.RESOLVED:
        alerts = [_postable(notice, ended=notice.before or notice.severity)]
    return _json(alerts)


def standing(notices: Iterable[Notice]) -> bytes:
    """The body that says which alerts stand still."""
    return _json([_postable(notice) for notice in notices])


def _postable(notice: Notice, ended: Severity | None = None) -> dict[str, Any]:
    lasts = HAPPENED_STANDS_FOR if notice.kind is NoticeKind.HAPPENED else STANDS_FOR
    severity = notice.severity if ended is None else ended
    advice = {"advice": notice.advice} if notice.advice else {}
    return {
        "labels": {**notice.labels, "severity": severity.value},
        "annotations": {"summary": notice.title, "description": notice.text} | advice,
        "startsAt": timestamp(min(notice.since, notice.at)),
        "endsAt": timestamp(notice.at if ended is not None else notice.at + lasts),
    }


def _json(document: object) -> bytes:
    return json.dumps(document).encode()
