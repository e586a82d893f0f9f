"""What a gateway occupies on its machine: state directory, latch file, addresses, and inherited orphans.

The system can refuse each of them. If another gateway has it, the start is refused. If
the file system is at fault, the gateway starts anyway, latched and with a loud warning, because
control must keep working.

It does not know processes of its own beyond their names in the roster.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from gateway import logs
from gateway.latch import DurableLatch, LatchKind, LatchPage
from gateway.marks import UserMarks
from gateway.model.process import MAX_WORKERS, BootPlan, OnMissing, WorkerStart
from gateway.processes.children import ControlSeat, WorkerPool
from gateway.processes.directory import DirectoryInUse, Process, Role, Roster, StateDirectory
from gateway.processes.listeners import AddressInUse, Listener, Sharing
from gateway.processes.persist import LatchSaver

_SAVE_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_ORPHAN_EXIT_SECONDS = 1.0
_OURSELVES = "gateway"


class Refused(Exception):
    """The gateway must not start here; the message is for the operator."""


class Premises:
    """The directory, the latch's copy and the sockets, taken in the order that keeps promises."""

    def __init__(self, plan: BootPlan, page: LatchPage) -> None:
        """Take everything that the plan names. Raises Refused."""
        self._page = page
        self._marks = UserMarks.create()
        self._plan = plan
        self._directory = StateDirectory(Path(plan.state_directory))
        self._durable = DurableLatch(self._directory.path)
        self._saver = LatchSaver(page, self._durable)
        self._addresses = (plan.listen, plan.health, plan.admin)
        self._listening: list[Listener] = []
        self._written: Roster | None = None
        self._next_save = 0.0
        self._told_fault = ""
        self._orphans_told = False
        self._orphans_end = 0.0
        fault = self._take_directory()
        before = self._directory.read_roster()
        self._orphans = [process for process in before.processes if process.role is Role.WORKER]
        try:
            self._restore_latch(fault)
            _end_orphaned_control(before.processes)
            self.traffic = self._listen(plan.listen, before)
            self.health = self._listen(plan.health, before)
            self.admin = self._listen(plan.admin, before)
        except BaseException:
            self.close(0.0)
            raise
        logs.info(
            "listening",
            traffic=self.traffic.address,
            admin=self.admin.address,
            health=self.health.address,
            state=str(self._directory.path),
            orphans=len(self._orphans),
        )

    @property
    def fault(self) -> str:
        """Why the latch is not on disk; "" if it is."""
        return self._saver.fault

    def workers(self, count: int, control: ControlSeat) -> WorkerPool:
        """The pool of workers that serve here."""
        descriptors = [self._marks.fd, self.traffic.socket.fileno(), self.health.socket.fileno()]
        start = WorkerStart(0, str(self._directory.path), probes=1)
        return WorkerPool(min(count, MAX_WORKERS), self._page, descriptors, start, control)

    def maintain(self, children: Sequence[Process], now: float) -> None:
        """Keep the disk true to the page and the roster true to the processes."""
        if not self._saver.current and now >= self._next_save:
            self._next_save = now + _RETRY_SECONDS
            self._saver.poke()
        if self._saver.fault != self._told_fault:
            self._told_fault = self._saver.fault
            if self._told_fault:
                logs.error("latch not durable", reason=self._told_fault)
            else:
                logs.info("latch durable again")
        if self._page.engaged and not self._orphans_told:
            self._signal_orphans(signal.SIGUSR1)  # they have a page of their own
        self._orphans_told = self._page.engaged
        roster = Roster(self._addresses, self.admin.address, (*children, *self._orphans))
        if roster != self._written:
            self._written = roster
            try:
                self._directory.write_roster(roster)
            except OSError as error:
                logs.warn("roster not written", error=str(error))

    def relieve_orphans(self, patience: float, now: float) -> None:
        """Our own workers serve: have those of a dead supervisor finish, and end them in the end."""
        if not self._orphans:
            return
        if not self._orphans_end:
            self._orphans_end = now + patience
            logs.info("draining orphans", pids=[orphan.pid for orphan in self._orphans])
            self._signal_orphans(signal.SIGTERM)
        if now >= self._orphans_end:
            self._signal_orphans(signal.SIGKILL)
        self._orphans = [orphan for orphan in self._orphans if orphan.alive]

    def stop_listening(self) -> None:
        """Close our copies of the sockets; workers that still hold theirs go on accepting."""
        for listener in self._listening:
            if listener is not self.admin:
                listener.close()

    def close(self, patience: float) -> None:
        """Save what is not saved, waiting `patience` seconds for a slow disk, and leave."""
        give_up = time.monotonic() + patience
        if not self._saver.current:
            self._saver.poke()
            while not self._saver.current and time.monotonic() < give_up:
                time.sleep(0.01)
        for listener in self._listening:
            listener.close()
        orphans = tuple(orphan for orphan in self._orphans if orphan.alive)
        self._directory.leave(Roster(self._addresses, "", orphans))

    def _take_directory(self) -> str:
        """Lock it; returns why the file system refused, "" if it did not."""
        try:
            self._directory.lock()
            self._directory.write_pid()
        except DirectoryInUse:
            holder = self._directory.holder()
            raise Refused(f"another gateway (pid {holder}) holds {self._directory.path}") from None
        except OSError as error:
            return f"the state directory cannot be used: {error}"
        return ""

    def _restore_latch(self, fault: str) -> None:
        """Read the latch, then say what this start adds to it, all before anything is served."""
        found = self._durable.load()
        # A SIGUSR1 between these stores would be overwritten; it waits, and counts on top.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        came_meanwhile = self._page.engaged
        if found is not None:
            self._page.restore(found)
        if came_meanwhile:
            self._page.engage(LatchKind.EMERGENCY, "SIGUSR1 to the gateway", "signal")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        if self._plan.emergency and not self._emergency_stands():
            self._page.engage(LatchKind.EMERGENCY, self._plan.emergency, _OURSELVES)
        if found is None and self._plan.on_missing is OnMissing.CONTROL:
            self._engage(f"{self._durable.path} is missing, and state.on_missing is control")
        self._saver.start()
        self._saver.poke()
        give_up = time.monotonic() + _SAVE_SECONDS
        while not self._saver.current and not self._saver.fault and time.monotonic() < give_up:
            time.sleep(0.002)
        if fault or not self._saver.current:
            self._engage(fault or self._saver.fault or "the state directory does not answer")
        if self._page.engaged:
            state = self._page.state()
            logs.audit("latched at start", kind=state.kind.value, reason=state.reason, since=state.since)

    def _emergency_stands(self) -> bool:
        return self._page.engaged and self._page.state().kind is LatchKind.EMERGENCY

    def _engage(self, reason: str) -> None:
        logs.error("latched", kind=LatchKind.STATE.value, reason=reason)
        if not self._page.engaged:
            self._page.engage(LatchKind.STATE, reason, _OURSELVES)

    def _listen(self, address: str, before: Roster) -> Listener:
        beside = address in before.addresses and before.processes
        try:
            listener = Listener(address, Sharing.BESIDE_ORPHANS if beside else Sharing.EXCLUSIVE)
        except AddressInUse:
            raise Refused(f"another program listens on {address}") from None
        except OSError as error:
            raise Refused(f"cannot listen on {address}: {error.strerror or error}") from None
        self._listening.append(listener)
        return listener

    def _signal_orphans(self, number: signal.Signals) -> None:
        for orphan in self._orphans:
            with contextlib.suppress(ProcessLookupError):
                if orphan.alive:
                    os.kill(orphan.pid, number)


def _end_orphaned_control(processes: Sequence[Process]) -> None:
    """A control process that outlived its supervisor, because it was stopped: never two that decide."""
    for process in processes:
        if process.role is Role.CONTROL and process.alive:
            os.kill(process.pid, signal.SIGKILL)
            give_up = time.monotonic() + _ORPHAN_EXIT_SECONDS
            while process.alive and time.monotonic() < give_up:
                time.sleep(0.005)
