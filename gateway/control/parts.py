"""The parts of a running control process as one value: built once, read by many.

`assembly` builds the parts, `controller` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.control.alerting.notifier import Notifier
from gateway.control.alerting.watch import AlertWatch
from gateway.control.config.reload import Reloader
from gateway.control.experiments.service import ExperimentService
from gateway.control.health import HealthChecks
from gateway.control.history import History
from gateway.control.latching import LatchDesk
from gateway.control.ledger import Ledger
from gateway.control.monitoring.monitor import Monitor
from gateway.control.publishing import Publisher
from gateway.control.rollout.aftermath import Aftermath
from gateway.control.rollout.desk import RolloutDesk
from gateway.control.rollout.pace import Pace
from gateway.control.store.api import Store
from gateway.control.tasks import TaskKeeper
from gateway.control.unwritten import UnwrittenLines
from gateway.control.upstreams import Upstreams
from gateway.control.windows import Windows
from gateway.link.api import ControlEnd
from gateway.model.process import Keeper, WorkerStatus


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running control process."""

    link: ControlEnd
    keeper: Keeper
    workers: Callable[[], Sequence[WorkerStatus]]
    publisher: Publisher
    reloader: Reloader
    health: HealthChecks
    latch: LatchDesk
    store: Store
    history: History
    desk: RolloutDesk
    pace: Pace
    windows: Windows
    notifier: Notifier
    aftermath: Aftermath
    alerts: AlertWatch
    ledger: Ledger
    upstreams: Upstreams
    monitor: Monitor
    experiments: ExperimentService
    unwritten: UnwrittenLines
    tasks: TaskKeeper

    def live_pids(self) -> frozenset[int]:
        """The process ids of the workers that run."""
        return frozenset(worker.pid for worker in self.workers())
