"""A real Prometheus for tests, where the machine has one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.polling import eventually
from tests.support.processes import end_at_once, free_port
from tests.support.programs import need


@dataclass
class Prometheus:
    """One that runs."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query; an assertion error with what is wrong if it is not valid."""
        data = urllib.parse.urlencode({"query": expression}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query", data, timeout=10) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{expression}: {json.load(error)['error']}") from None
        found = document["data"]["result"]
        return found if document["data"]["resultType"] == "vector" else [{"metric": {}, "value": found}]


@contextlib.contextmanager
def prometheus(folder: Path, document: Mapping[str, Any]) -> Iterator[Prometheus]:
    """A Prometheus with this config; skips the test where there is none."""
    config = folder / "prometheus.json"
    config.write_text(json.dumps(document))
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                need("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    running = Prometheus(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{running.url}/-/ready", timeout=5):
            return True
        return False

    try:
        eventually("Prometheus answers", answers, 30.0, interval=0.1)
        yield running
    finally:
        end_at_once(process)
