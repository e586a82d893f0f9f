"""The children: control process and workers, each in a seat that must always be occupied.

A seat knows when its process has died or hangs, and when the next may start. It does not
know what the processes do, nor what a gateway needs before it can start them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

from gateway import logs
from gateway.latch import CONTROL_SLOT, HEARTBEAT_SLOTS, LatchPage
from gateway.link import packets
from gateway.link.packets import PacketKind
from gateway.model.codec import encode
from gateway.model.process import Boot, WorkerStart, WorkerStatus
from gateway.processes.backoff import Backoff
from gateway.processes.directory import Process, Role
from gateway.processes.spawn import spawn

STUCK_AFTER = 2.5
"""Seconds without a heartbeat after which a process counts as stuck. Processes beat several times a
second; with a tick of the supervisor and the start of a successor this stays under five seconds."""

START_PATIENCE = 20.0
"""Seconds that a process may take from its start to its first heartbeat."""

_EXIT_PATIENCE = 2.0  # between hanging up and being gone
_SUCCESSOR_PATIENCE = 2.0  # then a stuck worker is killed though its successor is not ready


class Child:
    """A running process, the far end of its link, and its slot for heartbeats."""

    def __init__(
        self, role: Role, page: LatchPage, heartbeat_slot: int, prepare: Callable[[socket.socket], None]
    ) -> None:
        """Start it; what `prepare` sends lies in its link when it begins to read. Raises OSError."""
        page.clear_beat(heartbeat_slot)
        self._page = page
        self.heartbeat_slot = heartbeat_slot
        self.link, far_end = packets.pair()
        try:
            prepare(self.link)
            self.pid = spawn(role, far_end)
        except BaseException:
            self.link.close()
            raise
        finally:
            far_end.close()
        self.process = Process.of(role, self.pid)
        self.started = time.monotonic()
        self.since = time.time()
        logs.info("process started", role=role.value, child=self.pid)

    def __repr__(self) -> str:
        return f"<Child {self.process.role} pid={self.pid} ready={self.ready}>"

    @property
    def ready(self) -> bool:
        """True since its first heartbeat."""
        return self._page.last_beat(self.heartbeat_slot) > 0

    def stuck(self, now: float, awake_since: float) -> bool:
        """True if it stood still for too long, of the time that we ourselves were awake."""
        beat = self._page.last_beat(self.heartbeat_slot)
        if beat:
            return now - max(beat, awake_since) > STUCK_AFTER
        return now - max(self.started, awake_since) > START_PATIENCE

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Seat:
    """A place for one process: who has it, and when it may be filled again."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.due = 0.0
        self._backoff = Backoff()

    def vacate(self, now: float) -> float:
        """The process is gone or given up; returns the delay in seconds before the next one."""
        lived = now - self.child.started if self.child is not None else 0.0
        delay = self._backoff.delay(lived)
        self.child, self.due = None, now + delay
        return delay

    def due_at(self, now: float) -> bool:
        """True if the seat is empty and may be filled."""
        return self.child is None and now >= self.due


class ControlSeat(Seat):
    """The control process: never two at a time, for they would both decide."""

    def __init__(self, page: LatchPage) -> None:
        super().__init__()
        self._page = page
        self._wanted = True
        self._hung_up_at: float | None = None
        self.restarts = 0
        self.heard = False
        """True once this control process has been given the start."""

    @property
    def link(self) -> socket.socket | None:
        """Where the control process is heard; None while there is nobody to hear."""
        return None if self.child is None or self._hung_up_at is not None else self.child.link

    def hung_up(self, now: float) -> None:
        """It closed its link: it is about to end, or is of no use any more."""
        self._hung_up_at = now

    def dismiss(self) -> None:
        """Have it finish, and start no more."""
        self._wanted = False
        if self.child is not None:
            self.child.signal(signal.SIGTERM)

    def start(self, boot: Boot, blobs: Sequence[int]) -> None:
        """Start one that begins with `boot`; `blobs` are what is kept, in the order of its names."""

        def prepare(link: socket.socket) -> None:
            packets.send(link, PacketKind.BOOT, encode(boot), [self._page.fd, *blobs])

        self.heard, self._hung_up_at = False, None
        try:
            self.child = Child(Role.CONTROL, self._page, CONTROL_SLOT, prepare)
        except OSError as error:
            delay = self.vacate(time.monotonic())
            logs.error("process not started", role="control", error=str(error), restart_in=delay)

    def tell(self, kind: PacketKind, payload: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Say something to a control process that has been given the start."""
        if self.child is None or not self.heard:
            return  # it will hear how everything stands with its start
        if not packets.send(self.child.link, kind, payload, descriptors):
            # It has not read its link for hundreds of packets: the next one will.
            logs.error("control process does not listen", child=self.child.pid)
            self.child.signal(signal.SIGKILL)

    def kill_if_stuck(self, now: float, awake_since: float) -> None:
        """Kill one that stands still or lost its link; its death is noticed like any other."""
        if self.child is None:
            return
        lingers = self._hung_up_at is not None and now - self._hung_up_at > _EXIT_PATIENCE
        if lingers or self.child.stuck(now, awake_since):
            logs.error("process stuck", role="control", child=self.child.pid)
            self.child.signal(signal.SIGKILL)

    def ended(self, pid: int, status: int) -> bool:
        """Take note that process `pid` ended; False if it was not ours."""
        if self.child is None or self.child.pid != pid:
            return False
        self.child.link.close()
        delay = self.vacate(time.monotonic())
        if self._wanted:
            self.restarts += 1
            logs.warn("process ended", role="control", child=pid, status=describe(status), restart_in=delay)
        return True


class WorkerPool:
    """The workers: as many as there are seats, and for a moment more while one is replaced."""

    def __init__(
        self,
        count: int,
        page: LatchPage,
        descriptors: Sequence[int],
        start: WorkerStart,
        control: ControlSeat,
    ) -> None:
        """`descriptors` are what a worker gets behind the latch page; `start.slot` is free."""
        self._page = page
        self._descriptors = tuple(descriptors)
        self._start = start
        self._control = control
        self._seats = [Seat() for _ in range(count)]
        self._retiring: list[tuple[Child, Seat, float]] = []
        self._wanted = True
        self.restarts = 0
        self.ever_ready = False

    @property
    def size(self) -> int:
        """How many workers there should be."""
        return len(self._seats)

    @property
    def children(self) -> list[Child]:
        """All live workers."""
        seated = [seat.child for seat in self._seats if seat.child is not None]
        return seated + [child for child, _, _ in self._retiring]

    @property
    def next_due(self) -> float:
        """Monotonic time at which the next empty seat may be filled; infinite if none is wanted."""
        empty = (seat.due for seat in self._seats if self._wanted and seat.child is None)
        return min(empty, default=float("inf"))

    def introduce(self) -> None:
        """Tell a new control process of every live worker."""
        for child in self.children:
            self._introduce(child)

    def fill(self, snapshot: int, now: float) -> None:
        """Start a worker on every seat that is due, with the snapshot in the sealed memory."""
        for seat in self._seats:
            if self._wanted and seat.due_at(now):
                self._seat_worker(seat, snapshot, now)

    def watch(self, snapshot: int, now: float, awake_since: float) -> None:
        """Give stuck workers a successor, then kill them; note who became ready."""
        for seat in self._seats:
            child = seat.child
            if self._wanted and child is not None and child.stuck(now, awake_since):
                logs.error("process stuck", role="worker", child=child.pid)
                seat.vacate(now)
                self._retiring.append((child, seat, now + _SUCCESSOR_PATIENCE))
                self._seat_worker(seat, snapshot, now)
        for child, seat, deadline in self._retiring:
            if now >= deadline or (seat.child is not None and seat.child.ready):
                child.signal(signal.SIGKILL)
        self.note_ready()

    def note_ready(self) -> bool:
        """True if a worker is ready or ever was."""
        if not self.ever_ready and any(child.ready for child in self.children):
            self.ever_ready = True
            logs.info("ready", workers=self.size)
        return self.ever_ready

    def ended(self, pid: int, status: int) -> bool:
        """Take note that process `pid` ended; False if it was not ours."""
        child = next((child for child in self.children if child.pid == pid), None)
        if child is None:
            return False
        delay = None
        for seat in self._seats:
            if seat.child is child:
                delay = seat.vacate(time.monotonic())
        self._retiring = [entry for entry in self._retiring if entry[0] is not child]
        if self._wanted:
            self.restarts += 1
            logs.warn("process ended", role="worker", child=pid, status=describe(status), restart_in=delay)
        self._control.tell(PacketKind.WORKER_GONE, encode(self._status(child)))
        child.link.close()
        return True

    def dismiss(self) -> None:
        """Have the workers finish what they have in hand, and start no more."""
        self._wanted = False
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send every worker a signal."""
        for child in self.children:
            child.signal(number)

    def _seat_worker(self, seat: Seat, snapshot: int, now: float) -> None:
        taken = {child.heartbeat_slot for child in self.children}
        slot = next(slot for slot in range(CONTROL_SLOT + 1, HEARTBEAT_SLOTS) if slot not in taken)
        start = WorkerStart(slot - 1, self._start.state_directory, self._start.probes)

        def prepare(link: socket.socket) -> None:
            packets.send(link, PacketKind.BEGIN, encode(start), [self._page.fd, *self._descriptors])
            packets.send_sealed(link, PacketKind.SNAPSHOT, snapshot)

        try:
            seat.child = Child(Role.WORKER, self._page, slot, prepare)
        except OSError as error:
            delay = seat.vacate(now)
            logs.error("process not started", role="worker", error=str(error), restart_in=delay)
            return
        self._introduce(seat.child)

    def _introduce(self, child: Child) -> None:
        self._control.tell(PacketKind.WORKER, encode(self._status(child)), [child.link.fileno()])

    @staticmethod
    def _status(child: Child) -> WorkerStatus:
        return WorkerStatus(child.heartbeat_slot - 1, child.pid, child.since)


def describe(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
