"""Faults 32 and 48 in a network of their own: no local ports left, and a link that loses packets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.faults.inside import PORTS
from tests.faults.places import can_unshare
from tests.support.processes import ROOT

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not can_unshare("--net"), reason="no right to make a network namespace here"),
]


def inside(what: str) -> dict[str, Any]:
    """What an experiment saw in a network namespace of its own."""
    command = ["unshare", "--net", sys.executable, "-m", "tests.faults.inside", what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def test_without_local_ports_the_overflow_is_told_at_once_and_it_ends_well():
    """500 requests over 100 ports: as many as there are ports are served, the others get 503 before."""
    seen = inside("ports")
    assert set(seen["statuses"]) == {"200", "503"}
    assert 0.8 * PORTS <= seen["statuses"]["200"] <= PORTS
    assert seen["held_when_all_others_were_told"] == seen["statuses"]["200"]
    assert seen["recovered"] == 200
    assert seen["dialled_again"] <= 2


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no TUN devices here")
def test_bodies_are_whole_over_a_link_that_loses_doubles_and_reorders():
    """5 % of the packets towards the upstream are lost: slower, but every body has its hash."""
    seen = inside("lossy")
    assert seen["link"]["lost"] > 50
    assert seen["statuses"] == {"200": 60}
    assert seen["wrong"] == 0
