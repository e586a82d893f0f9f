"""How it is drawn: escaped, whole, in units, to scale; and every section for every condition."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.dashboard import figures
from gateway.control.dashboard.charts import Limit, Line, linear_scale, log_scale, time_chart
from gateway.control.dashboard.document import ArmFigures, EvidencePoint, document
from gateway.control.dashboard.markup import Markup, element, join
from gateway.control.dashboard.page import POLICY, page
from gateway.control.dashboard.panels import render
from tests.support.dashboards import AT, CONTROL, NOW, event, experiment, facts, latched, points, status

VOID = frozenset(("br", "hr", "img", "input", "link", "meta"))
HARM = "<script>alert('x')</script> & \"so on\""


class Structure(HTMLParser):
    """Reads markup strictly: every element is closed in its order; remembers ids, and what must not be."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.classes: set[str] = set()
        self.tags: list[str] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        assert "style" not in named, "the policy refuses styles in attributes"
        assert not any(name.startswith("on") for name in named), "the policy refuses scripts in attributes"
        self.tags.append(tag)
        self.ids += [named["id"]] if named.get("id") else []
        self.classes.update((named.get("class") or "").split())
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


# --- markup ---


@given(st.text(), st.text())
def test_text_and_attributes_are_escaped(text: str, value: str) -> None:
    """Whatever the text, it comes out as the same text and as nothing else."""
    seen: list[Any] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)["title"]))

    reader = Reader()
    reader.feed(element("p", text, title=value))
    reader.close()
    assert [tag for tag, _ in seen] == ["p"]
    assert "<" not in element("p", text).removeprefix("<p>").removesuffix("</p>")


def test_elements_nest_without_escaping_twice() -> None:
    """Markup stays markup; numbers and lists are welcome; nothing is nothing."""
    inner = element("b", "a & b")
    assert element("p", ["x ", inner, None, 3], class_="c", data_key="k", hidden=True, id=None) == (
        '<p class="c" data-key="k" hidden>x <b>a &amp; b</b>3</p>'
    )
    assert element("input", name="a") == '<input name="a">'
    assert isinstance(join(["a"]), Markup)


# --- figures ---


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (figures.share, 0.0123, "1.23 %"),
        (figures.share, 1.0, "100 %"),
        (figures.share, 0.0, "0 %"),
        (figures.share, None, "–"),
        (figures.percentage, 12.5, "12.5 %"),
        (figures.change, 0.1, "+10 %"),
        (figures.change, -0.0512, "−5.12 %"),
        (figures.change, 0.0, "±0 %"),
        (figures.seconds, 0.0421, "42.1 ms"),
        (figures.seconds, 12.0, "12 s"),
        (figures.count, 0, "0"),
        (figures.count, 999, "999"),
        (figures.count, 9999, "9 999"),
        (figures.count, 123_456, "123 k"),
        (figures.count, 2_500_000, "2.5 M"),
        (figures.plain, 1000.0, "1 000"),
        (figures.plain, 0.0000012, "1.2·10⁻⁶"),
        (figures.plain, 10_000_000.0, "10⁷"),
        (figures.plain, 0.25, "0.25"),
        (figures.difference("error_rate"), 0.0599, "+5.99 points"),
        (figures.difference("response_time"), -0.31, "−310 ms"),
        (figures.chance, 1.9e-25, "p < 0.0001"),
        (figures.chance, 0.0123, "p = 0.012"),
        (figures.duration, 90_061, "1 d 1 h"),
        (figures.duration, 59, "59 s"),
        (figures.duration, 3600, "1 h"),
    ],
)
def test_units(show: Any, value: float | None, text: str) -> None:
    """Three digits, a unit, a sign where it is a change; a dash where there is nothing."""
    assert show(value).replace("\u202f", " ") == text


def test_times_are_told_coarsely() -> None:
    """The page is not drawn anew for every second that passes."""
    assert figures.ago(figures.unix(AT), (figures.unix(AT) or 0) + 59) == "just now"
    assert figures.ago(0.0, 7300.0).replace("\u202f", " ") == "2 h ago"


# --- charts ---


def line(*values: float | None) -> Line:
    return Line("treatment", "treatment", values)


def test_a_gap_breaks_the_line() -> None:
    """Nothing is drawn where nothing is known: no line through zero, none across."""
    drawn = time_chart("Rate", [0.0, 1.0, 2.0, 3.0, 4.0], [line(1, 2, None, 2, 1)], figures.plain)
    (path,) = re.findall(r'd="([^"]*)" class="line', drawn)
    assert path.count("M") == 2
    assert "null" not in drawn
    assert "None" not in drawn


@given(st.lists(st.none() | st.floats(0, 1e9), min_size=2, max_size=30))
def test_lines_stay_within_their_chart(values: list[float | None]) -> None:
    """Every coordinate is on the drawing, whatever the values."""
    times = [float(place) for place in range(len(values))]
    drawn = time_chart("Rate", times, [line(*values)], figures.plain)
    for path in re.findall(r'd="([^"]*)" class="line', drawn):
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", path.replace("h0", ""))]
        assert all(0 <= x <= 1000 for x in numbers[::2])
        assert all(0 <= y <= 100 for y in numbers[1::2])


def test_a_value_next_to_nothing_has_a_scale() -> None:
    """The least number that there is has no power of ten below it."""
    assert linear_scale([5e-324]).top == 1.0
    assert linear_scale([1e-290]).top > 1e-290


def test_a_chart_says_in_words_what_it_shows() -> None:
    """Who cannot see it hears the newest values and the limit."""
    drawn = time_chart(
        "Error rate", [0.0, 1.0], [line(0.1, 0.02)], figures.share, limits=[Limit("limit", 0.01)]
    )
    assert 'aria-label="Error rate: treatment 2' in drawn
    assert "limit 1" in drawn


@given(st.floats(1e-6, 1e12))
def test_scales_hold_their_values(value: float) -> None:
    """A value's height is on the drawing, and greater values are higher."""
    for scale in (linear_scale([value]), log_scale([value, 1.0])):
        assert 0 <= scale.height(value) <= 100
        assert scale.height(value) <= scale.height(value / 2)
        assert scale.ticks() == sorted(scale.ticks(), reverse=True)


# --- sections ---

HOLD = {"kind": "evidence", "reason": HARM, "since": AT}
EVENTS = [
    event("phase_transition", **{"from": "staging", "to": "canary", "reason": HARM}),
    event("alert", operator=HARM, evidence={"change": "raised", "nested": {"a": [1, None, HARM]}}),
    event("gate", evidence={"gate": "a.b.automated_test", "success": False}),
]
CASES: dict[str, dict[str, Any]] = {
    "healthy": {},
    "nothing yet": {
        "recent": {},
        "points": [],
        "evidence": [],
        "degradation": None,
        "rate": None,
        "status": status(gates=[], schedule=[], workers=[], evidence=None, limits={}, next_phase=None),
    },
    "emergency": {"status": latched("emergency", HARM)},
    "rolled back": {"status": latched("rollback", HARM)},
    "holding": {"status": status(holds=[HOLD], ceiling=5, automatic_off=["canary"]), "history": EVENTS},
    "draining": {
        "status": status(drain={"step": 1, "steps": 5, "operator": HARM, "reason": HARM}, mode="draining")
    },
    "trial": {"status": status(trial={"cap": 50, "reason": HARM, "since": AT})},
    "alerts": {
        "status": status(
            alerts=[
                {
                    "type": "error_rate",
                    "severity": "critical",
                    "arm": "treatment",
                    "message": HARM,
                    "value": 0.1,
                    "threshold": 0.02,
                    "since": AT,
                }
            ],
            config={"digest": "d", "loaded_at": AT, "error": HARM, "file_differs": True},
        )
    },
    "experiments": {
        "experiments": [
            experiment(explanation=HARM),
            experiment(id="e2", metrics={}, verdict=None, explanation="not started yet", planned_end=None),
            experiment(id="e3", sample_ratio={"p_value": 1e-9, "ok": False}),
        ]
    },
    "one arm only": {
        "recent": {"control": CONTROL, "treatment": ArmFigures()},
        "points": [replace(point, treatment=ArmFigures()) for point in points()],
    },
}


@pytest.mark.parametrize("case", CASES)
def test_every_section_is_whole_and_escaped(case: str) -> None:
    """Well-formed, ids unique, without inline script or style, and foreign text only as text."""
    drawn = render(document(facts(**CASES[case])))
    structure = Structure(drawn)
    assert len(structure.ids) == len(set(structure.ids))
    assert "script" not in structure.tags
    assert "<script" not in drawn
    assert "None" not in drawn


def test_an_interval_s_colour_follows_the_metric_s_direction() -> None:
    """More accuracy is better, more cost is worse; an interval over zero is open."""

    def drawn(direction: str | None, *interval: float) -> set[str]:
        one = experiment()
        metric = one["metrics"]["accuracy"]
        metric["direction"] = direction
        metric["comparisons"][0] |= {"lift_interval": list(interval), "lift": sum(interval) / 2}
        return Structure(render(document(facts(experiments=[one])))).classes & {"better", "worse", "open"}

    without = Structure(render(document(facts()))).classes & {"better", "worse", "open"}
    assert drawn("up", 0.1, 0.2) - without == {"better"} - without
    assert "open" in drawn("up", -0.1, 0.2)
    assert "open" in drawn(None, 0.1, 0.2)
    assert drawn("down", 0.1, 0.2) >= {"worse"}


def test_more_failures_are_worse_whatever_the_experiment_is_about() -> None:
    """The error rate is no success metric of most experiments; it still has one good direction."""
    failing = {
        "direction": None,
        "success_metric": False,
        "groups": {"control": {"n": 400, "mean": 0.0}, "treatment": {"n": 390, "mean": 0.326}},
        "comparisons": [
            {
                "group": "treatment",
                "difference": 0.326,
                "lift": None,
                "interval": [0.236, 0.417],
                "lift_interval": None,
                "p_value": 1e-9,
            }
        ],
    }
    html = render(document(facts(experiments=[experiment(metrics={"error_rate": failing})])))
    assert "+32.6 points (+23.6 points to +41.7 points)" in html
    assert 'class="tone-word worse">worse' in html.partition('id="experiments"')[2]


def test_of_many_experiments_those_that_rest_are_folded() -> None:
    """Twenty drafts do not bury the one that runs; three of whatever kind are shown whole."""
    drafts = [experiment(id=f"e{place}", name=f"draft {place}", status="draft") for place in range(20)]
    many = render(document(facts(experiments=[*drafts, experiment(id="runs")])))
    assert many.count('data-key="experiment-') == 20
    assert 'data-key="experiment-runs"' not in many
    assert 'data-key="experiment-' not in render(document(facts(experiments=drafts[:3])))


def test_the_history_says_which_experiment() -> None:
    """Of twenty experiments, "started" alone says nothing."""
    began = event("experiment", reason="go", evidence={"experiment": "e7", "status": "running"})
    assert "</strong> e7 running</span>" in render(document(facts(history=[began])))


def test_an_alert_that_stands_is_not_followed_by_nothing_was_raised() -> None:
    """It may have been raised before the last day, or not be among the events yet."""
    alert = {"type": "error_rate", "severity": "critical", "message": "4 %", "since": AT}
    assert "Nothing was raised" not in render(document(facts(status=status(alerts=[alert]))))
    assert "Nothing was raised" in render(document(facts()))


def test_far_over_the_line_the_line_stays_in_sight() -> None:
    """Evidence of a quadrillion is at the upper edge, not the line at the lower one."""
    found = {**status()["evidence"], "value": 0.0}
    points_ = [EvidencePoint(NOW - 10, 0.2), EvidencePoint(NOW - 5, 1e15), EvidencePoint(NOW, 0.0)]
    html = render(document(facts(status=status(evidence=found), evidence=points_)))
    axis = re.findall(r'class="axis-y">(.*?)</div>', html.partition('id="evidence"')[2])[0]
    assert "10⁷" in axis
    assert "10¹" not in axis


def test_boards_select_sections() -> None:
    """`monitoring.dashboards` leaves out what it does not name; state, rollout and history stay."""
    ids = Structure(render(document(facts(boards=["alert_summary"])))).ids
    sections = [id_ for id_ in ids if not id_.startswith(("do-", "reach-")) and not id_.endswith("-title")]
    assert sections == ["panels", "state", "rollout", "alerts", "history"]


@pytest.mark.parametrize(("seen", "disabled"), [(status(), False), (latched("rollback"), True)])
def test_under_the_latch_only_a_release_is_offered(seen: dict[str, Any], disabled: bool) -> None:
    """Advance gives way to release; pause, rollback and approvals cannot be pressed."""
    drawn = render(document(facts(status=seen)))
    assert ('data-action="release"' in drawn) is disabled
    assert ('data-action="advance"' in drawn) is not disabled
    for action in ("pause", "rollback", "approve", "reject"):
        (button,) = re.findall(rf'<button[^>]*data-action="{action}"[^>]*>', drawn)
        assert (" disabled" in button) is disabled


# --- the page ---


def test_the_page_names_nothing_outside_and_holds_no_script() -> None:
    """It is whole, all its files are its own, and every dialog has a name."""
    structure = Structure(page().removeprefix("<!doctype html>\n"))
    assert structure.tags.count("script") == 1
    assert re.findall(r'(?:src|href)="(?!/dashboard/assets/|#)', page()) == []
    assert structure.tags.count("dialog") == len(re.findall(r'<dialog[^>]* aria-labelledby="', page()))
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'")


def test_each_of_several_routes_is_shown_with_both_arms() -> None:
    """One alone is what the figures above are of."""
    both = {
        name: {"requests": requests, "error_rate": 0.25, "p90": 1.5}
        for name, requests in (("control", 900), ("treatment", 100))
    }
    for routes, shown in (({"chat": both}, False), ({"chat": both, "a<b": both}, True)):
        made = document(facts(status=status(window={"routes": routes})))
        text = render(made)
        assert ('<th scope="row">a&lt;b</th>' in text) is shown
        assert ("900 / 100" in text) is shown
