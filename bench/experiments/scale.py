"""A million participants: the table by itself, then a gateway that has them in its file.

Memory is what a process has more than one without participants; times are wall-clock times of this
machine, as busy as it is. The gateway is a real one on free ports, with its state in a temporary folder.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_intdigest

from bench.decisions.report import Line
from bench.processes import free_port
from gateway.control.experiments.database import JOURNAL, PAGES, Batch, ExperimentsDatabase
from gateway.control.experiments.file import FILE
from gateway.core.results.participants import ParticipantTable
from gateway.core.split import hash_position
from gateway.model.records import REQUEST
from gateway.processes.directory import Role, StateDirectory

PARTICIPANTS = 1_000_000
BATCH = 2_000
METRICS = ("accuracy", "cost_per_request", "user_satisfaction")
"""Beside response_time and error_rate, which every request makes."""
GROUPS = ("control", "treatment")
EXPERIMENT, SEED = "scale", "s"
PATIENCE = 60.0
SENDERS, TOGETHER, SENDING = 4, 200, 10.0
"""Connections that post outcomes, outcomes in a request, and for how many seconds."""
_MB = 1_000_000


def resident(pid: int | str = "self", *, field: str = "VmRSS") -> int:
    """Bytes of memory that a process really has; with `field` VmHWM, that it had at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no memory")


def processor(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")


def user_name(number: int) -> str:
    """The id of a made user."""
    return f"user-{number}"


def group_of(user: bytes) -> int:
    """The number of the group that the split gives a user: half and half."""
    return hash_position(f"experiment:{EXPERIMENT}:{SEED}", user) >> 63


def records(first: int) -> list[tuple[int, int, int, float]]:
    """A request of each of a batch of users, with three reported metrics."""
    made: list[tuple[int, int, int, float]] = []
    for number in range(first, first + BATCH):
        user = user_name(number).encode()
        name, group = xxh3_64_intdigest(user), group_of(user)
        made.append((name, group, REQUEST, 0.1 + number % 97 / 100))
        made += [(name, group, metric, number % 89 / 100) for metric in (1, 2, 3)]
    return made


@dataclass(frozen=True, slots=True)
class Measured:
    """What a table of participants cost; bytes, and seconds of CPU."""

    memory: int
    arrival: float
    """A record of somebody's first request, one of four; `again` one of somebody who is there."""
    again: float
    tally: float
    load: float


def measure_table(participants: int, folder: str) -> Measured:
    """Fill a table, ask it, keep it in a file, and load another one from there."""
    table = ParticipantTable(GROUPS)
    records(0)
    database = ExperimentsDatabase(Path(folder) / FILE)
    before = resident()
    spent = []
    for _ in range(2):
        spent.append(0.0)
        for first in range(0, participants, BATCH):
            batch = records(first)
            begun = time.thread_time()
            table.merge(batch, {0: 0, 1: 1}, METRICS)
            spent[-1] += time.thread_time() - begun
            if changes := table.take_changes():
                database.write(Batch({EXPERIMENT: changes}))
    memory = resident() - before
    begun = time.thread_time()
    tally = table.tally()
    asked = time.thread_time() - begun
    begun = time.thread_time()
    loaded = load(database)
    seconds = time.thread_time() - begun
    database.close()
    assert loaded.tally() == tally, "what was loaded is not what was there"
    arrival, again = (total / (4 * participants) for total in spent)
    return Measured(memory, arrival, again, asked, seconds)


def load(database: ExperimentsDatabase) -> ParticipantTable:
    """The table that a file has."""
    head = database.head(EXPERIMENT)
    assert head is not None
    table = ParticipantTable.stored(head)
    for kind, take_in in ((PAGES, table.load_page), (JOURNAL, table.load_entry)):
        last = -1
        while pieces := database.pieces(kind, EXPERIMENT, last, 16):
            for last, data in pieces:
                take_in(last, data)
    for _ in table.finish():
        pass
    return table


def table(fewer: int) -> Iterator[Line]:
    """The participant table by itself, in a process of its own."""
    participants = PARTICIPANTS // fewer
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        found = pool.submit(measure_table, participants, folder).result()
    what = f"table of {participants:,} participants, five metrics each"
    memory = found.memory / _MB
    yield Line("table", f"{what}: memory", 1, "≤ 60 MB", f"{memory:.1f} MB", memory <= 60)
    for whose, seconds in (("newcomer's", found.arrival), ("participant's", found.again)):
        cost = f"{seconds * 1e6:.2f} µs of CPU"
        yield Line("table", f"taking in a {whose} record, in control", 4 * participants, "", cost, None)
    yield Line("table", "tally of all", 1, "≤ 1 s", f"{found.tally * 1e6:.0f} µs", found.tally <= 1)
    yield Line("table", "load from a file", 1, "≤ 5 s", f"{found.load:.2f} s of CPU", found.load <= 5)


class Gateway:
    """A real gateway with one running experiment, and nobody behind it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.admin = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        (directory / "gateway.yaml").write_text(json.dumps(self._configuration()))

    def _configuration(self) -> dict[str, Any]:
        nobody = {"endpoints": [f"http://127.0.0.1:{free_port()}"]}
        experiment = {
            "seed": SEED,
            "groups": {"control": {"weight": 50}, "treatment": {"weight": 50}},
            "success_metrics": [*METRICS, "response_time"],
        }
        route = {"name": "default", "match": {"path_prefix": "/"}, "control": "old", "treatment": "new"}
        return {
            "version": 1,
            "listen": {"address": f"127.0.0.1:{free_port()}"},
            "admin": {"address": f"127.0.0.1:{self.admin}"},
            "health": {"address": f"127.0.0.1:{free_port()}"},
            "state": {"directory": "./state"},
            "upstreams": {"old": nobody, "new": nobody},
            "routes": [{**route, "experiment": EXPERIMENT}],
            "deployment": {"initial_phase": "development", "experiments": {EXPERIMENT: experiment}},
        }

    def start(self) -> float:
        """Start it; the seconds until it shows the experiment."""
        begun = time.monotonic()
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", str(self.directory / "gateway.yaml")],
                stdout=log,
                stderr=log,
            )
        while time.monotonic() < begun + PATIENCE:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", f"experiments/{EXPERIMENT}")[0] == http.client.OK:
                    return time.monotonic() - begun
            time.sleep(0.02)
        raise TimeoutError(f"no answer: {(self.directory / 'log').read_text()}")

    def stop(self) -> None:
        """End it and wait."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """A request to the admin API on a connection of its own: status and document."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, f"/api/v1/{path}", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def control(self) -> int:
        """The pid of its control process."""
        roster = StateDirectory(self.directory / "state").read_roster()
        (pid,) = (process.pid for process in roster.processes if process.role is Role.CONTROL)
        return pid

    def fill(self, participants: int) -> None:
        """Write participants into its file, while it does not run."""
        database = ExperimentsDatabase(self.directory / "state" / FILE)
        table = ParticipantTable(GROUPS)
        with contextlib.closing(database):
            for first in range(0, participants, BATCH):
                table.merge(records(first), {0: 0, 1: 1}, METRICS)
                changes = table.take_changes()
                assert changes is not None
                database.write(Batch({EXPERIMENT: changes}))


def gateway(fewer: int) -> Iterator[Line]:
    """A gateway without and with the participants, then late outcomes for as many of them as it takes."""
    participants = PARTICIPANTS // fewer
    with tempfile.TemporaryDirectory() as folder:
        running = Gateway(Path(folder))
        try:
            yield from _measure(running, participants)
        finally:
            running.stop()


def _measure(running: Gateway, participants: int) -> Iterator[Line]:
    empty_start = running.start()
    pid = running.control()
    empty, empty_peak, empty_spent = resident(pid), resident(pid, field="VmHWM"), processor(pid)
    running.stop()
    running.fill(participants)
    restart = running.start()
    loading = processor(running.control()) - empty_spent
    begun = time.monotonic()
    _, document = running.ask("GET", f"experiments/{EXPERIMENT}")
    show = time.monotonic() - begun
    counted = sum(group["participants"] for group in document["groups"].values())
    assert counted == participants, f"{counted} of {participants} participants are there"
    pid = running.control()
    memory = (resident(pid) - empty) / _MB
    peak = (resident(pid, field="VmHWM") - empty_peak) / _MB
    found = f"{memory:.1f} MB more, at most {peak:.1f} on the way"
    what = f"gateway with {participants:,} participants"
    yield Line("scale", f"{what}: memory", 1, "≤ 60 MB more", found, max(memory, peak) <= 60)
    found = f"{restart:.2f} s (empty: {empty_start:.2f} s; its loading: {loading:.2f} s of CPU)"
    yield Line("scale", "restart until its results are shown", 1, "≤ 5 s", found, restart <= 5)
    yield Line("scale", "show", 1, "≤ 1 s", f"{show * 1000:.1f} ms", show <= 1)
    accepted, seconds = _post_outcomes(running, participants)
    rate = accepted / seconds
    found = f"{rate:.0f}/s for {seconds:.0f} s"
    yield Line("scale", "outcomes on disk", accepted, "≥ 2000/s", found, rate >= 2000)


def _post_outcomes(running: Gateway, participants: int) -> tuple[int, float]:
    """Post for SENDING seconds from several connections: how many were taken, in how long."""
    accepted = [0] * SENDERS
    begun = time.monotonic()

    def send(sender: int) -> None:
        number = sender
        while time.monotonic() < begun + SENDING:
            batch = []
            for _ in range(TOGETHER):
                user = user_name(number % participants)
                batch.append(
                    {
                        "id": f"outcome-{number}",
                        "user_id": user,
                        "metric": "user_satisfaction",
                        "value": 0.9,
                        "experiment": EXPERIMENT,
                    }
                )
                number += SENDERS
            status, answer = running.ask("POST", "outcomes", json.dumps(batch).encode())
            assert status == http.client.OK, answer
            accepted[sender] += answer["accepted"]

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return sum(accepted), time.monotonic() - begun
