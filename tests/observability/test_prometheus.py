"""Metrics and rules, checked by Prometheus' own tools and against what a real gateway exposes."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from tests.observability import shipped
from tests.observability.conftest import Scraped
from tests.support.polling import eventually
from tests.support.programs import need

HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def promtool(*arguments: str, given: str = "") -> str:
    """What it prints; an assertion error where it finds fault."""
    command = [need("promtool"), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.socket
def test_the_rules_and_the_example_are_valid() -> None:
    """`promtool check config` follows the rule files."""
    said = promtool("check", "config", str(shipped.CONFIG / "prometheus" / "prometheus.yml"))
    assert said.count("rules found") == len(shipped.RULES)


@pytest.mark.slow
def test_the_rules_fire_where_they_should() -> None:
    """`promtool test rules`: every alert once, and none where nothing is wrong."""
    promtool("test", "rules", str(shipped.RULE_TESTS))
    tested = set(re.findall(r'alertname="(\w+)",alertstate="firing"', shipped.RULE_TESTS.read_text()))
    assert tested == {rule["alert"] for rule in shipped.alerts()}


@pytest.mark.parametrize("rule", shipped.alerts(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    """Its runbook names a heading of docs/operations.md that exists."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert path == "docs/operations.md"
    headings = {title.lower().replace(" ", "-") for title in HEADING.findall(shipped.OPERATIONS.read_text())}
    assert anchor in headings


@pytest.mark.process
def test_promtool_finds_no_fault_with_the_metrics(scraped: Scraped) -> None:
    """Names, units, help and types are as Prometheus wants them."""
    metrics = scraped.metrics()
    assert "gateway_requests_total" in metrics
    assert promtool("check", "metrics", given=metrics) == ""


@pytest.mark.process
def test_rules_name_only_metrics_that_there_are(scraped: Scraped) -> None:
    """A rule over a metric that is misspelled would never fire."""
    exposed = set(re.findall(r"^(gateway_\w+)", scraped.metrics(), re.MULTILINE))
    assert shipped.metric_names(shipped.rule_expressions()) - exposed == set()


@pytest.mark.process
def test_what_is_recorded_is_what_there_was(scraped: Scraped) -> None:
    """Every recording rule has values for a gateway under traffic."""
    for record in shipped.records():
        eventually(record, lambda record=record: scraped.prometheus.query(record), 30.0, interval=0.2)  # type: ignore[misc]


@pytest.mark.process
def test_an_arm_without_failures_has_an_error_ratio_too(scraped: Scraped) -> None:
    """It is 0, and that of the arm that failed is between 0 and 1."""
    ratio = "instance_arm:gateway_error_ratio:rate5m"
    found = eventually("both", lambda: both(scraped.prometheus.query(ratio)), 30.0, interval=0.2)
    assert found["control"] == 0.0
    assert 0.0 < found["treatment"] < 1.0


def both(samples: list[dict[str, Any]]) -> dict[str, float] | None:
    """The samples by arm, once there is one of each."""
    values = {sample["metric"]["arm"]: float(sample["value"][1]) for sample in samples}
    return values if len(values) == 2 else None
