"""Requests that fail while the config is reloaded, and while workers are killed.

A failure is a request that got no whole 200. Requests that were under way on a killed worker are lost
by nature: those sent before its sockets were closed do not count, every later one does.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from dataclasses import dataclass

from bench import admin, loads, measures
from bench.lab import Lab, Running, Upstreams
from bench.loads import Failure, Steady
from bench.processes import BenchError, Process, wait_until_gone
from bench.proxies import GATEWAY, render
from bench.results import Results
from bench.settings import Settings

WORKERS = 2
REQUESTS_PER_SECOND = 500.0
RELOAD_SECONDS = 3.0
"""The longest that a reload may take to be counted."""
RELOAD_GAP_SECONDS = 0.1
RESPAWN_SECONDS = 5.0
SETTLE_SECONDS = 0.5
SLOW_TARGET = "/v1/generate?delay=20"
"""Answers after 20 ms, so that some requests are under way on the worker that is killed."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker's end: when it was killed, when its sockets were closed, and how long until the next one."""

    killed_ns: int
    gone_ns: int
    respawn_seconds: float

    def explains(self, failure: Failure) -> bool:
        """Whether a failed request may have been under way on this worker."""
        return failure.sent_ns <= self.gone_ns and failure.failed_ns >= self.killed_ns


def measure_reloads(lab: Lab, upstreams: Upstreams, settings: Settings, results: Results) -> None:
    """Rewrite the config with another percentage and signal SIGHUP, again and again, under load."""
    limit = settings.reloads * (RELOAD_SECONDS + RELOAD_GAP_SECONDS)
    with (
        lab.run(GATEWAY, upstreams, workers=WORKERS) as running,
        loads.background(running.port, REQUESTS_PER_SECOND, limit, running.site.directory) as load,
    ):
        for number in range(settings.reloads):
            _reload(running, 20 + number % 30 + 1)
            time.sleep(RELOAD_GAP_SECONDS)
        seen = load.finish()
    results.add(measures.RELOAD_FAILURES, GATEWAY.name, len(seen.failures))
    results.remark(
        f"reloads: {settings.reloads} applied under {REQUESTS_PER_SECOND:.0f} req/s, "
        f"{len(seen.failures)} of {seen.sent} requests failed{_reasons(seen)}"
    )


def measure_kills(lab: Lab, upstreams: Upstreams, settings: Settings, results: Results) -> None:
    """Kill a worker with -9 under load, wait for its replacement, and go on with the next."""
    limit = settings.kills * (RESPAWN_SECONDS + 1)
    with (
        lab.run(GATEWAY, upstreams, workers=WORKERS) as running,
        loads.background(
            running.port, REQUESTS_PER_SECOND, limit, running.site.directory, SLOW_TARGET
        ) as load,
    ):
        kills = [_kill(running) for _ in range(settings.kills)]
        time.sleep(SETTLE_SECONDS)
        seen = load.finish()
    lost = [failure for failure in seen.failures if any(kill.explains(failure) for kill in kills)]
    beyond = len(seen.failures) - len(lost)
    results.add(measures.KILL_FAILURES, GATEWAY.name, beyond)
    results.remark(
        f"kill -9: {settings.kills} workers under {REQUESTS_PER_SECOND:.0f} req/s; {len(lost)} requests "
        f"under way on them lost, {beyond} others of {seen.sent} failed; a new worker after "
        f"{max(kill.respawn_seconds for kill in kills):.2f} s at worst{_reasons(seen)}"
    )


def _reasons(seen: Steady) -> str:
    reasons = sorted({failure.reason for failure in seen.failures})
    return f" ({', '.join(reasons)})" if reasons else ""


def _reload(running: Running, percentage: int) -> None:
    """Replace the file, signal, and wait until the control process has counted a reload."""
    before = admin.reloads_done(running.site.admin)
    site = dataclasses.replace(running.site, percentage=percentage)
    path = site.directory / "gateway.yaml"
    fresh = path.with_suffix(".new")
    fresh.write_text(render("gateway.yaml", site))
    fresh.replace(path)
    running.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < deadline:
        if admin.reloads_done(running.site.admin) > before:
            return
        time.sleep(0.02)
    raise BenchError(f"a reload was not applied within {RELOAD_SECONDS} s")


def _workers(running: Running) -> list[Process]:
    """Wait until all workers are there; which processes they are, the gateway's own status says."""
    deadline = time.monotonic() + RESPAWN_SECONDS
    while time.monotonic() < deadline:
        pids = admin.worker_pids(running.site.admin)
        found = [
            process for process in running.process.tree() if process.pid in pids and process.state != "Z"
        ]
        if len(found) == WORKERS:
            return found
        time.sleep(0.02)
    raise BenchError(f"there are not {WORKERS} workers within {RESPAWN_SECONDS} s")


def _kill(running: Running) -> Kill:
    """Kill the worker that has lived longest, and wait for the next.

    The longest: where one place dies again and again, its next worker is put off by up to five seconds.
    """
    time.sleep(SETTLE_SECONDS)
    victim = min(_workers(running), key=lambda worker: worker.started)
    killed = time.monotonic_ns()
    os.kill(victim.pid, signal.SIGKILL)
    gone = wait_until_gone(victim, RESPAWN_SECONDS)
    _workers(running)
    return Kill(killed, gone, (time.monotonic_ns() - killed) / 1e9)
