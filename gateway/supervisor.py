"""The supervisor: owns the sockets, the latch page and the children, and keeps all three alive.

It has no event loop and reads no config. It waits for signals, children and the clock, and replaces
processes that ended. The control process tells it what to listen on. It also stores bytes that must
outlive the control process, without reading them.

It does not know what a request, a phase or a snapshot is.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import resource
import select
import signal
import time

from gateway import logs
from gateway.exits import SIGNAL_BASE, Exit
from gateway.latch import LatchKind, LatchPage
from gateway.link import packets
from gateway.link.packets import MalformedPacket, Packet, PacketKind
from gateway.model.codec import decode, encode
from gateway.model.process import KEPT_SNAPSHOT, Boot, BootOptions, BootPlan, DrainTimes, Standing
from gateway.processes.children import ControlSeat, WorkerPool
from gateway.processes.premises import Premises, Refused
from gateway.processes.signals import SignalQueue

_TICK_SECONDS = 0.5
_STARTING_TICK_SECONDS = 0.05
_LATE_SECONDS = 1.5  # a tick this late means that the machine slept: nobody else could beat either
_READY_PATIENCE = 30.0
_EARLY_DEATHS = 4  # of a process, before any worker was ready: more of the same would not help
_SNAPSHOT_PATIENCE = 20.0  # a busy machine may start slowly; what follows takes a release to undo
_DRAIN_MARGIN = 2.0
_CONTROL_PATIENCE = 3.0
_BURIAL_SECONDS = 1.0
_FINAL_SAVE_SECONDS = 2.0
_MAX_KEPT = 12  # what fits one packet beside the latch page


class _Stage(enum.IntEnum):
    """How far the gateway is on its way to the end."""

    RUNNING = 0
    UNREADY = 1  # drain_delay: not ready, still accepting
    DRAINING = 2  # the workers finish what they have
    ENDING = 3  # the control process writes down what it has


class Supervisor:
    """One gateway. `run` returns its exit code."""

    def __init__(self, options: BootOptions) -> None:
        self._options = options
        self._page = LatchPage.create()
        self._control = ControlSeat(self._page)
        self._premises: Premises | None = None
        self._pool: WorkerPool | None = None
        self._drain = DrainTimes(0.0, 0.0)
        self._kept: dict[str, int] = {}
        self._fallback: int | None = None
        self._planned_at = 0.0
        self._standing: Standing | None = None
        self._flipped = False
        self._stage, self._stage_ends = _Stage.RUNNING, 0.0
        self._exit: int | None = None
        self._started_at = time.time()
        self._began = self._awake_since = self._last_tick = time.monotonic()
        # Last, for a SIGUSR1 that came before is handled within this line.
        self._signals = SignalQueue(self._emergency)

    def run(self) -> int:
        """Serve until told to end, or until it is plain that nothing can be served."""
        _raise_descriptor_limit()
        logs.start("supervisor")
        exit_code: int | None = None
        try:
            while exit_code is None:
                self._start_processes()
                self._wait()
                self._tick(time.monotonic())
                exit_code = self._exit
        except Refused as refusal:
            logs.error("not started", reason=str(refusal))
            exit_code = Exit.FAILED
        # Not in a `finally`: should we fail ourselves, the workers serve on as orphans.
        self._close(exit_code)
        return exit_code

    # --- waiting -----------------------------------------------------------------------------

    def _wait(self) -> None:
        """Sleep until a signal, a packet, a restart that is due, or the next tick."""
        wanted: list[int] = [self._signals.fileno()]
        link = self._control.link
        if link is not None:
            wanted.append(link.fileno())
        patience = max(0.0, self._next_due() - time.monotonic())
        starting = self._pool is None or not self._pool.ever_ready
        tick = _STARTING_TICK_SECONDS if starting else _TICK_SECONDS
        ready, _, _ = select.select(wanted, [], [], min(patience, tick))
        if link is not None and link.fileno() in ready and not self._hear_control():
            self._control.hung_up(time.monotonic())

    def _next_due(self) -> float:
        """Monotonic time of the next thing to do by the clock, infinite if there is none."""
        due = [self._stage_ends if self._stage is not _Stage.RUNNING else float("inf")]
        if self._control.child is None:
            due.append(self._control.due)
        if self._pool is not None and KEPT_SNAPSHOT in self._kept:
            due.append(self._pool.next_due)
        return min(due)

    def _tick(self, now: float) -> None:
        """Look at everything once."""
        if now - self._last_tick > _LATE_SECONDS:
            self._awake_since = now
        self._last_tick = now
        for number in self._signals.take():
            self._take_signal(number, now)
        self._reap()
        self._control.kill_if_stuck(now, self._awake_since)
        snapshot = self._kept.get(KEPT_SNAPSHOT)
        if self._pool is not None and snapshot is not None:
            self._pool.watch(snapshot, now, self._awake_since)
        if self._premises is not None:
            self._look_after(self._premises, now)
        self._judge_start(now)
        self._advance(now)

    def _look_after(self, premises: Premises, now: float) -> None:
        """Keep the disk and the control process up to date about the latch and the processes."""
        if self._flipped:
            self._flipped = False
            state = self._page.state()
            logs.audit("latch engaged", kind=state.kind.value, reason=state.reason, number=state.number)
        children = [] if self._pool is None else [child.process for child in self._pool.children]
        if self._control.child is not None:
            children.append(self._control.child.process)
        premises.maintain(children, now)
        if self._pool is not None and self._pool.ever_ready:
            premises.relieve_orphans(self._drain.timeout + _DRAIN_MARGIN, now)
        standing = self._stand(premises)
        if standing != self._standing:
            self._standing = standing
            self._control.tell(PacketKind.STANDING, encode(standing))

    def _stand(self, premises: Premises) -> Standing:
        restarts = self._pool.restarts if self._pool is not None else 0
        return Standing(os.getpid(), self._started_at, premises.fault, restarts, self._control.restarts)

    # --- children ----------------------------------------------------------------------------

    def _start_processes(self) -> None:
        now = time.monotonic()
        if self._stage < _Stage.ENDING and self._control.due_at(now):
            names = tuple(self._kept)
            self._control.start(Boot(self._options, names), [self._kept[name] for name in names])
        snapshot = self._kept.get(KEPT_SNAPSHOT)
        if self._pool is not None and snapshot is not None:
            self._pool.fill(snapshot, now)

    def _reap(self) -> None:
        """Bury every child that ended, also those that only became ours as process 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._control.child is not None and self._control.child.pid == pid:
                self._hear_control()  # what it said last may still lie there
                self._control_ended(pid, status)
            elif self._pool is not None:
                self._pool.ended(pid, status)

    def _control_ended(self, pid: int, status: int) -> None:
        self._control.ended(pid, status)
        if self._premises is None and os.waitstatus_to_exitcode(status) == Exit.INVALID:
            self._exit = Exit.INVALID  # it has printed what is wrong with the config

    def _hear_control(self) -> bool:
        """Take in what the control process said; False if it has hung up."""
        child = self._control.child
        try:
            while child is not None and (packet := packets.receive(child.link)) is not None:
                try:
                    self._take_packet(packet)
                finally:
                    packet.close()
        except EOFError:
            return False
        except (MalformedPacket, ValueError, TypeError) as error:
            logs.error("packet ignored", sender="control", error=str(error))
        return True

    def _take_packet(self, packet: Packet) -> None:
        match packet.kind:
            case PacketKind.PLAN:
                self._take_plan(decode(BootPlan, packet.payload), packet.descriptors)
            case PacketKind.KEEP:
                name, (blob,) = json.loads(packet.payload), packet.descriptors
                self._keep(str(name), os.dup(blob))
            case PacketKind.DRAIN_TIMES:
                self._drain = decode(DrainTimes, packet.payload)
            case _:
                raise MalformedPacket(f"{packet.kind.name} is not for the supervisor")

    def _keep(self, name: str, blob: int) -> None:
        if name not in self._kept and len(self._kept) >= _MAX_KEPT:
            os.close(blob)
            raise MalformedPacket(f"more than {_MAX_KEPT} names to keep")
        if name in self._kept:
            os.close(self._kept[name])
        self._kept[name] = blob

    def _take_plan(self, plan: BootPlan, descriptors: tuple[int, ...]) -> None:
        """The first plan opens the gateway; a later one can only change how it ends."""
        (fallback,) = descriptors
        self._drain = DrainTimes(plan.drain_delay, plan.drain_timeout)
        if self._premises is None:
            self._premises = Premises(plan, self._page)
            self._fallback = os.dup(fallback)
            self._planned_at = time.monotonic()
            self._pool = self._premises.workers(plan.workers, self._control)
        self._standing = self._stand(self._premises)
        self._control.heard = True
        self._control.tell(PacketKind.START, encode(self._standing), [self._premises.admin.socket.fileno()])
        if self._pool is not None:
            self._pool.introduce()

    def _judge_start(self, now: float) -> None:
        """Before the first worker is ready: help out, or give up."""
        if self._exit is not None or self._stage > _Stage.RUNNING:
            return
        if self._pool is not None and self._pool.ever_ready:
            return
        waited = self._planned_at and now - self._planned_at > _SNAPSHOT_PATIENCE
        if waited and KEPT_SNAPSHOT not in self._kept and self._fallback is not None:
            self._page.engage(LatchKind.STATE, "the control process never published a snapshot", "gateway")
            logs.error("no snapshot published", consequence="everything goes to control")
            self._kept[KEPT_SNAPSHOT] = os.dup(self._fallback)
        deaths = self._control.restarts
        if self._pool is not None:
            deaths = max(deaths, self._pool.restarts // self._pool.size)
        if deaths >= _EARLY_DEATHS or now - self._began > _READY_PATIENCE:
            logs.error(
                "no worker ever became ready", early_deaths=deaths, seconds=round(now - self._began, 1)
            )
            self._exit = Exit.NO_WORKER

    # --- signals and the end -----------------------------------------------------------------

    def _emergency(self) -> None:
        """SIGUSR1, in the handler itself: flip first; the loop persists and tells."""
        if not self._page.engaged:
            self._flipped = True
        self._page.engage(LatchKind.EMERGENCY, "SIGUSR1 to the gateway", "signal")

    def _take_signal(self, number: signal.Signals, now: float) -> None:
        if number == signal.SIGHUP:
            self._control.tell(PacketKind.RELOAD)
        elif self._stage is _Stage.RUNNING:
            logs.info("ending", signal=number.name, drain_delay=self._drain.delay)
            self._page.start_draining()
            serving = self._pool is not None and self._pool.note_ready()
            self._enter(_Stage.UNREADY, now + (self._drain.delay if serving else 0.0))
        else:
            logs.warn("ending at once", signal=number.name)
            self._exit = SIGNAL_BASE + number

    def _enter(self, stage: _Stage, ends: float) -> None:
        self._stage, self._stage_ends = stage, ends

    def _advance(self, now: float) -> None:
        """One step further towards the end, whenever the present one is done."""
        workers = 0 if self._pool is None else len(self._pool.children)
        if self._stage is _Stage.UNREADY and now >= self._stage_ends:
            if self._premises is not None:
                self._premises.stop_listening()
            if self._pool is not None:
                self._pool.dismiss()
            self._enter(_Stage.DRAINING, now + self._drain.timeout + _DRAIN_MARGIN)
        if self._stage is _Stage.DRAINING and (now >= self._stage_ends or workers == 0):
            if self._pool is not None:
                self._pool.signal(signal.SIGKILL)
            self._control.dismiss()
            self._enter(_Stage.ENDING, now + _CONTROL_PATIENCE)
        if self._stage is _Stage.ENDING and (now >= self._stage_ends or self._control.child is None):
            self._exit = Exit.DONE

    def _close(self, exit_code: int) -> None:
        """Leave nothing behind: no child, no file that says that we are here."""
        children = [] if self._pool is None else self._pool.children
        if self._control.child is not None:
            children.append(self._control.child)
        for child in children:
            child.signal(signal.SIGKILL)
        give_up = time.monotonic() + _BURIAL_SECONDS
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < give_up:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    time.sleep(0.002)
        if self._premises is not None:
            self._premises.close(_FINAL_SAVE_SECONDS)
        logs.info("ended", exit=exit_code)
        logs.flush()


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
