"""docs/operations.md: what it tells a tired person to type exists, and so does what it points to."""

from __future__ import annotations

import re
import shlex

import pytest

from gateway import cli
from gateway.control.alerting.lookout import HELD
from gateway.core.alerts import MISSING_TRAFFIC
from gateway.model.metrics import Metric
from tests.observability import shipped

TEXT = shipped.OPERATIONS.read_text()
FAULTS = (
    "latch_not_durable",
    "state_not_durable",
    "config_not_in_force",
    "experiments_not_durable",
    "no_worker",
    "control_task_failing",
)
"""The gateway's own faults, which are alerts too."""
COMMAND = re.compile(r"(?:^|`|&& |-- )gateway ((?!--)[a-z][^`\n#;]*)", re.MULTILINE)


def commands() -> list[str]:
    """Every command line of ours in the text."""
    return sorted({match.strip().split("&&")[0].strip() for match in COMMAND.findall(TEXT)})


@pytest.mark.parametrize("line", commands())
def test_every_command_is_one(line: str) -> None:
    """The command line's own parser takes it, with its options; a wrong one would exit."""
    words = shlex.split(line)
    assert callable(cli.parser(words).parse_args(words).execute)


def test_there_are_commands() -> None:
    """The pattern finds those that matter most."""
    assert {"status", "release", "emergency"} <= {line.split()[0] for line in commands()}


@pytest.mark.parametrize(
    "name", [*(metric.value for metric in Metric), *(kind.value for kind in HELD), MISSING_TRAFFIC, *FAULTS]
)
def test_every_alert_of_the_gateways_own_is_explained(name: str) -> None:
    """In the table of the alerts' types."""
    assert re.search(rf"^\| .*`{name}`.*\| \[Gateway\w+\]\(#", TEXT, re.MULTILINE)


def test_links_lead_somewhere() -> None:
    """Files exist, and headings too."""
    headings = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles(TEXT)}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        if path:
            assert (shipped.OPERATIONS.parent / path).exists(), target
        else:
            assert anchor in headings, target


def titles(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def test_every_metric_it_names_is_exposed_under_that_name() -> None:
    """Names in the text are names in the code."""
    code = "".join(
        path.read_text() for path in (shipped.CONFIG.parent / "gateway/control").rglob("metrics.py")
    )
    for name in set(re.findall(r"`(gateway_[a-z_]+)`", TEXT)) - {"gateway_action"}:
        assert f'"{name.removesuffix("_total")}"' in code, name
