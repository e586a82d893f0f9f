"""The whole control process: what starts, what is restarted, what it costs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.control import controller as controller_module
from gateway.control.admin.guard import ConnectionGuard
from gateway.control.config.reload import Reloader
from gateway.control.experiments.file import ExperimentsFile
from gateway.control.health import HealthChecks
from gateway.control.latching import LatchDesk
from gateway.control.monitoring.dossier import DOCUMENT, Stored
from gateway.control.rollout.pace import Pace
from gateway.control.tasks import RESTART_DELAY, TaskKeeper
from gateway.control.windows import Windows
from gateway.latch import LatchKind, LatchPage
from gateway.model.codec import decode
from gateway.model.observation import EndpointReport
from tests.support.control import CONFIG, Client, make_gateway, make_observation
from tests.support.polling import soon

pytestmark = pytest.mark.socket

CHECK = "health_check: {path: /, interval: 100ms, timeout: 1s, unhealthy_after: 1}"
CHECKED = CONFIG.replace('"http://127.0.0.1:9002"]', f'"http://127.0.0.1:9"], {CHECK}')


def failing_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but its first call raises."""
    calls = 0

    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("injected")
        return real(*args, **options)

    return call


async def ask_status(client: Client) -> dict[str, Any]:
    """The status's part about the gateway itself; nothing where the injected fault hit the request."""
    status, document = await client.ask("GET", "/api/v1/status")
    return dict(document["gateway"]) if status == 200 else {}


async def restarted(client: Client) -> dict[str, int]:
    """How often each task was started again, of those that were."""
    return dict((await ask_status(client)).get("task_restarts", {}))


@pytest.mark.parametrize(
    ("task", "owner", "attribute"),
    [
        ("heartbeat", LatchPage, "beat"),
        ("latch", Pace, "watch_latch"),
        ("latch-copy", LatchDesk, "save"),
        ("rollout", Pace, "tick"),
        ("reload", Reloader, "check"),
        ("health", HealthChecks, "_watch"),
        ("admin", ConnectionGuard, "run"),
        ("observe", Windows, "take"),
        ("measure", controller_module, "directory_bytes"),
    ],
)
async def test_every_background_task_survives_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, owner: Any, attribute: str
) -> None:
    """An exception in any of them starts it again within a second, counted; the rest goes on meanwhile."""
    gateway = make_gateway(tmp_path, CHECKED)
    monkeypatch.setattr(owner, attribute, failing_once(getattr(owner, attribute)))
    gateway.page.engage(LatchKind.EMERGENCY, "", "")
    async with gateway.control() as client:
        restarts = await soon(lambda: restarted(client))
        assert restarts == {task: 1}
        assert (await ask_status(client))["failing_tasks"] == [task]
        assert f'gateway_control_task_restarts_total{{task="{task}"}} 1.0' in await client.metrics()


async def test_no_background_task_dies_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that there is fails at once: each is started again within a second, counted, and all is served."""
    real, started = TaskKeeper.start, set()

    def start(self: TaskKeeper, name: str, run: Callable[[], Any]) -> None:
        started.add(name)
        real(self, name, failing_once(run))

    monkeypatch.setattr(TaskKeeper, "start", start)
    gateway = make_gateway(tmp_path, CHECKED)
    async with gateway.control() as client:

        async def all_again() -> bool:
            return await restarted(client) == dict.fromkeys(started, 1)

        await soon(all_again)
        assert {"heartbeat", "latch", "rollout", "monitor", "alerts", "observe"} <= started
        assert RESTART_DELAY < 1.0
        gateway.page.engage(LatchKind.EMERGENCY, "after the faults", "ann")
        await soon(lambda: gateway.link.current.user_percentage == 0)


async def test_the_first_snapshot_is_published_and_the_config_is_kept(tmp_path: Path) -> None:
    """Workers have something to serve by, and the supervisor what the next control process needs."""
    gateway = make_gateway(tmp_path, CONFIG + "drain_delay: 5s\n")
    async with gateway.control():
        await soon(lambda: gateway.link.current.version == 1)
        await soon(lambda: gateway.keeper.drain_times is not None)
    assert gateway.link.current.phase == "canary"
    assert gateway.keeper.drain_times is not None
    assert gateway.keeper.drain_times.delay == 5
    assert {"sources", "ledger", "rollout"} <= set(gateway.keeper.kept)


async def test_kept_junk_does_not_stop_the_start(tmp_path: Path) -> None:
    """What an older version left may not be readable: begin afresh, serve."""
    gateway = make_gateway(tmp_path)
    for name in ("ledger", "health", "rollout", "applied", "snapshot"):
        gateway.keeper.kept[name] = b"\xff{"
    async with gateway.control() as client:
        assert (await client.status())["phase"] == "canary"


async def test_a_replaced_worker_is_in_the_history(tmp_path: Path) -> None:
    """The supervisor's count is news once."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        await client.status()
        gateway.keeper.standing = replace(gateway.keeper.standing, worker_restarts=2)
        history = await soon(client.history)
    assert [(event["type"], event["evidence"]["restarts"]) for event in history] == [("worker", 2)]


async def test_health_reaches_the_workers_and_the_next_control_process(tmp_path: Path) -> None:
    """The checks' findings are published, and kept over a restart."""
    gateway = make_gateway(tmp_path, CHECKED)
    key = ("dspy", "http://127.0.0.1:9")
    async with gateway.control():
        await soon(lambda: gateway.link.health.get(key) is False)
    gateway.link.health = {}
    async with gateway.control():
        await soon(lambda: gateway.link.health.get(key) is False)
        assert b"false" in gateway.keeper.kept["health"]


async def test_explain_counts_an_upstream_as_gone_when_no_worker_uses_it(tmp_path: Path) -> None:
    """What the workers report decides, as it does for their own requests."""
    gateway = make_gateway(tmp_path, CONFIG.replace("user_percentage: 1", "user_percentage: 100"))
    async with gateway.control() as client:
        _, before = await client.ask("GET", "/api/v1/explain?user=u")
        bad = EndpointReport("dspy", "http://127.0.0.1:9002", healthy=False, inflight=0)
        gateway.report(replace(make_observation("a", 11), endpoints=(bad,)))
        _, after = await client.ask("GET", "/api/v1/explain?user=u")
    assert before["arm"] == "treatment"
    assert (after["arm"], after["assigned"], after["reason"]) == (
        "control",
        "treatment",
        "no_healthy_endpoint",
    )


def test_the_control_process_imports_no_numerics_and_no_terminal() -> None:
    """Every megabyte counts in a sidecar: what the process does not need it does not import."""
    script = "import sys, gateway.control.controller; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    loaded = {name.split(".")[0] for name in modules.split()}
    assert not loaded & {"numpy", "scipy", "rich", "httptools"}


async def test_an_outcome_that_is_being_written_at_the_end_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender would not know otherwise whether it counts; what comes later is not accepted at all."""
    writing, disk = asyncio.Event(), asyncio.Event()
    write = ExperimentsFile.write

    async def write_slowly(file: ExperimentsFile, batch: Any) -> None:
        if batch.ids:
            writing.set()
            await disk.wait()
        await write(file, batch)

    monkeypatch.setattr(ExperimentsFile, "write", write_slowly)
    gateway = make_gateway(tmp_path)
    outcome = {"id": "1", "user_id": "ann", "metric": "user_satisfaction", "value": 1}
    async with aiohttp.ClientSession() as session:
        async with gateway.control() as client:
            await client.status()
            post = session.post(f"{client.url}/api/v1/outcomes", json=[outcome])
            asking = asyncio.ensure_future(post)
            await writing.wait()
            asyncio.get_running_loop().call_later(0.05, disk.set)
        async with await asking as answer:
            assert (answer.status, (await answer.json())["accepted"]) == (200, 1)


async def test_a_longer_window_than_is_remembered_is_not_claimed(tmp_path: Path) -> None:
    """Alerts and status say which traffic they are of."""
    gateway = make_gateway(tmp_path, CONFIG + "  monitoring: {window: 2h}\n")
    async with gateway.control() as client:
        assert (await client.status())["window"]["seconds"] == 3600.0


async def test_a_config_that_changed_while_nothing_ran_is_in_the_history(tmp_path: Path) -> None:
    """The line of the start says from which config to which, as that of a reload does."""
    digests = []
    for text in (CONFIG, CONFIG, CONFIG.replace(": 1}", ": 2}")):
        async with make_gateway(tmp_path, text).control() as client:
            last = [event for event in await client.history(with_start=True) if event["type"] == "reload"][-1]
            digests.append((last["from"], last["to"]))
    first, again, changed = digests
    assert first[0] is None
    assert again == first  # nothing changed, and no line
    assert changed[0] == first[1] != changed[1]


async def test_the_evidence_knows_every_snapshot_however_short_it_was_in_force(tmp_path: Path) -> None:
    """Requests that one decided are compared by its share; the next look may be a second away."""
    gateway = make_gateway(tmp_path)
    published: list[int] = []
    gateway.link.listen(lambda snapshot: published.append(snapshot.version), lambda _health: None)
    async with gateway.control() as client:
        for _ in range(3):
            assert (await client.ask("POST", "/api/v1/emergency", operator="ann"))[0] == 200
            assert (await client.ask("POST", "/api/v1/release", operator="ann"))[0] == 200
    exposed = decode(Stored, gateway.keeper.kept[DOCUMENT]).state.exposures
    assert {one.snapshot for one in exposed} >= {version for version in published if version}
    assert len(set(published)) > 6
