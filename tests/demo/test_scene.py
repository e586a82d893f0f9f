"""The demo's ports and its config."""

import socket
from pathlib import Path

import pytest

from gateway.control.config.loading import load
from gateway.core.compile import compile_snapshot, initial_position
from gateway.core.split import Table
from gateway.demo import scene as scene_module
from gateway.demo.scenarios import EXPERIMENT, SANDBOX, SCENARIOS, Scenario
from gateway.demo.scene import HOST, Scene, choose_scene, listen_for_pipelines, write_config
from gateway.demo.traffic import USER_COUNT, user_ids
from gateway.model.snapshot import Arm

pytestmark = pytest.mark.socket


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_the_config_is_valid(scenario: Scenario, tmp_path: Path) -> None:
    """It loads as `run` loads it, and experiment and health checks are in it."""
    pipelines = listen_for_pipelines()
    scene = choose_scene(tmp_path, pipelines)
    write_config(scene, scenario)
    for listening in pipelines.values():
        listening.close()
    config = load(scene.config, {}).config
    assert EXPERIMENT in config.deployment.experiments
    assert all(upstream.health_check for upstream in config.upstreams.values())


def test_the_users_split_as_the_demo_says(tmp_path: Path) -> None:
    """A few hundred users are few: the salts are chosen so that they come out near the expected 25 %."""
    scene = Scene(8080, 9900, 9901, {Arm.CONTROL: 9001, Arm.TREATMENT: 9002}, tmp_path / "c.yaml", tmp_path)
    write_config(scene, SANDBOX)
    config = load(scene.config, {}).config
    table = Table(compile_snapshot(config, initial_position(config), digest="", version=1))
    route = table.match(b"POST", b"/v1/generate", {})
    assert route is not None
    decisions = [
        table.decide(
            route, latched=False, available=[True, True], user=user.encode(), override=None, draw=b""
        )
        for user in user_ids(USER_COUNT)
    ]
    treated = sum(decision.arm is Arm.TREATMENT for decision in decisions)
    assert treated / USER_COUNT == pytest.approx(0.25, abs=0.01)


def test_ports_that_are_taken_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next free one is taken, and the addresses say so."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(scene_module, "_TRAFFIC_PORT", port)
        monkeypatch.setattr(scene_module, "_ADMIN_PORT", port)
        scene = choose_scene(tmp_path, {})
    assert scene.traffic_port != port
    assert len({scene.traffic_port, scene.admin_port, scene.health_port, port}) == 4
    assert scene.traffic == f"http://{HOST}:{scene.traffic_port}"
