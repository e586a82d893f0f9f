"""Gates between two phases: what they require, and what was found.

Frozen values and nothing else. A gate has its identity and its limits. `core.rollout_rules` decides which
gates stand between two phases, `core.gates` whether they pass. Times are Unix seconds, durations seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.model.units import Comparison, HttpCall, Transition


class Verdict(enum.IntEnum):
    """What a gate says. Worst wins: the order of the members is the order of severity."""

    PASS = 0
    PENDING = 1
    INCONCLUSIVE = 2
    FAIL = 3

    @property
    def label(self) -> str:
        """The verdict's name in the API and in logs."""
        return self.name.lower()


class GateType(enum.StrEnum):
    """The four kinds of gate, as a config file names them."""

    METRICS_THRESHOLD = "metrics_threshold"
    MANUAL_APPROVAL = "manual_approval"
    AUTOMATED_TEST = "automated_test"
    TIME_BASED = "time_based"


class OnNoData(enum.StrEnum):
    """What a metrics gate says of fewer samples than it wants."""

    HOLD = "hold"
    FAIL = "fail"
    PASS = "pass"  # noqa: S105  # not a password

    @property
    def verdict(self) -> Verdict:
        """The verdict that stands in for the missing judgement."""
        return _NO_DATA_VERDICTS[self]


_NO_DATA_VERDICTS = {
    OnNoData.HOLD: Verdict.INCONCLUSIVE,
    OnNoData.FAIL: Verdict.FAIL,
    OnNoData.PASS: Verdict.PASS,
}


@dataclass(frozen=True, slots=True)
class ManualApproval:
    """So many distinct operators must approve; an approval holds for `expires` s, None for ever."""

    id: str
    approvals: int
    expires: float | None

    type = GateType.MANUAL_APPROVAL


@dataclass(frozen=True, slots=True)
class TimeBased:
    """The phase must have served for `minimum` seconds; only healthy service counts."""

    id: str
    minimum: float

    type = GateType.TIME_BASED


@dataclass(frozen=True, slots=True)
class AutomatedTest:
    """A command, or an HTTP call, must succeed within `timeout` seconds."""

    id: str
    command: tuple[str, ...]
    http: HttpCall | None
    timeout: float

    type = GateType.AUTOMATED_TEST

    @property
    def subject(self) -> str:
        """What is run, in words: a result counts for this very subject only."""
        return str(self.http) if self.http is not None else " ".join(self.command)


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a metric must satisfy."""

    metric: str
    comparison: Comparison

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison}"


@dataclass(frozen=True, slots=True)
class MetricsThreshold:
    """Metrics must be shown to be within their limits.

    Judged after `window` seconds and after every further half window, all looks together at
    `confidence` (see `core.judging`); 0 is the plain point estimate. `minimum_samples` are requests
    served by treatment.
    """

    id: str
    thresholds: tuple[Threshold, ...]
    window: float
    minimum_samples: int
    on_no_data: OnNoData
    confidence: float

    type = GateType.METRICS_THRESHOLD


Gate: TypeAlias = ManualApproval | TimeBased | AutomatedTest | MetricsThreshold


@dataclass(frozen=True, slots=True)
class Finding:
    """One number held against its limit. `value` None where there is nothing to hold against it."""

    metric: str
    verdict: Verdict
    value: float | None
    threshold: Comparison
    reason: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a gate says at one moment, with all that a person needs to believe it."""

    id: str
    transition: Transition
    type: GateType
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        """The finding that decides; the first of equally bad ones."""
        return max(self.findings, key=lambda finding: finding.verdict)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the findings."""
        return self.worst.verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """A metrics gate judged: look number `look` (from 1), at `window` seconds of the window clock.

    `passed_at` is the look at which it passed, if it has at every one since; None while it does not pass.
    """

    gate: str
    epoch: int
    look: int
    window: float
    at: float
    findings: tuple[Finding, ...]
    passed_at: int | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the findings."""
        return max(finding.verdict for finding in self.findings)

    @property
    def verdicts(self) -> tuple[tuple[str, Comparison, Verdict], ...]:
        """What was found, without the numbers: verdicts by metric and threshold."""
        return tuple([(one.metric, one.threshold, one.verdict) for one in self.findings])


@dataclass(frozen=True, slots=True)
class TestResult:
    """An automated test that ended. `output` is the end of what it printed."""

    __test__ = False  # not a test case, whatever pytest thinks of its name

    gate: str
    epoch: int
    subject: str
    succeeded: bool
    detail: str
    output: str
    at: float


@dataclass(frozen=True, slots=True)
class Proportion:
    """`bad` of `trials` went wrong. A score in [0, 1] counts as 1 - score wrong, the sum rounded up."""

    trials: int
    bad: int


@dataclass(frozen=True, slots=True)
class Exceedance:
    """`beyond` of `trials` exceeded the limit; `share` of them may, as the limit is of a quantile.

    `quantile` is the observed one, for people: a limit on the p90 allows a share of 0.1.
    """

    trials: int
    beyond: int
    share: float
    quantile: float


@dataclass(frozen=True, slots=True)
class Stratum:
    """Log latency of both arms over the same ten minutes: counts, means, sample variances."""

    treatment_count: int
    treatment_mean: float
    treatment_variance: float
    control_count: int
    control_mean: float
    control_variance: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """Strata in which treatment is compared with concurrent control."""

    strata: tuple[Stratum, ...]


@dataclass(frozen=True, slots=True)
class Mean:
    """Count, sum and sum of squares of a number that may be anything."""

    count: int
    total: float
    squares: float


Sample: TypeAlias = Proportion | Exceedance | Contrast | Mean


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a metrics gate is judged by: treatment's traffic since the windows last began.

    `requests` is how many requests treatment served; a metric without data is absent.
    `sample_ratio_ok` is False while the arms' sizes contradict their declared shares.
    """

    requests: int
    samples: Mapping[str, Sample]
    sample_ratio_ok: bool = True
