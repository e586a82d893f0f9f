"""The metrics that thresholds name, and the rules that read their limits.

It knows each metric's unit and which direction is better. It knows no limit and no key.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.model import units
from gateway.model.fields import Exact, Info, Rule, Seconds, describe
from gateway.model.units import Comparison, NumberText, Operator, shorten

MAX_RATIO = 1_000_000
"""Upper end of limits that are no shares; larger ones are slips."""


class Metric(enum.StrEnum):
    """What thresholds, gates and alerts can speak of. `response_time` is in seconds."""

    ERROR_RATE = "error_rate"
    PERFORMANCE_DEGRADATION = "performance_degradation"
    RESPONSE_TIME = "response_time"
    USER_SATISFACTION = "user_satisfaction"
    ACCURACY = "accuracy"
    COST_PER_REQUEST = "cost_per_request"

    @property
    def rises_when_better(self) -> bool:
        """True for satisfaction and accuracy: their limits are lower bounds."""
        return self in (Metric.USER_SATISFACTION, Metric.ACCURACY)

    @property
    def is_share(self) -> bool:
        """True for what lies between 0 and 1."""
        return self in (Metric.ERROR_RATE, Metric.USER_SATISFACTION, Metric.ACCURACY)

    @property
    def example(self) -> str:
        """A comparison on the metric, as a message shows it."""
        if self is Metric.RESPONSE_TIME:
            return "< 5s"
        return "> 0.95" if self.rises_when_better else "< 0.01"


ROLLBACK_METRICS = (Metric.ERROR_RATE, Metric.PERFORMANCE_DEGRADATION, Metric.USER_SATISFACTION)
"""The metrics that evidence is kept on: only these can roll back."""


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for a misspelt name, or nothing."""
    lowered = {candidate.lower(): candidate for candidate in known}
    word = name.lower().replace("-", "_")
    close = difflib.get_close_matches(word, list(lowered), 1, 0.6)
    close = close or [key for key in lowered if len(word) > 2 and key.startswith(word)]
    return f" (did you mean {lowered[close[0]]}?)" if close else ""


@dataclass(frozen=True, slots=True)
class Ratio(Rule):
    """A number that is not negative; null for None."""

    def expects(self) -> str:
        """The range in words."""
        return f"{Exact(0, MAX_RATIO).expects()}, or null for none"

    def parse(self, value: Any, info: Info) -> float | None:
        """The number."""
        return None if value is None else float(Exact(0, MAX_RATIO).parse(value, info))

    def json_schema(self) -> dict[str, Any]:
        """A number or null."""
        return {"type": ["number", "null"], "minimum": 0, "maximum": MAX_RATIO}


@dataclass(frozen=True, slots=True)
class Limit(Rule):
    """A limit of one metric: a duration for response_time (in seconds), a number otherwise.

    Null for None: no limit.
    """

    metric: Metric

    @property
    def _rule(self) -> Rule:
        if self.metric is Metric.RESPONSE_TIME:
            return Seconds(minimum=0.001)
        return Exact(0, 1 if self.metric.is_share else MAX_RATIO)

    def expects(self) -> str:
        """The unit and the range."""
        return f"{self._rule.expects()}, for {self.metric}"

    def parse(self, value: Any, info: Info) -> float | None:
        """The limit, in seconds for response_time."""
        return None if value is None else float(self._rule.parse(value, info))

    def json_schema(self) -> dict[str, Any]:
        """A number or a duration."""
        return {"anyOf": [self._rule.json_schema(), {"type": "null"}]}


@dataclass(frozen=True, slots=True)
class Criterion(Rule):
    """A comparison on one metric, pointing to the side where it is better. Null for None."""

    metric: Metric

    def expects(self) -> str:
        """An example of the comparison."""
        return f"expected a comparison such as {self.metric.example}"

    def parse(self, value: Any, info: Info) -> Comparison | None:
        """The comparison."""
        if value is None or isinstance(value, Comparison):
            return value
        if isinstance(value, NumberText) or not isinstance(value, str):
            raise ValueError(describe(value))
        operator, limit = units.split_comparison(value)
        return Comparison(self._checked(operator), self._limit(limit, info))

    def _checked(self, operator: Operator) -> Operator:
        if operator.is_upper_bound is self.metric.rises_when_better:
            better = "higher" if self.metric.rises_when_better else "lower"
            raise ValueError(
                f"'{operator}' points the wrong way: {self.metric} is better when it is {better}"
            )
        return operator

    def _limit(self, text: str, info: Info) -> float:
        value = NumberText(text) if units.is_number(text) else text
        limit = Limit(self.metric).parse(value, info)
        assert limit is not None
        return limit

    def json_schema(self) -> dict[str, Any]:
        """A string that begins with the operator."""
        sign = ">" if self.metric.rises_when_better else "<"
        return {"anyOf": [{"type": "string", "pattern": rf"^\s*{sign}=?\s*[0-9.]\S*\s*$"}, {"type": "null"}]}


@dataclass(frozen=True, slots=True)
class Trigger:
    """What rolls back by itself: a metric over a limit, or (with no metric) a system failure."""

    metric: Metric | None
    comparison: Comparison | None

    def __str__(self) -> str:
        return SYSTEM_FAILURE if self.metric is None else f"{self.metric} {self.comparison}"

    @property
    def is_system_failure(self) -> bool:
        """True for `system_failure`."""
        return self.metric is None


SYSTEM_FAILURE = "system_failure"


@dataclass(frozen=True, slots=True)
class TriggerRule(Rule):
    """`error_rate > 0.02`, or `system_failure`."""

    def expects(self) -> str:
        """Examples."""
        return f"expected {SYSTEM_FAILURE} or a comparison such as error_rate > 0.02"

    def parse(self, value: Any, info: Info) -> Trigger:
        """The trigger."""
        if isinstance(value, Trigger):
            return value
        if not isinstance(value, str) or isinstance(value, NumberText):
            raise ValueError(describe(value))
        if value == SYSTEM_FAILURE:
            return Trigger(None, None)
        name = value.replace("<", " ").replace(">", " ").split(maxsplit=1)[:1]
        metric = self._metric(name[0] if name else value)
        if value.strip() == metric:
            raise ValueError(f"{metric} has no limit")
        operator, limit = units.split_comparison(value.strip().removeprefix(metric))
        if operator.is_upper_bound is not metric.rises_when_better:
            worse = "lower" if metric.rises_when_better else "higher"
            raise ValueError(f"'{operator}' points the wrong way: {metric} is worse when it is {worse}")
        number = NumberText(limit) if units.is_number(limit) else limit
        parsed = Limit(metric).parse(number, info)
        assert parsed is not None
        return Trigger(metric, Comparison(operator, parsed))

    @staticmethod
    def _metric(name: str) -> Metric:
        if name in ROLLBACK_METRICS:
            return Metric(name)
        if name in list(Metric):
            raise ValueError(
                f"{name} cannot roll back: evidence is kept on {', '.join(ROLLBACK_METRICS)} only"
            )
        if name == SYSTEM_FAILURE:
            raise ValueError(f"{SYSTEM_FAILURE} stands alone: it has no limit")
        known = (*ROLLBACK_METRICS, SYSTEM_FAILURE)
        raise ValueError(f"unknown trigger {shorten(name)!r}{nearest(name, known)}")

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        metrics = "|".join(ROLLBACK_METRICS)
        return {"type": "string", "pattern": rf"^({SYSTEM_FAILURE}|({metrics})\s*(<=|>=|<|>)\s*\S+)$"}
