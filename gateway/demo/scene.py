"""The demo's scene: the ports that it uses, and the gateway's config for them.

It takes the usual ports if they are free, otherwise the next free ones.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.demo.scenarios import EXPERIMENT, Scenario
from gateway.model.snapshot import Arm

HOST = "127.0.0.1"
_TRAFFIC_PORT, _ADMIN_PORT, _HEALTH_PORT = 8080, 9900, 9901
_PIPELINE_PORTS = {Arm.CONTROL: 9001, Arm.TREATMENT: 9002}
_PORTS_TRIED = 50
_BACKLOG = 512


@dataclass(frozen=True, slots=True)
class Scene:
    """Where everything of one demo is."""

    traffic_port: int
    admin_port: int
    health_port: int
    pipeline_ports: Mapping[Arm, int]
    config: Path
    state: Path

    @property
    def traffic(self) -> str:
        """The gateway's public URL."""
        return f"http://{HOST}:{self.traffic_port}"

    @property
    def admin(self) -> str:
        """URL of the admin API."""
        return f"http://{HOST}:{self.admin_port}"

    @property
    def health(self) -> str:
        """URL of the workers' own probes."""
        return f"http://{HOST}:{self.health_port}"

    @property
    def has_usual_admin(self) -> bool:
        """True if the commands find the gateway without `--admin`."""
        return self.admin_port == _ADMIN_PORT


def listen_for_pipelines() -> dict[Arm, socket.socket]:
    """Listening sockets for the sample pipelines, to be inherited by their process."""
    return {arm: _listen(port) for arm, port in _PIPELINE_PORTS.items()}


def choose_scene(directory: Path, pipelines: Mapping[Arm, socket.socket]) -> Scene:
    """Find three free ports for the gateway. Another program may still be quicker to take them."""
    claimed = [_listen(port) for port in (_TRAFFIC_PORT, _ADMIN_PORT, _HEALTH_PORT)]
    traffic, admin, health = (_port(held) for held in claimed)
    for held in claimed:
        held.close()
    ports = {arm: _port(listening) for arm, listening in pipelines.items()}
    return Scene(traffic, admin, health, ports, directory / "gateway.yaml", directory / "state")


def write_config(scene: Scene, scenario: Scenario) -> None:
    """Write the gateway's config file."""
    scene.config.write_text(config_text(scene, scenario), encoding="utf-8")


def config_text(scene: Scene, scenario: Scenario) -> str:
    """The gateway's config, commented for whoever opens it: it may be edited while the demo runs."""
    control, treatment = (scene.pipeline_ports[arm] for arm in (Arm.CONTROL, Arm.TREATMENT))
    return f"""\
# Made by `gateway demo`. Change a percentage or a weight and save: it is reloaded within a second.
version: 1
listen: {{address: "{HOST}:{scene.traffic_port}", workers: 2}}
admin: {{address: "{HOST}:{scene.admin_port}"}}
health: {{address: "{HOST}:{scene.health_port}"}}
state: {{directory: {scene.state}}}
drain_timeout: 2s

upstreams:
  traditional:
    endpoints: [http://{HOST}:{control}]
    health_check: {{path: /healthz, interval: 1s, timeout: 1s, healthy_after: 1, unhealthy_after: 2}}
    timeouts: {{connect: 1s, first_byte: 5s, idle: 10s, total: null}}
  dspy:
    endpoints: [http://{HOST}:{treatment}]
    health_check: {{path: /healthz, interval: 1s, timeout: 1s, healthy_after: 1, unhealthy_after: 2}}
    timeouts: {{connect: 1s, first_byte: 5s, idle: 10s, total: null}}

routes:
  - name: generate
    match: {{path_prefix: /v1/generate}}
    control: traditional
    treatment: dspy
    experiment: {EXPERIMENT}
  - {{name: default, match: {{path_prefix: /}}, control: traditional, treatment: dspy}}

deployment:
{scenario.deployment}\
  experiments:
    {EXPERIMENT}:
      name: DSPy against traditional
      seed: demo
      groups:
        control: {{weight: 50, configuration: {{dspy_enabled: false}}}}
        treatment: {{weight: 50, configuration: {{dspy_enabled: true}}}}
      success_metrics: [accuracy, response_time, cost_per_request]
      minimum_sample_size: 30
  monitoring: {{interval: 1s, window: 1m}}
  # A few hundred users are few: every request counts here, not each user's first in ten minutes.
  rollback: {{unit: request, system_failure_after: 20s}}
"""


def _port(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


def _listen(preferred: int) -> socket.socket:
    for port in (*range(preferred, preferred + _PORTS_TRIED), 0):
        candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((HOST, port))
            candidate.listen(_BACKLOG)
        except OSError as error:
            candidate.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
        else:
            return candidate
    raise OSError(errno.EADDRINUSE, "no free port")
