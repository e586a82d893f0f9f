"""The proxies that are compared: how each is configured and started.

Each does the same work: HTTP/1.1 on loopback, one worker or thread, keep-alive to both upstreams, a
tenth of the users to treatment. The configurations are in `peers/`, with `@NAME@` for what a run fills
in. It does not know what is measured.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import install

TEMPLATES = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a proxy lives in a run: its folder, and the ports on loopback."""

    directory: Path
    listen: int
    control: int
    treatment: int
    admin: int
    health: int
    workers: int = 1
    percentage: int = 20


@dataclass(frozen=True, slots=True)
class Proxy:
    """A kind of proxy. `program` is what must be installed; None needs nothing but this interpreter."""

    name: str
    label: str
    program: str | None
    templates: tuple[str, ...]
    command: Callable[[str, Site], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Say why it cannot be run here, or None."""
        if self.program is not None and install.find(self.program) is None:
            return f"{self.program} is not installed"
        return None

    def write(self, site: Site) -> None:
        """Write its configuration."""
        for template in self.templates:
            (site.directory / template).write_text(render(template, site))

    def arguments(self, site: Site) -> list[str]:
        """Give the command line that starts it."""
        return self.command((self.program and install.find(self.program)) or sys.executable, site)


def render(template: str, site: Site) -> str:
    """Fill in a template; a name that a site does not have is an error."""
    values = {
        "DIR": site.directory,
        "LISTEN": site.listen,
        "CONTROL": site.control,
        "TREATMENT": site.treatment,
        "ADMIN": site.admin,
        "HEALTH": site.health,
        "WORKERS": site.workers,
        "PERCENTAGE": site.percentage,
    }
    text = (TEMPLATES / template).read_text()
    return re.sub(r"@([A-Z]+)@", lambda match: str(values[match[1]]), text)


def _nginx(program: str, site: Site) -> list[str]:
    return [program, "-p", str(site.directory), "-e", "nginx.err", "-c", str(site.directory / "nginx.conf")]


def _haproxy(program: str, site: Site) -> list[str]:
    return [program, "-db", "-f", str(site.directory / "haproxy.cfg")]


def _envoy(program: str, site: Site) -> list[str]:
    config = str(site.directory / "envoy.yaml")
    return [program, "--concurrency", "1", "-l", "error", "--disable-hot-restart", "-c", config]


def _traefik(program: str, site: Site) -> list[str]:
    return [program, f"--configfile={site.directory / 'traefik.yml'}"]


def _naive(program: str, site: Site) -> list[str]:
    return [program, "-m", "bench.naive", str(site.listen), str(site.control), str(site.treatment)]


def _gateway(program: str, site: Site) -> list[str]:
    return [program, "-m", "gateway", "run", str(site.directory / "gateway.yaml")]


# Without the safe path, Python would import the sources that lie in the working directory.
GATEWAY = Proxy("gateway", "gateway", install.COMPILED, ("gateway.yaml",), _gateway, {"PYTHONSAFEPATH": "1"})
PLAIN = Proxy("plain", "gateway, not compiled", None, ("gateway.yaml",), _gateway)
PROXIES: Mapping[str, Proxy] = {
    proxy.name: proxy
    for proxy in (
        GATEWAY,
        PLAIN,
        Proxy("nginx", "nginx", "nginx", ("nginx.conf",), _nginx),
        Proxy("haproxy", "HAProxy", "haproxy", ("haproxy.cfg",), _haproxy),
        Proxy("envoy", "Envoy", "envoy", ("envoy.yaml",), _envoy),
        Proxy(
            "traefik",
            "Traefik",
            "traefik",
            ("traefik.yml", "traefik-routes.yml"),
            _traefik,
            {"GOMAXPROCS": "1"},
        ),
        Proxy("naive", "naive aiohttp", None, (), _naive),
    )
}
