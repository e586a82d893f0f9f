"""What Alertmanager asks for: a rollback or an emergency, by a label of a firing alert.

Alertmanager repeats a group as long as it fires, and a redundant pair may send it twice. So each firing
alert (its fingerprint and start time) causes one action, remembered over restarts, and a repetition does
not undo an operator's release. A resolved alert does nothing; when it fires again, it may act again.

An unknown action is refused by itself. The answer says so every time, and people are told once for each
firing, because somebody relies on it.
"""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.control.latching import LatchDesk
from gateway.control.rollout.desk import RolloutDesk
from gateway.control.store.api import Store
from gateway.control.store.values import put, recall
from gateway.model.alerts import Severity
from gateway.model.rollout import Cause, Emergency, Notify, Rollback

LABEL = "gateway_action"
"""The label that asks for something."""
OPERATOR = "alertmanager"
"""The operator of what it asks for, where no token says a name."""
DOCUMENT = "alertmanager"
"""Name in the store of what was acted upon."""
MOST_REMEMBERED = 1000
"""Firing alerts that are remembered; the oldest go."""
_REASON_LIMIT = 1000


class Action(enum.StrEnum):
    """What the label may ask for."""

    ROLLBACK = "rollback"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class ForeignAlert:
    """One alert of Alertmanager's. `began` is when it started firing, as it was written."""

    firing: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    began: str
    fingerprint: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.labels.get("alertname", "an alert without a name")

    @property
    def asked(self) -> str | None:
        """What it asks for, in its own word; None for nothing."""
        return self.labels.get(LABEL)

    @property
    def action(self) -> Action | None:
        """What it asks for; None for nothing that is known."""
        return Action(self.asked) if self.asked in list(Action) else None

    @property
    def key(self) -> str:
        """The same for every repetition of one firing."""
        labels = self.fingerprint or json.dumps(sorted(self.labels.items()))
        return f"{labels} {self.began}"

    @property
    def reason(self) -> str:
        """Why, in words: its name, and what its annotations say."""
        said = [text for _, text in sorted(self.annotations.items()) if text]
        return ": ".join([self.name, *(["; ".join(said)] if said else [])])


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an alert that asked for something. `repeated`: it was acted upon before."""

    alert: str
    action: Action
    repeated: bool


@dataclass(frozen=True, slots=True)
class Ignored:
    """An alert that asked for something that is not known; `reason` says so."""

    alert: str
    asked: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of every firing alert that asked for something."""

    taken: tuple[Taken, ...]
    ignored: tuple[Ignored, ...]


class MalformedError(ValueError):
    """The payload is none of Alertmanager's; the message says where."""


def read_payload(payload: Mapping[str, Any]) -> tuple[ForeignAlert, ...]:
    """The alerts of a webhook's payload. Raises MalformedError.

    Its shape is prometheus.io/docs/alerting/latest/configuration/#webhook_config; members that are not
    used are not looked at, so that later versions fit.
    """
    alerts = payload.get("alerts")
    if not isinstance(alerts, list):
        raise MalformedError("alerts is not a list: this is no payload of Alertmanager's webhook")
    return tuple(_read_alert(alert, f"alerts[{place}]") for place, alert in enumerate(alerts))


def _read_alert(alert: object, place: str) -> ForeignAlert:
    if not isinstance(alert, dict):
        raise MalformedError(f"{place} is not an object")
    status = alert.get("status")
    if status not in ("firing", "resolved"):
        raise MalformedError(f"{place}.status is neither firing nor resolved")
    return ForeignAlert(
        status == "firing",
        _texts(alert.get("labels"), f"{place}.labels"),
        _texts(alert.get("annotations") or {}, f"{place}.annotations"),
        _text(alert.get("startsAt", ""), f"{place}.startsAt"),
        _text(alert.get("fingerprint", ""), f"{place}.fingerprint"),
    )


def _texts(value: object, place: str) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise MalformedError(f"{place} is not an object")
    return {_text(name, place): _text(text, f"{place}.{name}") for name, text in value.items()}


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{place} is not text")
    return value.encode(errors="replace").decode()  # JSON may smuggle in lone surrogates


@dataclass(frozen=True, slots=True)
class _Handled:
    """The firing alerts that were acted upon, oldest first."""

    keys: tuple[str, ...] = ()


class Inbound:
    """Acts on Alertmanager's alerts."""

    def __init__(
        self, store: Store, desk: RolloutDesk, latch: LatchDesk, tell: Callable[[Notify], None]
    ) -> None:
        """`tell` reaches people, without waiting."""
        self._store = store
        self._desk = desk
        self._latch = latch
        self._tell = tell
        self._turn = asyncio.Lock()
        before = recall(_Handled, store.document(DOCUMENT), "what Alertmanager asked for before")
        self._handled = before or _Handled()

    def __repr__(self) -> str:
        return f"<Inbound remembered={len(self._handled.keys)}>"

    async def take(self, alerts: Sequence[ForeignAlert], operator: str | None) -> Answer:
        """Act on the alerts that ask for something; `operator` is whose token came with them.

        Several new ones are one rollback, or one emergency if any asks for that. Raises what
        `RolloutDesk.apply` raises; then nothing is remembered, and a repetition is acted upon.
        """
        asking = [alert for alert in alerts if alert.firing and alert.asked is not None]
        async with self._turn:
            known = set(self._handled.keys)
            new = [alert for alert in asking if alert.key not in known]
            wanted = [(alert, alert.action) for alert in new if alert.action is not None]
            if wanted:
                await self._act(wanted, operator or OPERATOR)
            if unknown := [alert for alert in new if alert.action is None]:
                self._tell(_misunderstood(unknown))
            await self._remember(
                [alert.key for alert in new], [alert.key for alert in alerts if not alert.firing]
            )
        return Answer(
            tuple(
                Taken(alert.name, action, alert.key in known)
                for alert in asking
                if (action := alert.action) is not None
            ),
            tuple(
                Ignored(alert.name, alert.asked, _REASON)
                for alert in asking
                if alert.action is None and alert.asked is not None
            ),
        )

    async def _act(self, asking: Sequence[tuple[ForeignAlert, Action]], operator: str) -> None:
        reason = "; ".join(dict.fromkeys(alert.reason for alert, _ in asking))[:_REASON_LIMIT]
        found = {"alerts": [dict(alert.labels) for alert, _ in asking]}
        if any(action is Action.EMERGENCY for _, action in asking):
            await self._desk.apply(Emergency(operator=operator, reason=reason, metadata=found))
        else:
            await self._desk.apply(
                Rollback(operator=operator, reason=reason, cause=Cause.ALERT, evidence=found)
            )
        await self._latch.save()

    async def _remember(self, new: Iterable[str], gone: Iterable[str]) -> None:
        keys = dict.fromkeys((*self._handled.keys, *new))
        for key in gone:
            keys.pop(key, None)
        handled = _Handled(tuple(keys)[-MOST_REMEMBERED:])
        if handled == self._handled:
            return
        self._handled = handled
        await put(self._store, DOCUMENT, handled)


_REASON = f"{LABEL} is none of {', '.join(Action)}: nothing was done"


def _misunderstood(alerts: Sequence[ForeignAlert]) -> Notify:
    asked = "; ".join(f"{alert.name} asks for {alert.asked!r}" for alert in alerts)[:_REASON_LIMIT]
    return Notify(
        Severity.HIGH,
        "Alertmanager asks for what the gateway does not know",
        f"{_REASON}. {asked}",
        "Correct the label in the rule. What it was to do, by hand: `gateway rollback`, `gateway emergency`",
    )
