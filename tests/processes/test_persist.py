"""The latch's way to the disk: late, if need be, and never in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.latch import DurableLatch, LatchKind, LatchPage
from gateway.processes.persist import LatchSaver
from tests.support.polling import eventually


@pytest.fixture
def page() -> Iterator[LatchPage]:
    made = LatchPage.create()
    yield made
    os.close(made.fd)


def test_it_knows_whether_the_disk_is_up_to_date(tmp_path: Path, page: LatchPage):
    """Nothing saved yet, saved, engaged since, saved again."""
    saver = LatchSaver(page, DurableLatch(tmp_path))
    assert not saver.current
    assert saver.save()
    assert saver.current
    page.engage(LatchKind.EMERGENCY, "", "")
    assert not saver.current
    assert saver.save()
    assert saver.current


def test_a_disk_that_refuses_is_a_fault_until_it_does_not(tmp_path: Path, page: LatchPage):
    """The fault says what is wrong, and goes with the next save that works."""
    saver = LatchSaver(page, DurableLatch(tmp_path / "missing"))
    assert not saver.save()
    assert "missing" in saver.fault
    (tmp_path / "missing").mkdir()
    assert saver.save()
    assert saver.fault == ""


def test_a_poke_is_enough(tmp_path: Path, page: LatchPage):
    """The thread does the rest."""
    saver = LatchSaver(page, DurableLatch(tmp_path))
    saver.start()
    page.engage(LatchKind.EMERGENCY, "x", "")
    for _ in range(1000):
        saver.poke()
    eventually("it is saved", lambda: saver.current)
    assert DurableLatch(tmp_path).load() == page.state()
