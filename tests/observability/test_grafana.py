"""The dashboard for Grafana: every query is asked of a Prometheus that scraped a gateway."""

from __future__ import annotations

import re

import pytest

from tests.observability import shipped
from tests.observability.conftest import Scraped
from tests.support.polling import eventually

VARIABLES = {"$job": "gateway", "$instance": ".*", "$__rate_interval": "1m", "$__interval": "5m"}
"""What Grafana would put in their places."""


def test_panels_are_described_and_do_not_overlap() -> None:
    """Every panel has a title, says what it shows, and a place of its own in the grid of 24 columns."""
    panels = shipped.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]


def test_queries_use_only_variables_that_there_are() -> None:
    """Those of the dashboard, and Grafana's own intervals; every selector goes by job and gateway."""
    variables = {f"${each['name']}" for each in shipped.dashboard()["templating"]["list"]}
    for title, query in shipped.dashboard_queries():
        assert set(re.findall(r"\$\w+", query)) <= variables | set(VARIABLES), title
        selectors = re.findall(r"gateway_\w+(\{[^}]*\})?", query)
        assert all('job=~"$job", instance=~"$instance"' in selector for selector in selectors), title


@pytest.mark.process
def test_every_query_returns_data(scraped: Scraped) -> None:
    """Valid, and about something that a gateway exposes."""
    for title, query in shipped.dashboard_queries():
        for name, value in sorted(VARIABLES.items(), reverse=True):
            query = query.replace(name, value)
        what = f"data for {title!r}: {query}"
        eventually(what, lambda query=query: scraped.prometheus.query(query), 30.0, interval=0.2)  # type: ignore[misc]
