"""What follows a rollback: hooks, messages, the record; over a real desk, store and real hooks."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from gateway.commands.status import render
from gateway.control.actions import Action, Ran
from gateway.control.alerting.notices import NoticeKind
from gateway.control.hooks import name_of, run_hooks
from gateway.control.rollout.aftermath import CUT_OFF_WITHIN, view
from gateway.control.rollout.views import Document
from gateway.model.config import Config
from gateway.model.rollout import Emergency, Release, Rollback
from gateway.model.safety import Hook
from tests.support.configs import complete, load_text
from tests.support.control import Client, make_gateway
from tests.support.polling import soon, turns
from tests.support.wiring import ANN, Room, Scene

pytestmark = pytest.mark.socket

PYTHON = sys.executable


def hooks_text(*hooks: str) -> str:
    return f"deployment: {{initial_phase: canary, rollback: {{hooks: [{', '.join(hooks)}]}}}}"


def python(script: str, timeout: str = "10s") -> str:
    return f'{{command: ["{PYTHON}", "-c", "{script}"], timeout: {timeout}}}'


def loaded(folder: Path, *hooks: str) -> Config:
    return load_text(folder, complete(hooks_text(*hooks))).config


@contextlib.asynccontextmanager
async def finishing(room: Room) -> AsyncIterator[None]:
    """The aftermath at work in the background."""
    running = asyncio.create_task(room.aftermath.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def finished(room: Room) -> Document:
    """Wait until the newest fall is through; the last rollback as status shows it."""
    await soon(lambda: (last := room.aftermath.last) is not None and last.over)
    shown = view(room.aftermath.last)
    assert shown is not None
    return shown


@contextlib.asynccontextmanager
async def cache(status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """A cache that can be cleared; how often it was, as (method, path)."""
    cleared: list[str] = []

    async def clear(request: web.Request) -> web.Response:
        cleared.append(f"{request.method} {request.path_qs}")
        return web.Response(status=status, text="cleared")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", clear)
    server = TestServer(app)
    await server.start_server()
    try:
        yield f"http://127.0.0.1:{server.port}", cleared
    finally:
        await server.close()


# --- hooks ----------------------------------------------------------------------------------------


async def test_hooks_run_in_order_and_a_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    """Commands in the config's folder, calls by their method; each with its output and its time."""
    async with cache() as (url, cleared):
        config = loaded(
            tmp_path,
            python("open('first', 'w'); print('done')"),
            python("import os, sys; sys.exit(3 if os.path.exists('first') else 0)"),
            "{command: [/no/such/program]}",
            f'{{http: "PUT {url}/cache?key=secret"}}',
        )
        hooks = config.deployment.rollback.hooks
        results = [result async for result in run_hooks(hooks, tmp_path)]
    assert [(result.succeeded, result.detail) for result in results[:2]] == [
        (True, "exit code 0"),
        (False, "exit code 3"),
    ]
    assert "cannot be run" in results[2].detail
    assert (results[0].output, results[3].output) == ("done\n", "cleared")
    assert cleared == ["PUT /cache?key=secret"]
    assert all(result.seconds >= 0 for result in results)


async def test_a_hook_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    """And the next one runs."""
    config = loaded(tmp_path, python("import time; time.sleep(60)", "50ms"), python("print(1)"))
    results = [result async for result in run_hooks(config.deployment.rollback.hooks, tmp_path)]
    assert [result.detail for result in results] == ["did not end within 50ms", "exit code 0"]


async def test_a_fault_of_the_runner_is_the_hook_s_failure(tmp_path: Path) -> None:
    """Whatever goes wrong, the hooks behind it run."""
    config = loaded(tmp_path, "{command: [one]}", "{command: [two]}")

    async def run(action: Action, folder: Path) -> Ran:
        if action.command == ("one",):
            raise RuntimeError("broken")
        return Ran(True, "exit code 0", "")

    hooks = config.deployment.rollback.hooks
    results = [result.succeeded async for result in run_hooks(hooks, tmp_path, run)]
    assert results == [False, True]


def test_a_hook_s_name_holds_no_secret(tmp_path: Path) -> None:
    """Neither arguments, nor a password in a URL, nor its query."""
    config = loaded(
        tmp_path,
        '{http: "POST http://user:word@cache/clear?token=word"}',
        "{command: [/bin/clear, --token, word]}",
    )
    names = [name_of(hook) for hook in config.deployment.rollback.hooks]
    assert names == ["POST http://cache/clear", "/bin/clear"]


# --- the sequence ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fall", [Rollback(operator=ANN, reason="bad"), Emergency(operator=ANN, reason="bad")]
)
async def test_every_step_is_recorded_with_its_time(scene: Scene, fall: Rollback | Emergency) -> None:
    """Latch, phase, publication, hooks, notices, record; in the history once all is over."""
    scene.text = hooks_text(python("print(1)"), python("raise SystemExit(7)"))
    async with scene.control() as room, finishing(room):
        await room.go_to("canary")
        await room.desk.apply(fall)
        shown = await finished(room)
        line, steps = room.history.recent(2)
    assert (line.type.value, steps.type) == (shown["type"], "rollback_steps")
    assert list(line.evidence["seconds"]) == ["latch", "phase", "publish", "restart evidence", "notify"]
    done = list(steps.evidence["seconds"])
    hooks = [f"hook 1: {PYTHON}", f"hook 2: {PYTHON}"]
    assert done[:5] == list(line.evidence["seconds"])
    assert [step for step in done if step in hooks] == hooks
    assert set(done[5:]) == {"record", "notifications", *hooks}
    assert steps.evidence["failed"] == {f"hook 2: {PYTHON}": "exit code 7"}
    assert steps.evidence["number"] == line.evidence["number"] == 1
    times = [step["seconds"] for step in shown["steps"]]
    assert times == sorted(times)
    assert [hook["succeeded"] for hook in shown["hooks"]] == [True, False]
    assert (shown["from"], shown["to"], shown["reason"]) == ("canary", "staging", "bad")


async def test_people_hear_at_once_and_those_off_call_get_the_record_after(scene: Scene) -> None:
    """A slow hook holds up neither the page nor the rollback."""
    told = scene.directory / "told"
    waiting = f"while not os.path.exists({str(told)!r}): time.sleep(0.01)"
    scene.text = hooks_text(python(f"import os, time\n{waiting}"))
    async with scene.control() as room, finishing(room):
        await room.desk.apply(Rollback(operator=ANN, reason="bad"))
        assert [notice.kind for notice in scene.people.notices] == [NoticeKind.HAPPENED]
        assert room.history.recent(1)[0].type == "rollback"
        last = room.aftermath.last
        assert last is not None
        assert not last.over
        told.touch()
        await finished(room)
    first, record = scene.people.notices
    assert (first.severity, record.kind) == ("critical", NoticeKind.RECORD)
    assert "by ann: bad" in record.text
    assert "hook 1" in record.text


async def test_a_step_that_fails_is_recorded_and_does_not_stop_the_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the workers could not be told; everything else goes on."""
    scene.text = hooks_text(python("print(1)"))
    async with scene.control() as room, finishing(room):

        def broken(*_: Any) -> None:
            raise RuntimeError("no link")

        monkeypatch.setattr(scene.measured, "restart_evidence", broken)
        await room.desk.apply(Rollback(operator=ANN))
        shown = await finished(room)
    failed = {step["step"]: step["failed"] for step in shown["steps"] if step["failed"]}
    assert failed == {"restart evidence": "RuntimeError('no link')"}
    assert [hook["succeeded"] for hook in shown["hooks"]] == [True]


async def test_messages_that_do_not_arrive_in_time_are_said_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are tried on; the record does not wait for them."""

    async def never(patience: float) -> bool:
        return False

    monkeypatch.setattr(scene.people, "drained", never)
    async with scene.control() as room, finishing(room):
        await room.desk.apply(Rollback(operator=ANN))
        shown = await finished(room)
    failed = [step["step"] for step in shown["steps"] if step["failed"]]
    assert failed == ["notifications"]


async def test_hooks_do_not_wait_for_messages_of_the_fall_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel that is dead must not keep a cache from being cleared; both have their record in the end."""
    scene.text = hooks_text(python("open('ran', 'a').write('x')"))
    arrived = asyncio.Event()

    async def dead(patience: float) -> bool:
        return await arrived.wait()

    monkeypatch.setattr(scene.people, "drained", dead)
    async with scene.control() as room, finishing(room):
        ran = scene.directory / "ran"
        for times in (1, 2):
            await room.desk.apply(Rollback(operator=ANN))
            await soon(lambda times=times: ran.exists() and ran.read_text() == "x" * times)
            await room.desk.apply(Release(operator=ANN, engagement=room.desk.state.engagement))
        arrived.set()
        await finished(room)
        records = [event for event in room.history.recent(100) if event.type == "rollback_steps"]
        assert [record.evidence["number"] for record in records] == [1, 2]


async def test_the_record_comes_after_its_line_however_slow_the_disk_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hooks do not wait for it."""
    scene.text = hooks_text(python("open('ran', 'a').write('x')"))
    async with scene.control() as room, finishing(room):
        commit = room.store.commit

        async def slow(*args: Any) -> bool:
            await soon(lambda: room.aftermath.last is not None and room.aftermath.last.hooks)
            await turns(20)  # as many as the record would have needed
            return await commit(*args)

        monkeypatch.setattr(room.store, "commit", slow)
        await room.desk.apply(Rollback(operator=ANN))
        await finished(room)
        assert [event.type.value for event in room.history.recent(2)] == ["rollback", "rollback_steps"]


async def test_a_second_fall_while_latched_runs_no_hooks(scene: Scene) -> None:
    """It is recorded, and that is all."""
    scene.text = hooks_text(python("open('ran', 'a').write('x')"))
    async with scene.control() as room, finishing(room):
        await room.desk.apply(Rollback(operator=ANN))
        await finished(room)
        await room.desk.apply(Emergency(operator=ANN))
        await turns()
        assert (scene.directory / "ran").read_text() == "x"
        assert [event.type.value for event in room.history.recent(3)] == [
            "rollback",
            "rollback_steps",
            "emergency",
        ]


async def test_with_neither_hooks_nor_channels_nothing_follows(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of the rollback says everything; none is missing after a restart."""
    monkeypatch.setattr(scene.people, "reaches_anybody", lambda: False)
    async with scene.control() as room, finishing(room):
        await room.desk.apply(Rollback(operator=ANN))
        shown = await finished(room)
        assert [step["step"] for step in shown["steps"]][:2] == ["latch", "phase"]
    async with scene.control() as room:
        again = view(room.aftermath.last)
        assert again is not None
        assert (again["over"], again["at"]) == (True, shown["at"])


@pytest.mark.parametrize(("hours", "runs"), [(0.0, 1), (CUT_OFF_WITHIN / 3600 + 1, 0)])
async def test_hooks_that_were_cut_off_are_run_by_the_next_control_process(
    scene: Scene, hours: float, runs: int
) -> None:
    """The line is on disk, the hooks never ran; long afterwards nobody wants them any more."""
    scene.text = hooks_text(python("open('ran', 'a').write('x')"))
    async with scene.control() as room:
        await room.desk.apply(Rollback(operator=ANN, reason="bad"))
    scene.now += hours * 3600
    ran = scene.directory / "ran"
    for _ in range(2):
        async with scene.control() as room:
            room.aftermath.resume(room.desk.loaded.config.deployment.rollback.hooks, told=True)
            assert ("waiting=1" in repr(room.aftermath)) is (runs == 1 and not ran.exists())
            async with finishing(room):
                if runs:
                    shown = await finished(room)
                    assert shown["steps"][0]["step"] == "cut off"
    assert (ran.read_text() if ran.exists() else "") == "x" * runs


@pytest.mark.parametrize("told", [True, False])
async def test_a_fall_that_was_cut_off_with_the_whole_gateway_is_told_again(scene: Scene, told: bool) -> None:
    """Its messages went with the supervisor, which keeps them for the next control process only."""
    async with scene.control() as room:
        await room.desk.apply(Rollback(operator=ANN, reason="bad"))
        scene.people.notices.clear()
    async with scene.control() as room:
        room.aftermath.resume([], told=told)
        async with finishing(room):
            await finished(room)
    said = [notice for notice in scene.people.notices if notice.kind is NoticeKind.HAPPENED]
    assert [(notice.severity, notice.title) for notice in said] == (
        [] if told else [("critical", "rollback: development, everything to control")]
    )
    assert told or "by ann: bad. The gateway was restarted" in said[0].text


async def rollback_over(client: Client) -> dict[str, Any] | None:
    """The last rollback as the status shows it, once it is over."""
    shown = (await client.status())["rollback"]
    return shown if shown and shown["over"] else None


async def test_status_shows_the_last_rollback(tmp_path: Path) -> None:
    """When, by whom, why and how, also after a restart."""
    text = complete(hooks_text(python("print(1)")))
    gateway = make_gateway(tmp_path, text)
    async with gateway.control() as client:
        assert (await client.status())["rollback"] is None
        await client.ask("POST", "/api/v1/rollout/rollback", reason="bad answers", operator="ann")
        shown = await soon(lambda: rollback_over(client))
    assert (shown["operator"], shown["reason"], shown["to"]) == ("ann", "bad answers", "staging")
    assert [hook["detail"] for hook in shown["hooks"]] == ["exit code 0"]
    async with gateway.control() as client:
        assert (await client.status())["rollback"] == shown


def test_a_hook_is_one_thing_only() -> None:
    """Neither nothing nor both."""
    with pytest.raises(ValueError, match="http"):
        Hook.model_validate({})


async def test_the_command_shows_the_last_rollback_and_what_of_it_failed(tmp_path: Path) -> None:
    """In a line; what went well is in the history."""
    gateway = make_gateway(tmp_path, complete(hooks_text(python("raise SystemExit(3)"))))
    async with gateway.control() as client:
        await client.ask("POST", "/api/v1/rollout/rollback", reason="bad answers", operator="ann")
        await soon(lambda: rollback_over(client))
        document = await client.status()
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(render(document, time.time()))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert "Last rollback 0 s ago, canary to staging, by ann: bad answers" in lines
    assert f"  failed: hook 1: {PYTHON}: exit code 3" in lines


async def test_the_command_shows_a_channel_that_takes_no_messages(tmp_path: Path) -> None:
    """Whoever waits for a page should know that none comes."""
    async with make_gateway(tmp_path, complete("")).control() as client:
        document = await client.status()
    well = {"name": "pager", "waiting": 0, "dropped": 0, "error": ""}
    ill = {"name": "chat", "waiting": 3, "dropped": 2, "error": "answered 404"}
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(render(document | {"channels": [well, ill]}, time.time()))
    (line,) = [line for line in console.export_text().splitlines() if line.startswith("channel")]
    assert " ".join(line.split()) == "channel chat does not take messages: answered 404; 3 waiting, 2 lost"
