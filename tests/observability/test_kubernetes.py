"""The example for Kubernetes: what it says in several places agrees, and the gateway takes its config."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli import main
from gateway.control.config.loading import load
from gateway.exits import Exit
from gateway.model.config import Config
from gateway.model.units import TcpAddress
from tests.observability import shipped
from tests.support.polling import eventually
from tests.support.processes import Gateway

EXAMPLE = shipped.CONFIG / "kubernetes" / "gateway.yaml"
TOKENS = "/etc/gateway-tokens"


def objects() -> dict[str, Any]:
    """The objects by kind and name."""
    found = yaml.safe_load_all(EXAMPLE.read_text())
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


def pod() -> dict[str, Any]:
    """What each pod is."""
    return dict(objects()["StatefulSet/pipeline"]["spec"]["template"]["spec"])


def container(name: str) -> dict[str, Any]:
    (found,) = (each for each in pod()["containers"] if each["name"] == name)
    return dict(found)


def embedded() -> str:
    """The gateway's config as the ConfigMap holds it."""
    return str(objects()["ConfigMap/gateway"]["data"]["gateway.yaml"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The config in a folder, with tokens beside it."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    text = embedded().replace(TOKENS, str(tokens))
    for name in ("operator", "alertmanager"):
        (tokens / name).write_text(f"secret-of-{name}\n")
    (tmp_path / "gateway.yaml").write_text(text)
    return tmp_path / "gateway.yaml"


@pytest.fixture
def config(path: Path) -> Config:
    return load(path, {}).config


def test_the_gateway_takes_its_config(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gateway check` finds no fault."""
    assert main(["check", str(path)]) == Exit.DONE
    assert capsys.readouterr().err == ""


def test_labels_select_the_pods() -> None:
    """Services, the budget and the set mean the pods of this file."""
    labels = objects()["StatefulSet/pipeline"]["spec"]["template"]["metadata"]["labels"]
    workload = objects()["StatefulSet/pipeline"]["spec"]
    assert workload["selector"]["matchLabels"] == labels
    assert objects()["PodDisruptionBudget/pipeline"]["spec"]["selector"]["matchLabels"] == labels
    for name in ("pipeline", "pipeline-pods"):
        assert objects()[f"Service/{name}"]["spec"]["selector"] == labels
    assert f"Service/{workload['serviceName']}" in objects()


def test_ports_agree(config: Config) -> None:
    """Containers, Services and the config speak of the same ports; upstreams are the pod's own."""
    ports = {port["name"]: port["containerPort"] for port in container("gateway")["ports"]}
    for name, address in (
        ("http", config.listen.address),
        ("admin", config.admin.address),
        ("health", config.health.address),
    ):
        assert isinstance(address, TcpAddress)
        assert address == TcpAddress("0.0.0.0", ports[name])
    for service in ("pipeline", "pipeline-pods"):
        for port in objects()[f"Service/{service}"]["spec"]["ports"]:
            assert port["targetPort"] in ports
    for name, upstream in config.upstreams.items():
        (variable,) = container(name)["env"]
        assert [str(endpoint) for endpoint in upstream.endpoints] == [f"http://127.0.0.1:{variable['value']}"]


def test_a_pod_has_time_to_drain(config: Config) -> None:
    """Pipelines stay until the gateway has drained, and the kubelet waits for both."""
    needs = config.drain_delay + config.drain_timeout
    assert config.drain_delay >= 5.0
    for name in config.upstreams:
        command = container(name)["lifecycle"]["preStop"]["exec"]["command"]
        assert needs < float(command[1]) < pod()["terminationGracePeriodSeconds"]


def test_what_it_names_is_mounted(config: Config) -> None:
    """Config, tokens and state lie where the config and the image look for them."""
    mounts = {mount["name"]: mount for mount in container("gateway")["volumeMounts"]}
    assert container("gateway")["args"] == ["run", f"{mounts['config']['mountPath']}/gateway.yaml"]
    assert not any("subPath" in mount for mount in mounts.values())
    assert str(config.state.directory) == mounts["state"]["mountPath"]
    assert mounts["tokens"]["mountPath"] == TOKENS
    assert f"GATEWAY_STATE_DIR={mounts['state']['mountPath']}" in Path("Dockerfile").read_text()
    claims = objects()["StatefulSet/pipeline"]["spec"]["volumeClaimTemplates"]
    volumes = [*pod()["volumes"], *(claim["metadata"] for claim in claims)]
    assert {volume["name"] for volume in volumes} == set(mounts)


@pytest.mark.process
def test_probes_hit_what_is_there_and_a_new_configmap_is_read(
    tmp_path: Path, upstreams: dict[str, int]
) -> None:
    """With the example's own paths; and the config swapped as the kubelet swaps it, by `..data`."""
    gateway = Gateway(tmp_path, upstreams, workers=1)
    swap(tmp_path, gateway, "1")
    try:
        gateway.start()
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container("gateway")[probe]["httpGet"]
            assert asked["port"] == "health"
            assert probed(gateway, asked["path"]) == 200
        gateway.extra = {"deployment": {"phases": {"development": {"user_percentage": 0}}}}
        assert gateway.arm() == "treatment"
        swap(tmp_path, gateway, "2")
        eventually("the new config is in force", lambda: gateway.arm() == "control")
    finally:
        gateway.close()


def probed(gateway: Gateway, path: str) -> int:
    """The status that a kubelet would get."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.health_port}{path}", timeout=5) as answer:
        return int(answer.status)


def swap(folder: Path, gateway: Gateway, version: str) -> None:
    """What a kubelet does with a ConfigMap: a new directory, a link renamed over the old one."""
    directory = folder / f"..{version}"
    directory.mkdir()
    (directory / "gateway.yaml").write_text(json.dumps(gateway.configuration()))
    (folder / "..next").symlink_to(directory.name)
    os.replace(folder / "..next", folder / "..data")
    if not (folder / "gateway.yaml").is_symlink():
        (folder / "gateway.yaml").symlink_to("..data/gateway.yaml")
