"""What is shipped for Prometheus, Alertmanager, Grafana, Kubernetes and systemd, read as plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parent.parent.parent / "config"
OPERATIONS = CONFIG.parent / "docs" / "operations.md"
RULES = tuple(sorted((CONFIG / "prometheus").glob("*.rules.yml")))
RULE_TESTS = CONFIG / "prometheus" / "tests" / "gateway.test.yml"
METRIC = re.compile(r"\bgateway_[a-z_]+")


def read(*parts: str) -> Any:
    """A YAML file of the folder `config`."""
    return yaml.safe_load(CONFIG.joinpath(*parts).read_text())


def alerts() -> list[dict[str, Any]]:
    """Every alerting rule."""
    return [rule for rule in _rules() if "alert" in rule]


def records() -> list[str]:
    """The name of every recording rule."""
    return [str(rule["record"]) for rule in _rules() if "record" in rule]


def rule_expressions() -> list[str]:
    """Every rule's expression."""
    return [str(rule["expr"]) for rule in _rules()]


def dashboard() -> dict[str, Any]:
    """Grafana's."""
    return dict(json.loads((CONFIG / "grafana" / "gateway.json").read_text()))


def dashboard_queries() -> list[tuple[str, str]]:
    """Every query of the dashboard, by the title of its panel."""
    document = dashboard()
    panels = [
        (panel["title"], target["expr"])
        for panel in document["panels"]
        for target in panel.get("targets", ())
    ]
    return panels + [(mark["name"], mark["expr"]) for mark in document["annotations"]["list"]]


def metric_names(expressions: list[str]) -> set[str]:
    """The gateway's metrics that expressions name; those that rules record are none."""
    without_records = (re.sub(r"[a-z_]+:gateway_[a-z_]+:[a-z0-9_]+", "", text) for text in expressions)
    return {name for text in without_records for name in METRIC.findall(text)}


def _rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]
