"""The samples of a run, their medians, and their form as JSON."""

from __future__ import annotations

import datetime
import math
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measures import TARGETS, Measure, Target, judge

DIRECT = "direct"
"""The name under which samples without a proxy are kept."""


@dataclass(slots=True)
class Results:
    """Samples by measure and proxy, and what a reader of the table has to know besides.

    `disturbances` is the largest share of a proxy's core that others had while it was measured.
    """

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    disturbances: dict[str, float] = field(default_factory=dict)

    def add(self, measure: Measure, proxy: str, value: float) -> None:
        """Record one sample."""
        self.samples.setdefault(measure.key, {}).setdefault(proxy, []).append(value)

    def remark(self, text: str) -> None:
        """Record a remark once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def disturb(self, proxy: str, share: float) -> None:
        """Record that others had a share of the proxy's core."""
        self.disturbances[proxy] = max(share, self.disturbances.get(proxy, 0.0))

    def median(self, measure: Measure, proxy: str) -> float | None:
        """Give the median over the rounds; None without samples."""
        values = self.samples.get(measure.key, {}).get(proxy)
        return statistics.median(values) if values else None

    def figure(self, target: Target) -> float | None:
        """Give the gateway's figure in the form of a target."""
        value = self.median(target.measure, "gateway")
        if value is None or target.against is None:
            return value
        other = self.median(target.measure, target.against)
        return value / other if other and other > 0 else None

    def as_json(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Give everything that is known about the run."""
        return {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "settings": dict(settings),
            "skipped": self.skipped,
            "remarks": self.remarks,
            "disturbances": self.disturbances,
            "figures": {
                key: {
                    proxy: {"median": statistics.median(values), "rounds": values}
                    for proxy, values in by_proxy.items()
                }
                for key, by_proxy in self.samples.items()
            },
            "targets": [self._target(target) for target in TARGETS],
        }

    def _target(self, target: Target) -> dict[str, Any]:
        value = self.figure(target)
        known = value is not None and not math.isnan(value)
        return {
            "title": target.title,
            "value": value if known else None,
            "must": target.must,
            "aim": target.aim,
            "verdict": judge(target, value).value,
        }


def machine() -> dict[str, Any]:
    """Describe the machine that was measured on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
