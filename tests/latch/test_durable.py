"""The latch file: what is written comes back, and damage counts as engaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.latch import DurableLatch, LatchKind, LatchPage
from tests.support.processes import ROOT

GOOD: dict[str, Any] = {
    "version": 1,
    "number": 3,
    "released": 2,
    "kind": "emergency",
    "reason": "r",
    "operator": "o",
    "since": 1.5,
}

DAMAGE = {
    "empty": b"",
    "cut": json.dumps(GOOD).encode()[:-5],
    "zeros": b"\0" * 4096,
    "not JSON": b"latched\n",
    "not UTF-8": b"\xff\xfe" + json.dumps(GOOD).encode(),
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "another version": json.dumps(GOOD | {"version": 2}).encode(),
    "no number": json.dumps({key: GOOD[key] for key in GOOD if key != "number"}).encode(),
    "released ahead": json.dumps(GOOD | {"released": 4}).encode(),
    "negative": json.dumps(GOOD | {"number": -1, "released": -2}).encode(),
    "unknown kind": json.dumps(GOOD | {"kind": "whim"}).encode(),
    "number of the wrong type": json.dumps(GOOD | {"number": "many"}).encode(),
    "number null": json.dumps(GOOD | {"number": None}).encode(),
    "deeply nested": b"[" * 100_000,
    "trailing bytes": json.dumps(GOOD).encode() + b"}",
    "number without measure": json.dumps(GOOD | {"number": 10**400}).encode(),
    "since infinite": json.dumps(GOOD | {"since": float("inf")}).encode(),
    "since not a number": json.dumps(GOOD | {"since": float("nan")}).encode(),
    "since in another age": json.dumps(GOOD | {"since": -1e300}).encode(),
}


@pytest.fixture
def page() -> Iterator[LatchPage]:
    made = LatchPage.create()
    yield made
    os.close(made.fd)


def test_what_was_saved_is_loaded(tmp_path: Path, page: LatchPage):
    """A saved page and a loaded state say the same."""
    page.engage(LatchKind.ROLLBACK, "error rate \N{SNOWMAN}", "ada")
    DurableLatch(tmp_path).save(page)
    assert DurableLatch(tmp_path).load() == page.state()


def test_no_file_is_no_state(tmp_path: Path):
    """A directory that never had a latch is told from one with a broken one."""
    assert DurableLatch(tmp_path).load() is None
    assert DurableLatch(tmp_path / "missing").load() is None


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_every_kind_of_damage_counts_as_engaged(tmp_path: Path, damage: bytes, page: LatchPage):
    """A file that makes no sense sends everybody to control, and can still be put on the page."""
    (tmp_path / "latch").write_bytes(damage)
    found = DurableLatch(tmp_path).load()
    assert found is not None
    assert found.engaged
    assert found.kind is LatchKind.CORRUPT
    page.restore(found)
    assert page.engaged


def test_every_prefix_of_a_released_latch_counts_as_engaged(tmp_path: Path):
    """No half of a file is mistaken for a whole one."""
    whole = json.dumps(GOOD | {"released": 3}).encode()
    for length in range(len(whole)):
        (tmp_path / "latch").write_bytes(whole[:length])
        found = DurableLatch(tmp_path).load()
        assert found is not None
        assert found.engaged, whole[:length]


def test_a_release_is_on_disk_before_it_takes_effect(tmp_path: Path, page: LatchPage):
    """A crash between the two leaves the page's process dead and the file released, never the reverse."""
    number = page.engage(LatchKind.EMERGENCY, "", "")
    durable = DurableLatch(tmp_path)
    durable.save(page, released=number)
    assert page.engaged
    found = durable.load()
    assert found is not None
    assert not found.engaged


def test_a_newer_engagement_survives_the_save_of_a_release(tmp_path: Path, page: LatchPage):
    """The file holds the newest number beside the released one."""
    number = page.engage(LatchKind.EMERGENCY, "", "")
    page.engage(LatchKind.EMERGENCY, "", "")
    durable = DurableLatch(tmp_path)
    durable.save(page, released=number)
    found = durable.load()
    assert found is not None
    assert found.engaged


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, page: LatchPage):
    """The disk refuses the rename: an OSError, and nothing changed."""
    durable = DurableLatch(tmp_path)
    (tmp_path / "latch").mkdir()
    with pytest.raises(OSError, match="directory"):
        durable.save(page)
    assert {entry.name for entry in tmp_path.iterdir()} == {"latch", "latch.lock"}


def test_savers_in_several_threads_leave_a_whole_file(tmp_path: Path, page: LatchPage):
    """Saves at the same time follow one another; the last word is the page's."""
    durable = DurableLatch(tmp_path)

    def engage_and_save() -> None:
        for _ in range(10):
            page.engage(LatchKind.EMERGENCY, "", "")
            durable.save(page)

    threads = [threading.Thread(target=engage_and_save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert durable.load() == page.state()


@pytest.mark.process
def test_a_thousand_kills_while_saving_leave_the_old_state_or_the_new(tmp_path: Path):
    """kill -9 at 1,000 random moments of a save: the file always parses, to one of the two."""
    script = ROOT / "tests" / "latch" / "kill_while_saving.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "1000"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    killed, advanced = map(int, done.stdout.split())
    assert killed == 1000
    # Most moments fall into a save; on a busy machine nearly all do.
    assert advanced > 10, "the kills never let a save finish: they prove nothing"
