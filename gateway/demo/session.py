"""One run of the demo from its first process to its last: the only module that knows all parts.

Everything that is started here is ended here, however the demo ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, NoReturn

from aiohttp import ClientError, ClientSession, ClientTimeout
from rich.console import Console
from rich.live import Live

from gateway.demo import keys, lines, processes
from gateway.demo.picture import Guide, Picture
from gateway.demo.pipelines import encode_behaviours
from gateway.demo.play import Options, Play
from gateway.demo.processes import Child
from gateway.demo.readings import Admin
from gateway.demo.scenarios import Scenario
from gateway.demo.scene import Scene, choose_scene, listen_for_pipelines, write_config
from gateway.demo.traffic import NoAnswers, Traffic
from gateway.demo.view import Screen
from gateway.exits import SIGNAL_BASE, Exit
from gateway.model.snapshot import Arm

_START_PATIENCE = 20.0
_READY_EVERY = 0.05
_STOP_PATIENCE = 6.0  # more than the config's drain_timeout
_FRAME_EVERY = 0.2
_LINE_EVERY = 2.0


class ChildDied(Exception):
    """A process of the demo ended by itself or never came up; the message says all that is known."""


class Interrupted(Exception):
    """A signal came before the demo was up."""


def run(options: Options) -> int:
    """Run the demo to its end; the exit code. Everything is printed, to stderr what went wrong."""
    processes.adopt_orphans()
    try:
        return asyncio.run(_Session(options).run())
    finally:
        processes.end_orphans()


class _Session:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._signal: int | None = None
        self._signalled = asyncio.Event()
        self._console = Console(force_terminal=sys.stdout.isatty(), highlight=False)
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal

    async def run(self) -> int:
        """The whole demo; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            with tempfile.TemporaryDirectory(prefix="gateway-demo-", ignore_cleanup_errors=True) as folder:
                started = _children(Path(folder), self._options.scenario)
                async with started as (scene, pipelines, gateway), ClientSession() as http:
                    await self._until_ready(scene, http, pipelines, gateway)
                    last = await self._perform(scene, http, pipelines, gateway)
        except (ChildDied, NoAnswers) as failure:
            print(f"gateway demo: {failure}", file=sys.stderr)
            return Exit.FAILED
        except Interrupted:
            assert self._signal is not None
            return SIGNAL_BASE + self._signal
        for line in lines.summary(last):
            self._console.print(line, soft_wrap=True, markup=False)
        return Exit.DONE

    def _on_signal(self, number: int) -> None:
        self._signal = number
        self._signalled.set()

    async def _until_ready(self, scene: Scene, http: ClientSession, *children: Child) -> None:
        starting = "starting two pipelines and the gateway …"
        with self._console.status(starting) if self._is_live else contextlib.nullcontext():
            in_time = await _first_of(
                _answers(http, f"{scene.health}/readyz"),
                self._signalled.wait(),
                *map(_death, children),
                within=_START_PATIENCE,
            )
        if self._signal is not None:
            raise Interrupted
        if not in_time:
            raise ChildDied(f"no gateway within {_START_PATIENCE:.0f} s{_last_words(*children)}")

    async def _perform(self, scene: Scene, http: ClientSession, pipelines: Child, gateway: Child) -> Picture:
        play = Play(
            self._options,
            _guide(scene),
            Admin(scene.admin, http),
            behave=lambda behaviours: pipelines.tell(encode_behaviours(behaviours)),
            measure_memory=lambda: processes.resident_bytes(gateway.pid),
        )
        await play.look()
        rng = random.Random()
        await _first_of(
            Traffic(f"{scene.traffic}/v1/generate", self._options.rate, play.tally, rng).run(),
            play.run(),
            self._show(play) if self._is_live else _narrate(play),
            play.quit.wait(),
            self._signalled.wait(),
            _death(gateway),
            _death(pipelines),
            within=self._options.duration,
        )
        return play.picture()

    async def _show(self, play: Play) -> NoReturn:
        first = Screen(play.picture())
        with (
            keys.listening(play.press) as play.keys,
            Live(first, console=self._console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                live.update(Screen(play.picture()), refresh=True)
                await asyncio.sleep(_FRAME_EVERY)


async def _narrate(play: Play) -> NoReturn:
    for line in lines.opening(play.picture().guide):
        print(line, flush=True)
    told_until = 0.0
    while True:
        await asyncio.sleep(_LINE_EVERY)
        picture = play.picture()
        for event in picture.events:
            if event.at > told_until:
                print(lines.event_line(event), flush=True)
        told_until = picture.elapsed
        print(lines.progress(picture), flush=True)


@contextlib.asynccontextmanager
async def _children(folder: Path, scenario: Scenario) -> AsyncIterator[tuple[Scene, Child, Child]]:
    """The sample pipelines and the gateway, started, and ended on the way out."""
    sockets = listen_for_pipelines()
    try:
        scene = choose_scene(folder, sockets)
        write_config(scene, scenario)
        arguments = [f"--{arm.label}-fd={sockets[arm].fileno()}" for arm in Arm]
        pipelines = await Child.start(
            "the pipelines' process",
            ["gateway.demo.pipelines", *arguments],
            log=folder / "pipelines.log",
            inherit=[listening.fileno() for listening in sockets.values()],
        )
    finally:
        for listening in sockets.values():
            listening.close()
    try:
        command = ["gateway", "run", str(scene.config), "--state-dir", str(scene.state)]
        gateway = await Child.start("the gateway", command, log=folder / "gateway.log")
        try:
            yield scene, pipelines, gateway
        finally:
            await gateway.stop(_STOP_PATIENCE)
    finally:
        await pipelines.stop(_STOP_PATIENCE)


async def _death(child: Child) -> NoReturn:
    raise ChildDied(await child.ended() + _last_words(child))


def _last_words(*children: Child) -> str:
    written = "".join(f"\n  {line}" for child in children for line in child.last_lines())
    return f"; the last lines written:{written}" if written else ""


async def _answers(http: ClientSession, url: str) -> None:
    while True:
        try:
            async with http.get(url, timeout=ClientTimeout(total=1.0)) as response:
                if response.ok:
                    return
        except (ClientError, OSError, TimeoutError):
            pass
        await asyncio.sleep(_READY_EVERY)


async def _first_of(*works: Coroutine[Any, Any, object], within: float | None) -> bool:
    """Work on all until the first ends, then cancel the others; False if none ended in time.

    What the works that ended raised is raised here.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    return bool(done)


def _guide(scene: Scene) -> Guide:
    return Guide(
        traffic=scene.traffic,
        admin=scene.admin,
        config=str(scene.config),
        command=_own_command(),
        admin_option="" if scene.has_usual_admin else f"--admin {scene.admin}",
    )


def _own_command() -> str:
    """How a shell in this directory calls the `gateway` of this very installation."""
    own = Path(sys.executable).with_name("gateway")
    if not own.exists():
        return f"{sys.executable} -m gateway"
    found = shutil.which("gateway")
    if found is not None and Path(found).absolute() == own:
        return "gateway"
    relative = os.path.relpath(own)
    return str(own) if relative.startswith(os.pardir) else relative
