"""The incidents, one function each: bring it about, watch what becomes of it, say what must hold.

Every one is a gateway of its own with two workers, 200 requests a second of 100,000 users, a tenth of
them on treatment unless said. It knows what an incident looks like from outside, and nothing of how the
gateway finds out.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.processes.directory import Role
from tests.faults.operating import status
from tests.support.incidents import GIVE_UP, Fault, Incident, until
from tests.support.processes import Gateway

RATE = 200.0
"""Requests a second."""
SHARE = 0.1
TICK = 1.0
FIRST_BYTE = 0.03
"""Control's time to first byte at most, seconds."""
WARM_UP = 20.0
"""Seconds of good service before anything breaks."""
PATIENCE = 60.0
"""Seconds in which what must happen has to happen."""
CUTOVER = 0.1
"""Seconds from the decision to the last treatment request at most."""
RESTART = 20.0
"""Seconds that treatment is away in a restart."""
HEALTHY, QUICK_HEALTHY = 600.0, 60.0
"""Seconds for which both arms are well."""
MOST_FAILURES = 8
"""Failures that a broken canary takes until there is evidence, beside those of the tick that is under way."""
MOST_HANGING = 30
"""Requests older than control's 90th percentile until a hang is found out."""
MOST_SECONDS_ALONE = 15.0
"""Until a broken treatment without any control is latched."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an incident. `cutover` is from decision to last treatment request, in seconds.

    `failed` requests of treatment's, `early` of them sooner than a tick and control's first byte before
    the last one: those are what there had to be for the evidence.
    """

    failed: int
    early: int
    seconds: float
    users: int
    cutover: float | None
    happened: str
    must: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """A gateway under load."""

    incident: Incident
    gateway: Gateway

    def status(self) -> dict[str, Any]:
        """The status document; the one before the control process is back is waited for."""
        found: dict[str, Any] = {}

        def look() -> bool:
            with contextlib.suppress(OSError, ValueError):
                found.update(status(self.gateway))
            return bool(found)

        until(look, PATIENCE)
        return found

    @property
    def latched(self) -> bool:
        """Whether everything goes to control."""
        return bool(self.status()["latch"]["engaged"])

    @property
    def holds(self) -> list[str]:
        """What holds the rollout."""
        return [hold["kind"] for hold in self.status()["holds"]]


@contextlib.contextmanager
def under_load(
    percentage: float = 100 * SHARE, phase: str = "canary", fault: Fault | None = None
) -> Iterator[Scene]:
    """A gateway that has served well for a while; with `fault`, one whose treatment has it from the start."""
    incident = Incident()
    with incident.running(), tempfile.TemporaryDirectory() as directory:
        check = {"path": "/healthz", "interval": "2s", "unhealthy_after": 2, "healthy_after": 1}
        upstreams = {
            name: {"endpoints": [f"http://127.0.0.1:{port}"], "health_check": check}
            for name, port in incident.ports.items()
        }
        deployment = {"initial_phase": phase, "phases": {phase: {"user_percentage": percentage}}}
        extra = {"upstreams": upstreams, "deployment": deployment}
        gateway = Gateway(Path(directory), incident.ports, workers=2, extra=extra)
        gateway.start()
        if fault is not None:
            incident.begin(incident.dspy, fault)
        try:
            with incident.users(gateway.port, RATE):
                if fault is None:
                    time.sleep(WARM_UP)
                yield Scene(incident, gateway)
        finally:
            gateway.close()


def _broken(fault: Fault, most: float, must: str) -> Outcome:
    with under_load() as scene:
        return _until_latched(scene, scene.incident.begin(scene.incident.dspy, fault), most, must)


def _until_latched(scene: Scene, began: float, most: float, must: str, patience: float = PATIENCE) -> Outcome:
    """Wait for the rollback and a little longer, then count; users, once the last has an answer or left."""
    incident = scene.incident
    latched = until(lambda: scene.latched, patience)
    time.sleep(1.0)
    latch = scene.status()["latch"]
    last = incident.dspy.last
    failed = incident.dspy.since(began)
    early = failed - incident.dspy.since(last - TICK - FIRST_BYTE)
    cutover = last - datetime.fromisoformat(latch["since"]).timestamp() if latched else None
    until(lambda: not incident.waiting_since(last), 2 * GIVE_UP)
    in_time = cutover is not None and cutover <= CUTOVER
    happened = "rolled back" if latched else "NOT rolled back"
    holds = in_time and early <= most
    return Outcome(failed, max(0, early), last - began, _users(scene, began), cutover, happened, must, holds)


def _users(scene: Scene, began: float) -> int:
    """How many saw an error since then."""
    return len({request.user for request in scene.incident.failed_since(began)})


_PROMPT = f"≤ {MOST_FAILURES} before the last tick"


def newcomer() -> Outcome:
    """Treatment answers 500 from its first request on."""
    with under_load(fault=Fault.ERRORS) as scene:
        return _until_latched(scene, time.time(), MOST_FAILURES, _PROMPT)


def errors() -> Outcome:
    """Treatment answers 500."""
    return _broken(Fault.ERRORS, MOST_FAILURES, _PROMPT)


def resets() -> Outcome:
    """Treatment breaks connections off before any answer."""
    return _broken(Fault.RESET, MOST_FAILURES, _PROMPT)


def truncated() -> Outcome:
    """Treatment cuts its answers short."""
    return _broken(Fault.TRUNCATE, MOST_FAILURES, _PROMPT)


def not_found() -> Outcome:
    """Treatment answers 404 to everything."""
    return _broken(Fault.NOT_FOUND, RATE * PATIENCE, "rolled back")


def hangs() -> Outcome:
    """Treatment takes requests and never answers."""
    return _broken(
        Fault.HANG, MOST_HANGING, f"≤ {MOST_HANGING} older than control's p90 before the last tick"
    )


def alone() -> Outcome:
    """Treatment fails in full production, with nobody on control."""
    with under_load(100, "full_production") as scene:
        began = scene.incident.begin(scene.incident.dspy, Fault.ERRORS)
        found = _until_latched(
            scene, began, RATE * MOST_SECONDS_ALONE, f"latched within {MOST_SECONDS_ALONE:.0f} s, by a trial"
        )
        return found if found.seconds <= MOST_SECONDS_ALONE else _missed(found)


def killed() -> Outcome:
    """The control process is killed in the middle of the incident."""
    with under_load() as scene:
        began = scene.incident.begin(scene.incident.dspy, Fault.ERRORS)
        time.sleep(0.1)
        for pid in scene.gateway.pids(Role.CONTROL):
            os.kill(pid, signal.SIGKILL)
        return _until_latched(scene, began, RATE * PATIENCE, "rolled back after its restart")


def shared() -> Outcome:
    """Both arms fail alike."""
    with under_load() as scene:
        incident = scene.incident
        began = incident.begin(incident.traditional, Fault.ERRORS)
        incident.begin(incident.dspy, Fault.ERRORS)
        held = until(lambda: "shared_outage" in scene.holds, PATIENCE)
        seconds = time.time() - began
        time.sleep(10.0)
        alerted = any(alert["type"] == "shared_outage" for alert in scene.status()["alerts"])
        spared = not scene.latched
        happened = f"{'held' if held else 'NOT held'}, {'alert' if alerted else 'NO alert'}"
        happened += "" if spared else ", ROLLED BACK"
        failed = incident.dspy.since(began)
        must = "no rollback; held, with an alert"
        holds = held and alerted and spared
        return Outcome(failed, failed, seconds, _users(scene, began), None, happened, must, holds)


def restart() -> Outcome:
    """Treatment restarts, which takes 20 seconds."""
    with under_load() as scene:
        incident = scene.incident
        began = time.time()
        incident.go_down(incident.dspy)
        time.sleep(RESTART)
        answered = [one for one in list(incident.requests) if one.sent >= began]
        stood_in = sum(one.failover for one in answered)
        incident.come_up(incident.dspy)
        back = until(lambda: incident.dspy.since(began) > 20, PATIENCE)
        spared = not scene.latched
        happened = f"control answered {stood_in} for it; {'back' if back else 'NOT back'}"
        happened += "" if spared else ", ROLLED BACK"
        # What was under way on connections that broke is lost; nothing after it may be.
        holds = back and spared and _users(scene, began + 1.0) == 0
        must = "no rollback; no error after the first second"
        return Outcome(0, 0, RESTART, _users(scene, began), None, happened, must, holds)


def healthy(seconds: float) -> Outcome:
    """Both arms are well and alike."""
    with under_load() as scene:
        began = time.time()
        spared = not until(lambda: scene.latched, seconds, interval=1.0)
        document = scene.status()
        critical = [alert["type"] for alert in document["alerts"] if alert["severity"] == "critical"]
        users = _users(scene, began)
        happened = f"evidence {document['evidence']['value']:.3g}, {len(critical)} critical alerts"
        happened += "" if spared else ", ROLLED BACK"
        happened += _what_went_wrong(scene, began)
        must = f"nothing in {seconds:.0f} s"
        holds = spared and not critical and users == 0
        return Outcome(0, 0, time.time() - began, users, None, happened, must, holds)


def _what_went_wrong(scene: Scene, began: float) -> str:
    """What users got who got no good answer, how often clients had to ask again on another connection, and
    which workers ended; "" where all is well."""
    answers = Counter(request.status or "no answer" for request in scene.incident.failed_since(began))
    ended = [
        event
        for event in scene.gateway.events("worker")
        if datetime.fromisoformat(event["at"]).timestamp() >= began
    ]
    told = [f"{count} × {what}" for what, count in answers.items()]
    told += [f"{scene.incident.repeated} asked again"] * bool(scene.incident.repeated)
    told += [f"worker: {event['reason']}" for event in ended]
    return "".join(f", {one}" for one in told)


def _missed(found: Outcome) -> Outcome:
    return replace(found, holds=False)


def scenarios(healthy_seconds: float) -> Mapping[str, Callable[[], Outcome]]:
    """By name, in the order in which they run; both arms are well for so many seconds in the last."""
    return {
        "newcomer": newcomer,
        "errors": errors,
        "resets": resets,
        "truncated": truncated,
        "hangs": hangs,
        "404": not_found,
        "alone": alone,
        "shared": shared,
        "restart": restart,
        "killed": killed,
        "healthy": lambda: healthy(healthy_seconds),
    }
