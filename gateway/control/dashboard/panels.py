"""Which sections the page has, in which order: `monitoring.dashboards` selects among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.control.dashboard import deployment, performance, records, results
from gateway.control.dashboard.markup import Markup, element
from gateway.control.dashboard.parts import Document
from gateway.model.safety import Board

_SECTIONS: tuple[tuple[Callable[[Document], Markup], Board | None], ...] = (
    (deployment.state, None),
    (deployment.rollout, None),
    (performance.overview, Board.PRODUCTION_OVERVIEW),
    (performance.charts, Board.PERFORMANCE_COMPARISON),
    (performance.evidence, Board.PERFORMANCE_COMPARISON),
    (performance.comparison, Board.PERFORMANCE_COMPARISON),
    (results.experiments, Board.EXPERIMENT_RESULTS),
    (records.alerts, Board.ALERT_SUMMARY),
    (records.history, None),
    (records.machine, Board.PRODUCTION_OVERVIEW),
)
"""Each section, and the board that it belongs to; None for what is always there."""


def render(document: Mapping[str, object]) -> Markup:
    """All sections that the document asks for, in one element."""
    wanted = document["sections"]
    assert isinstance(wanted, list)
    shown = [section(document) for section, board in _SECTIONS if board is None or board in wanted]
    return element("div", shown, id="panels", data_version=str(document["version"]))
