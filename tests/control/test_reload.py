"""A change of the config's files takes force once, whole, and only when it held still."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from gateway.control.config import reload
from gateway.control.config.loading import ConfigError, Loaded, load
from gateway.control.config.reload import Applied, Reloader, ReloadRefused, ReloadResult
from gateway.control.config.sources import Fingerprints, look
from gateway.latch import LatchKind
from tests.support.control import CONFIG, make_gateway, replace_file
from tests.support.polling import OF_TASKS, soon

POLL = 0.01
SETTLE = 0.03

DEPLOYMENT = """\
deployment:
  initial_phase: canary
  phases:
    canary: {user_percentage: 1}
"""


def at(percentage: float, text: str = CONFIG) -> str:
    """The config with another percentage."""
    return text.replace("user_percentage: 1", f"user_percentage: {percentage}")


def in_force(config: Path) -> Applied:
    """What the file holds, in force since long ago."""
    return Applied(load(config, {}), 1.0)


async def ignore(_: Loaded | ConfigError) -> None:
    """For a reloader whose readings concern nobody else."""


class Applier:
    """Takes the configs that the reloader puts in force."""

    def __init__(self) -> None:
        self.percentages: list[float] = []
        self.salts: list[str] = []
        self.refusal: str | None = None
        self.entered = asyncio.Event()
        self.may_finish = asyncio.Event()
        self.may_finish.set()

    async def __call__(self, applied: Applied) -> None:
        self.entered.set()
        await self.may_finish.wait()
        if self.refusal:
            raise ReloadRefused(self.refusal)
        self.percentages.append(float(applied.loaded.config.deployment.phases["canary"].user_percentage))
        self.salts.append(applied.loaded.config.deployment.rollout_salt)


@contextlib.asynccontextmanager
async def watching(config: Path, applier: Applier) -> AsyncIterator[Reloader]:
    """A reloader at work on a file."""
    reloader = Reloader(
        in_force(config), lambda: load(config, {}), applier, ignore, poll_interval=POLL, settle=SETTLE
    )
    running = asyncio.create_task(reloader.run())
    try:
        yield reloader
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def applier() -> Applier:
    return Applier()


async def test_an_in_place_write_is_applied(config: Path, applier: Applier) -> None:
    """An editor that writes into the file is seen by the content."""
    async with watching(config, applier) as reloader:
        config.write_text(at(5))
        await soon(lambda: applier.percentages == [5])
        await soon(lambda: reloader.results[ReloadResult.SUCCESS] == 1)
        assert not reloader.file_differs


async def test_an_atomic_rename_is_applied(config: Path, applier: Applier) -> None:
    """A file that is renamed over the old one is followed by its name."""
    async with watching(config, applier):
        replace_file(config, at(7))
        await soon(lambda: applier.percentages == [7])


async def test_same_size_and_same_times_are_still_a_change(config: Path, applier: Applier) -> None:
    """Times are never trusted: the content alone says whether something changed."""
    before = config.stat()
    async with watching(config, applier):
        config.write_text(at(2))
        os.utime(config, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert config.stat().st_size == before.st_size
        await soon(lambda: applier.percentages == [2])


def write_configmap(volume: Path, stamp: str, percentage: float, salt: str) -> None:
    """What the kubelet does (atomic_writer.go): a new directory, a new link, renamed over `..data`."""
    directory = volume / stamp
    directory.mkdir()
    main = CONFIG.split("deployment:")[0] + "deployment_file: deployment.yaml\n"
    (directory / "gateway.yaml").write_text(f"# {salt}\n{main}")
    (directory / "deployment.yaml").write_text(
        at(percentage, DEPLOYMENT).replace("  phases", f"  rollout_salt: {salt}\n  phases")
    )
    temporary = volume / "..data_tmp"
    temporary.symlink_to(stamp)
    old = (volume / "..data").resolve() if (volume / "..data").exists() else None
    temporary.rename(volume / "..data")
    if old is not None:
        shutil.rmtree(old)
    for name in ("gateway.yaml", "deployment.yaml"):
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")


async def test_a_configmap_swap_is_applied_though_the_old_directory_is_gone_at_once(
    tmp_path: Path, applier: Applier
) -> None:
    """Both files change with one rename of a link two steps away."""
    write_configmap(tmp_path, "..1", 1, "one")
    async with watching(tmp_path / "gateway.yaml", applier):
        for number in range(2, 7):
            write_configmap(tmp_path, f"..{number}", number, f"salt{number}")
            await soon(lambda number=number: applier.percentages[-1:] == [number])  # type: ignore[misc]
    assert applier.percentages == [2, 3, 4, 5, 6]


async def test_two_swaps_in_a_row_end_in_the_last_and_never_in_a_mixture(
    tmp_path: Path, applier: Applier
) -> None:
    """Whatever moment the files are read at, what is applied was there as a whole."""
    write_configmap(tmp_path, "..1", 1, "salt1")
    async with watching(tmp_path / "gateway.yaml", applier):
        for number in range(2, 22, 2):
            write_configmap(tmp_path, f"..{number}", number, f"salt{number}")
            await asyncio.sleep(0.001)  # the second of the two comes while the first is looked at
            write_configmap(tmp_path, f"..{number + 1}", number + 1, f"salt{number + 1}")
            await soon(lambda number=number: applier.percentages[-1:] == [number + 1])  # type: ignore[misc]
    assert list(zip(applier.percentages, applier.salts, strict=True)) == [
        (percentage, f"salt{percentage:.0f}") for percentage in applier.percentages
    ]


async def test_files_that_change_while_they_are_loaded_are_loaded_again(
    config: Path, applier: Applier
) -> None:
    """What was loaded must still be there afterwards, or it may have been two halves."""
    calls = 0

    def load_and_change() -> Loaded:
        nonlocal calls
        calls += 1
        loaded = load(config, {})
        if calls == 1:
            config.write_text(at(4))
        return loaded

    reloader = Reloader(in_force(config), load_and_change, applier, ignore, settle=0.0)
    config.write_text(at(3))
    await reloader.check(requested=False)
    assert applier.percentages == [4]
    assert calls == 2


async def test_a_file_that_is_still_being_written_is_left_alone(config: Path, applier: Applier) -> None:
    """Every prefix of the new file that was there for a moment is skipped, valid or not."""
    text = at(55)
    async with watching(config, applier) as reloader:
        with config.open("w") as file:
            for start in range(0, len(text), 8):
                file.write(text[start : start + 8])
                file.flush()
                await asyncio.sleep(SETTLE / 10)
        await soon(lambda: applier.percentages == [55])
        assert reloader.results[ReloadResult.FAILURE] == 0


async def test_the_same_content_again_is_no_reload(config: Path, applier: Applier) -> None:
    """A rename, a touch or a swap that brings the same bytes changes nothing."""
    reloader = Reloader(in_force(config), lambda: load(config, {}), applier, ignore, settle=0.0)
    replace_file(config, CONFIG)
    os.utime(config)
    await reloader.check(requested=False)
    assert reloader.results.total() == 0
    assert applier.percentages == []


async def test_a_bad_file_leaves_everything_and_is_reported_once(config: Path, applier: Applier) -> None:
    """The error names place and key; the same bad bytes are not counted again at every look."""
    reloader = Reloader(in_force(config), lambda: load(config, {}), applier, ignore, settle=0.0)
    before = reloader.applied
    config.write_text(CONFIG.replace("user_percentage", "user_percent"))
    for _ in range(3):
        await reloader.check(requested=False)
    assert reloader.error is not None
    assert "gateway.yaml:10:" in reloader.error
    assert "user_percent" in reloader.error
    assert reloader.results[ReloadResult.FAILURE] == 1
    assert reloader.applied is before
    assert reloader.file_differs

    config.write_text(CONFIG)
    await reloader.check(requested=False)
    assert reloader.error is None
    assert not reloader.file_differs
    assert applier.percentages == []


async def test_a_refused_config_leaves_everything_and_says_why(config: Path, applier: Applier) -> None:
    """Valid is not enough: what may not change under a running gateway is refused whole."""
    applier.refusal = "listen: changed, which needs a restart"
    async with watching(config, applier) as reloader:
        config.write_text(at(5))
        await soon(lambda: reloader.error == applier.refusal)
        assert reloader.results[ReloadResult.FAILURE] == 1
        assert reloader.file_differs


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "large", "not utf-8", "empty"])
async def test_what_is_no_config_file_is_an_error_and_does_not_hang(
    config: Path, applier: Applier, kind: str
) -> None:
    """Nothing that can lie at the path stalls the watcher or replaces what runs."""
    config.unlink()
    match kind:
        case "directory":
            config.mkdir()
        case "fifo":
            os.mkfifo(config)
        case "large":
            with config.open("wb") as file:
                file.truncate(100 * 1024 * 1024)
        case "not utf-8":
            config.write_bytes(b"\xff\xfe\x00")
        case "empty":
            config.touch()
    replacement = config.with_name("before.yaml")
    replacement.write_text(CONFIG)
    reloader = Reloader(
        Applied(_loaded_as(replacement, config), 1.0),
        lambda: load(config, {}),
        applier,
        ignore,
        poll_interval=POLL,
        settle=0.0,
    )
    async with asyncio.timeout(OF_TASKS):
        await reloader.check(requested=False)
    assert reloader.error is not None
    assert reloader.results[ReloadResult.FAILURE] == 1

    if kind == "directory":
        config.rmdir()
    elif kind != "missing":
        config.unlink()
    config.write_text(at(5))
    await reloader.check(requested=False)
    assert applier.percentages == [5]


def _loaded_as(real: Path, path: Path) -> Loaded:
    """The config of one file as though it had been read from another."""
    loaded = load(real, {})
    return Loaded(loaded.config, path, loaded.digest, {path: real.read_bytes()}, ())


async def test_a_faulty_deployment_file_is_watched_though_it_was_never_loaded(
    config: Path, applier: Applier
) -> None:
    """Mending the second file alone is enough."""
    deployment = config.with_name("deployment.yaml")
    async with watching(config, applier) as reloader:
        deployment.write_text("deployment: [")
        config.write_text(CONFIG.split("deployment:")[0] + "deployment_file: deployment.yaml\n")
        await soon(lambda: reloader.error is not None)
        deployment.write_text(at(9, DEPLOYMENT))
        await soon(lambda: applier.percentages == [9])
        assert reloader.error is None


async def test_a_request_reads_the_files_again_though_nothing_changed(config: Path, applier: Applier) -> None:
    """SIGHUP on a good file is counted and republishes nothing; on a bad one it says so again."""
    async with watching(config, applier) as reloader:
        reloader.request()
        await soon(lambda: reloader.results[ReloadResult.UNCHANGED] == 1)
        config.write_text("nonsense: [")
        await soon(lambda: reloader.results[ReloadResult.FAILURE] == 1)
        reloader.request()
        await soon(lambda: reloader.results[ReloadResult.FAILURE] == 2)
    assert applier.percentages == []


async def test_two_hundred_requests_are_coalesced_and_none_is_lost(
    config: Path, applier: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst during a reload is one more reload, and what it finds is the last content."""
    looked: list[object] = []

    def counting(paths: Iterable[Path]) -> Fingerprints:
        looked.append(paths)
        return look(paths)

    monkeypatch.setattr(reload, "look", counting)
    async with watching(config, applier) as reloader:
        applier.may_finish.clear()
        config.write_text(at(5))
        reloader.request()
        await applier.entered.wait()
        config.write_text(at(6))
        for _ in range(200):
            reloader.request()
        applier.may_finish.set()
        await soon(lambda: applier.percentages == [5, 6])
        await soon(lambda: not reloader.file_differs)
        attempts = reloader.results.total()
        assert attempts <= 3
        seen = len(looked)
        await soon(lambda: len(looked) >= seen + 10)
        assert reloader.results.total() <= attempts + 1


async def test_a_fault_while_applying_is_shown_and_does_not_repeat_for_ever(config: Path) -> None:
    """An unforeseen error reaches the task keeper, and the same bytes are not tried again by polling."""
    calls = 0

    async def fail(_: Applied) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("injected")

    reloader = Reloader(in_force(config), lambda: load(config, {}), fail, ignore, settle=0.0)
    config.write_text(at(5))
    with pytest.raises(RuntimeError):
        await reloader.check(requested=False)
    assert reloader.error is not None
    await reloader.check(requested=False)
    assert calls == 1


# --- the whole control process ---


@pytest.mark.socket
async def test_a_reload_publishes_a_snapshot_and_is_in_the_history(tmp_path: Path) -> None:
    """From the file to the workers, the status page and the audit trail."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        before = await client.status()
        assert gateway.link.current.version == 1
        gateway.config.write_text(at(25))
        await soon(lambda: gateway.link.current.user_percentage == 25)
        history = await soon(client.history)
        after = await client.status()
    assert gateway.link.current.version == 2
    assert after["user_percentage"] == 25
    assert after["version"] == before["version"] + 1
    assert history[-1]["type"] == "reload"
    assert (history[-1]["from"], history[-1]["to"]) == (before["config"]["digest"], after["config"]["digest"])


@pytest.mark.socket
async def test_a_key_that_needs_a_restart_is_refused_whole(tmp_path: Path) -> None:
    """A new percentage beside a new address is not applied either, and the message says so."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        gateway.config.write_text(at(25) + "listen: {address: 127.0.0.1:8099}\n")
        client.controller.request_reload()
        await soon(lambda: "error=None" not in repr(client.controller))
        status = await client.status()
        metrics = await client.metrics()
    assert gateway.link.current.user_percentage == 1
    assert "listen" in status["config"]["error"]
    assert "restart" in status["config"]["error"]
    assert status["config"]["file_differs"]
    assert "gateway_config_last_reload_successful 0.0" in metrics
    assert 'gateway_config_reloads_total{result="failure"} 1.0' in metrics
    assert "gateway_config_file_differs 1.0" in metrics


@pytest.mark.socket
async def test_removing_the_current_phase_is_refused(tmp_path: Path) -> None:
    """The rollout would stand nowhere."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        gateway.config.write_text(CONFIG.split("deployment:")[0] + "deployment: {ladder: [staging]}\n")
        client.controller.request_reload()
        await soon(lambda: "error=None" not in repr(client.controller))
        error = (await client.status())["config"]["error"]
    assert gateway.link.current.phase == "canary"
    assert "the current phase canary is gone" in error


@pytest.mark.socket
async def test_a_restarted_control_process_goes_on_with_version_and_error(tmp_path: Path) -> None:
    """Snapshot versions never go back; a file broken meanwhile is reported, not applied."""
    gateway = make_gateway(tmp_path)
    async with gateway.control():
        gateway.config.write_text(at(25))
        await soon(lambda: gateway.link.current.version == 2)
    gateway.config.write_text("nonsense: [")
    async with gateway.control() as client:
        await soon(lambda: "error=None" not in repr(client.controller))
        assert (await client.status())["user_percentage"] == 25
        assert gateway.link.current.version == 2
        gateway.config.write_text(at(30))
        await soon(lambda: gateway.link.current.user_percentage == 30)
        assert gateway.link.current.version == 3


@pytest.mark.socket
async def test_emergency_in_a_reloaded_config_engages_and_false_releases_nothing(tmp_path: Path) -> None:
    """`emergency: true` engages the latch at load; taking it out again lifts nothing."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        gateway.config.write_text(CONFIG + "emergency: true\n")
        await soon(lambda: gateway.page.engaged)
        await soon(lambda: gateway.link.current.version == 3)  # the emergency, then the reload
        gateway.config.write_text(CONFIG)
        await soon(lambda: gateway.link.current.version == 4)
        assert gateway.page.engaged
        assert (await client.status())["latch"]["kind"] == "emergency"


async def test_a_fault_in_what_hears_of_a_config_does_not_keep_it_from_taking_force(
    config: Path, applier: Applier
) -> None:
    """The file would not be read again before it changes."""

    async def fail(_: Loaded | ConfigError) -> None:
        raise RuntimeError("injected")

    reloader = Reloader(in_force(config), lambda: load(config, {}), applier, fail, settle=0.0)
    config.write_text(at(5))
    await reloader.check(requested=False)
    assert applier.percentages == [5]


REFUSED = CONFIG + "emergency: true\nhealht: {address: 127.0.0.1:9}\n"
"""An emergency, in a file in which somebody else has not finished an edit."""


@pytest.mark.socket
async def test_emergency_in_a_config_that_is_refused_engages_all_the_same(tmp_path: Path) -> None:
    """The latch does not wait until somebody has finished another edit, and says what is wrong with it."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        gateway.config.write_text(REFUSED)
        await soon(lambda: gateway.page.engaged)
        status = await client.status()
    assert status["latch"]["kind"] == "emergency"
    assert "though the config is refused" in status["latch"]["reason"]
    assert "healht: unknown key" in status["latch"]["reason"]


@pytest.mark.socket
async def test_emergency_in_a_config_that_needs_a_restart_engages_all_the_same(tmp_path: Path) -> None:
    """A file without a fault may be refused too: what it changes beside needs a restart."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        gateway.config.write_text(CONFIG + "emergency: true\nstate: {retention: 1d}\n")
        await soon(lambda: gateway.page.engaged)
        await soon(lambda: "error=None" not in repr(client.controller))
        assert "restart" in (await client.status())["config"]["error"]


@pytest.mark.socket
async def test_a_release_outlasts_the_mending_of_the_config_and_a_restart(tmp_path: Path) -> None:
    """The key engages when it is switched on, not each time that the file is read with it."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        gateway.config.write_text(REFUSED)
        await soon(lambda: gateway.page.engaged)
        await soon(lambda: "error=None" not in repr(client.controller))
        status, _ = await client.ask("POST", "/api/v1/release", reason="over")
        assert status == 200
    async with gateway.control() as client:
        await soon(lambda: "error=None" not in repr(client.controller))
        gateway.config.write_text(CONFIG + "emergency: true\n")
        await soon(lambda: "error=None" in repr(client.controller))
        assert not gateway.page.engaged
        before = gateway.link.current.version
        gateway.config.write_text(CONFIG)
        await soon(lambda: gateway.link.current.version > before)
        gateway.config.write_text(REFUSED)
        await soon(lambda: gateway.page.engaged)


@pytest.mark.socket
async def test_emergency_in_the_config_takes_over_a_rollback(tmp_path: Path) -> None:
    """A latch that a rollback engaged becomes an emergency, which opens the breakers too."""
    gateway = make_gateway(tmp_path)
    async with gateway.control() as client:
        assert (await client.ask("POST", "/api/v1/rollout/rollback", reason="hm"))[0] == 200
        gateway.config.write_text(CONFIG + "emergency: true\n")
        await soon(lambda: gateway.page.kind is LatchKind.EMERGENCY)
