"""A gateway for the time of a fault, and what is found out by it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.processes import Gateway

Figures = dict[str, float | int | str]


@contextlib.contextmanager
def gateway_before(ports: dict[str, int], extra: dict[str, Any], workers: int = 1) -> Iterator[Gateway]:
    """A gateway in a directory of its own, ended with the `with`."""
    with tempfile.TemporaryDirectory() as directory:
        gateway = Gateway(Path(directory), ports, workers=workers, extra=extra)
        gateway.start()
        try:
            yield gateway
        finally:
            gateway.close()
