"""Who is told what, and by which channel: notices in, messages in the channels' outboxes.

Three rules. A channel gets the severities that it names. A team on call gets everything critical or high
at once, whatever its channel is for. A team not on call gets the record of a rollback after it. Whoever
was told of an alert is told when it is over, and no channel is told anything twice. Alertmanager is a
machine and forgets what is not repeated, so active alerts are sent to it again and again. Critical and
high messages survive the control process; if it was killed, they may be sent twice.

`tell` never waits. It does not know what is worth telling, nor how a message is delivered; see `outbox`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import aiohttp

from gateway import logs
from gateway.control.alerting import notices
from gateway.control.alerting.notices import Notice, NoticeKind
from gateway.control.alerting.outbox import Message, Outbox, OutboxFactory
from gateway.control.alerting.waiting import Place, pack
from gateway.model.alerts import GRAVITY, Severity
from gateway.model.config import Channel, ChannelType, Config
from gateway.model.units import TcpAddress

RESEND_INTERVAL = 60.0
"""Seconds between two repetitions of what stands, for Alertmanager; Prometheus repeats as often."""
LAST_PATIENCE = 1.0
"""Seconds that the end of the process leaves for what was just said."""
ALERTS_PATH = "/api/v2/alerts"
_PAGED = frozenset((Severity.CRITICAL, Severity.HIGH))
_USER_AGENT = {"User-Agent": "gateway"}
_RESEND = "resend"


@dataclass(frozen=True, slots=True)
class Recipient:
    """A channel and what it is for. `paged`: a team on call; `recorded`: one that is not."""

    name: str
    type: ChannelType
    url: str = field(repr=False)
    severities: frozenset[Severity]
    paged: bool = False
    recorded: bool = False

    def hears(self, notice: Notice) -> bool:
        """True if the notice is for this channel."""
        heard = self.severities | (_PAGED if self.paged else frozenset())
        match notice.kind:
            case NoticeKind.RECORD:
                return self.recorded
            case NoticeKind.UPDATED:
                worst = notice.severity if notice.before is None else notice.before
                return self.type is ChannelType.ALERTMANAGER and not heard.isdisjoint(_up_to(worst))
            case NoticeKind.RESOLVED:
                return not heard.isdisjoint(_up_to(notice.severity))
            case NoticeKind.FIRING | NoticeKind.HAPPENED:
                return notice.severity in heard


def _up_to(worst: Severity | None) -> frozenset[Severity]:
    """Everything that an alert may have been told as, if this was its worst."""
    most = 0 if worst is None else GRAVITY[worst]
    return frozenset(severity for severity, gravity in GRAVITY.items() if gravity <= most)


def recipients(config: Config) -> tuple[Recipient, ...]:
    """The config's channels, each with the teams that it stands for."""
    contacts = config.notifications.contacts
    teams = config.deployment.rollback.emergency_contacts
    paged = {contacts[team.team] for team in teams if team.oncall and team.team in contacts}
    recorded = {contacts[team.team] for team in teams if not team.oncall and team.team in contacts}
    return tuple(
        Recipient(
            name,
            channel.type,
            _address(channel),
            frozenset(channel.severities),
            paged=name in paged,
            recorded=name in recorded,
        )
        for name, channel in config.notifications.channels.items()
    )


def instance_of(config: Config) -> str:
    """What tells a gateway from its likes: the machine's name, which is the pod's, and the admin port.

    In a fleet all send the same alerts to the same Alertmanager, which goes by labels: without this one
    the recovery of any would end the alert of all.
    """
    address = config.admin.address
    machine = socket.gethostname()
    return f"{machine}:{address.port}" if isinstance(address, TcpAddress) and address.port else machine


def _address(channel: Channel) -> str:
    url = channel.url.get_secret_value()
    if channel.type is not ChannelType.ALERTMANAGER or url.rstrip("/").endswith(ALERTS_PATH):
        return url
    return url.rstrip("/") + ALERTS_PATH


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel as people see it."""

    name: str
    type: str
    severities: tuple[str, ...]
    waiting: int
    sent: int
    failed: int
    dropped: int
    error: str


_NOTHING_LEFT: Mapping[Place, Sequence[Message]] = {}


def _keep_nothing(_: bytes) -> None:
    """Where nobody is there to keep anything."""


class Notifier:
    """See the module. `run` delivers for ever."""

    def __init__(
        self,
        instance: str = "",
        *,
        left: Mapping[Place, Sequence[Message]] = _NOTHING_LEFT,
        keep: Callable[[bytes], None] = _keep_nothing,
        resend_interval: float = RESEND_INTERVAL,
        outbox: OutboxFactory = Outbox,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`instance` tells this gateway from others that tell the same people; see `instance_of`.

        `left` are the messages that an earlier control process did not deliver. `keep` gets those that
        must not get lost (`waiting.pack`) whenever they change, for the next one.
        """
        self.standing: Callable[[], Iterable[Notice]] = tuple
        """The alerts that stand: what Alertmanager is told again and again."""
        self._labels = {"instance": instance} if instance else {}
        self._resend_interval = resend_interval
        self._make = outbox
        self._now = now
        self._left = dict(left)
        self._keep = keep
        self._kept = b""
        self._remembering = False
        self._boxes: dict[Recipient, Outbox] = {}
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Notifier {list(self._boxes.values())}>"

    def follow(self, config: Config) -> None:
        """Use these channels from now on. One that did not change keeps what waits for it."""
        before, self._boxes = self._boxes, {}
        kept = {(recipient.name, recipient.type, recipient.url): box for recipient, box in before.items()}
        for recipient in recipients(config):
            box = kept.pop((recipient.name, recipient.type, recipient.url), None)
            self._boxes[recipient] = box or self._opened(recipient)
        for box in kept.values():
            box.abandon("the channel was taken out of the config")
        for (name, _), messages in self._left.items():
            logs.audit("notification dropped", channel=name, messages=len(messages), reason="no such channel")
        self._left.clear()
        self._changed.set()
        self._remember()

    def _opened(self, recipient: Recipient) -> Outbox:
        """A channel's outbox, with what an earlier process left for it."""
        box = self._make(recipient.name, recipient.url)
        for message in self._left.pop((recipient.name, recipient.type.value), ()):
            box.put(message)
        box.on_change = self._remember
        return box

    def _remember(self) -> None:
        """Have the messages that must not get lost kept, once in a turn of the loop."""
        if not self._remembering:
            self._remembering = True
            asyncio.get_running_loop().call_soon(self._keep_waiting)

    def _keep_waiting(self) -> None:
        self._remembering = False
        kept = pack(
            ((recipient.name, recipient.type.value), message)
            for recipient, box in self._boxes.items()
            for message in box.waiting
        )
        if kept != self._kept:
            self._kept = kept
            self._keep(kept)

    def tell(self, notice: Notice) -> None:
        """Have everybody told whom it concerns. Never waits and never fails."""
        for recipient, box in self._boxes.items():
            if recipient.hears(notice):
                body = _WRITTEN[recipient.type](self._signed(notice))
                # Alertmanager takes the newest word on an alert for true, and what stands is told in one.
                subject = "" if recipient.type is ChannelType.ALERTMANAGER else notice.subject
                box.put(Message(notice.severity, notice.title, body, subject=subject))

    def _signed(self, notice: Notice) -> Notice:
        """With the label that says which gateway this is."""
        return replace(notice, labels={**notice.labels, **self._labels})

    def reaches_anybody(self) -> bool:
        """True if there is a channel at all."""
        return bool(self._boxes)

    def channels(self) -> tuple[ChannelView, ...]:
        """Every channel, and what became of its messages."""
        return tuple(
            ChannelView(
                recipient.name,
                recipient.type.value,
                tuple(severity for severity in Severity if severity in recipient.severities),
                len(box.waiting),
                box.deliveries.sent,
                box.deliveries.failed,
                box.deliveries.dropped,
                box.deliveries.error,
            )
            for recipient, box in self._boxes.items()
        )

    async def drained(self, patience: float) -> bool:
        """Wait until nothing waits any more; False if that takes longer than so many seconds."""
        try:
            async with asyncio.timeout(patience):
                for box in list(self._boxes.values()):
                    await box.drained()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Deliver for ever; at the end, what was just said is given a moment."""
        timeout = aiohttp.ClientTimeout(total=None)  # each try has its own
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar, headers=_USER_AGENT) as session:
            running: dict[Outbox, asyncio.Task[None]] = {}
            resending = asyncio.create_task(self._resend())
            try:
                while True:
                    await self._keep_up(session, running)
                    await self._until_changed((resending, *running.values()))
            finally:
                if not await self.drained(LAST_PATIENCE):
                    waiting = {box.name: len(box.waiting) for box in running if box.waiting}
                    logs.audit("notifications not delivered yet", waiting=waiting)
                await _cancel((resending, *running.values()))

    async def _keep_up(
        self, session: aiohttp.ClientSession, running: dict[Outbox, asyncio.Task[None]]
    ) -> None:
        """A task for each outbox, for as long as its channel is in the config."""
        self._changed.clear()
        boxes = set(self._boxes.values())
        await _cancel([running.pop(box) for box in running.keys() - boxes])
        for box in boxes - running.keys():
            running[box] = asyncio.create_task(box.run(session))

    async def _until_changed(self, running: Collection[asyncio.Task[None]]) -> None:
        """Wait for other channels. What fails in a task meanwhile fails here, and all begins anew."""
        changed = asyncio.create_task(self._changed.wait())
        try:
            ended, _ = await asyncio.wait((changed, *running), return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            changed.cancel()

    async def _resend(self) -> None:
        while True:
            self.tell_what_stands()
            await asyncio.sleep(self._resend_interval)

    def tell_what_stands(self) -> None:
        """Tell every Alertmanager which of the alerts that it heard of stand still."""
        for recipient, box in self._boxes.items():
            if recipient.type is ChannelType.ALERTMANAGER:
                heard = [self._signed(notice) for notice in self.standing() if recipient.hears(notice)]
                if heard:
                    body = notices.standing(heard)
                    box.put(Message(Severity.LOW, "what stands", body, topic=_RESEND))


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_WRITTEN: Mapping[ChannelType, Callable[[Notice], bytes]] = {
    ChannelType.WEBHOOK: notices.webhook,
    ChannelType.SLACK: notices.slack,
    ChannelType.ALERTMANAGER: notices.alertmanager,
}
