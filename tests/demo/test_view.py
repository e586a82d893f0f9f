"""The live screen and the plain lines, drawn without a terminal."""

import io
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from gateway.demo import lines
from gateway.demo.faults import HEALTHY, Behaviour
from gateway.demo.picture import Event, Guide, Picture, clock, latency
from gateway.demo.readings import Change, Latch, Metrics, Reading, Severity, Status
from gateway.demo.tally import ArmFigures, Ending, Quantiles, Sample
from gateway.demo.view import MAX_WIDTH, Screen, curve
from gateway.model.snapshot import Arm

GUIDE = Guide(
    traffic="http://127.0.0.1:8080",
    admin="http://127.0.0.1:9900",
    config="/tmp/gateway-demo-12345678/gateway.yaml",
    command=".venv/bin/gateway",
    admin_option="",
)
STATUS = Status("limited_production", 50.0, Latch(), (11, 12), 0, 0, "aa", "")
NOTHING = Quantiles(math.nan, math.nan, math.nan)


def figures(requests: int, share: float, errors: int = 0, error_rate: float = 0.0) -> ArmFigures:
    """Figures of an arm that has been busy."""
    return ArmFigures(
        requests=requests,
        errors=errors,
        users=120,
        share=share,
        rate=share * 40,
        error_rate=error_rate,
        completion=Quantiles(0.182, 0.41, 1.204),
        first_token=Quantiles(0.095, 0.15, 0.2),
    )


BUSY = Picture(
    guide=GUIDE,
    elapsed=3725.0,
    duration=None,
    rate=40.0,
    reading=Reading(STATUS, Metrics(0.0002, 0.0009)),
    figures={Arm.CONTROL: figures(1_234_567, 0.748), Arm.TREATMENT: figures(401_234, 0.252)},
    curves={arm: [second % 30 for second in range(180)] for arm in Arm},
    overall_shares={Arm.CONTROL: 0.75, Arm.TREATMENT: 0.25},
    users=300,
    movers=0,
    unanswered=0,
    events=[Event(float(at), Change(f"event number {at} " + "x" * 90, Severity.BAD)) for at in range(60)],
    recent=[
        Sample(float(n), f"margaret-{n}", arm, True, 200, ending, 0.1, 1.2)
        for n, (arm, ending) in enumerate(
            [(arm, ending) for arm in (*Arm, None) for ending in Ending for _ in range(3)]
        )
    ],
    behaviours={Arm.CONTROL: HEALTHY, Arm.TREATMENT: HEALTHY},
    memory=134_000_000,
    keys=True,
)
EMPTY = ArmFigures(0, 0, 0, 0.0, 0.0, 0.0, NOTHING, NOTHING)
FRESH = replace(
    BUSY,
    elapsed=0.0,
    duration=30.0,
    reading=Reading(STATUS, Metrics()),
    figures=dict.fromkeys(Arm, EMPTY),
    curves={arm: [] for arm in Arm},
    users=0,
    events=[],
    recent=[],
    memory=0,
    keys=False,
)
LATCHED = replace(
    BUSY,
    reading=Reading(replace(STATUS, latch=Latch(True, "emergency", "too many errors", "ada")), Metrics()),
    figures={Arm.CONTROL: figures(900, 1.0), Arm.TREATMENT: replace(EMPTY, requests=300)},
)
FAILING = replace(
    BUSY,
    figures={Arm.CONTROL: figures(900, 0.75), Arm.TREATMENT: figures(300, 0.25, 90, 0.3)},
    behaviours={Arm.CONTROL: HEALTHY, Arm.TREATMENT: Behaviour(errors=0.3, latency=2.0, hang=0.1, reset=0.2)},
)
SILENT = replace(BUSY, reading=Reading(None, Metrics()))
TERMINALS = [(80, 24), (100, 30), (104, 24), (140, 50), (300, 80), (40, 10)]
PICTURES = {"busy": BUSY, "fresh": FRESH, "latched": LATCHED, "failing": FAILING, "silent": SILENT}


def draw(picture: Picture, width: int, height: int) -> list[str]:
    """The lines of the screen as a terminal of that size would show them."""
    console = Console(
        record=True, width=width, height=height, file=io.StringIO(), force_terminal=True, legacy_windows=False
    )
    console.print(Screen(picture), end="", crop=False)
    return console.export_text(styles=False).splitlines()


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize(
    ("width", "height"), [(80, 24), (100, 30), (104, 24), (140, 50), (300, 80), (40, 10)]
)
def test_every_picture_fits_every_terminal(name: str, width: int, height: int) -> None:
    """No line is longer than the terminal is wide and the screen is not higher than the terminal."""
    drawn = draw(PICTURES[name], width, height)
    assert len(drawn) <= height
    assert max(map(len, drawn)) <= min(width, MAX_WIDTH)


@pytest.mark.parametrize("name", PICTURES)
def test_a_small_terminal_shows_what_matters(name: str) -> None:
    """In 80 by 24: where to look, both arms, and the keys or how to end it, on a full screen."""
    drawn = draw(PICTURES[name], 80, 24)
    text = "\n".join(drawn)
    assert len(drawn) == 24
    assert "curl -i http://127.0.0.1:8080/v1/generate -H 'X-User-Id: me' -d '{}'" in text
    assert "http://127.0.0.1:9900" in text
    assert "what happened" in text
    assert "e  emergency" in drawn[-1] or "Ctrl-C" in drawn[-1]
    assert [line.split()[0] for line in drawn if line.startswith((" control", " treatment"))][:2] == [
        "control",
        "treatment",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_figures_stand_under_their_titles_uncut(width: int) -> None:
    """Also millions of requests fit in a narrow table; a wide one has two columns more."""
    drawn = draw(BUSY, width, 24)
    titles = next(line for line in drawn if line.startswith(" arm")).replace("token p99", "token_p99")
    row = next(line for line in drawn if line.startswith(" control"))
    narrow = {
        "arm": "control",
        "requests": "1,234,567",
        "share": "74.8%",
        "req/s": "29.9",
        "failed": "0",
        "now": "0.0%",
        "p50": "182ms",
        "p90": "410ms",
        "p99": "1.20s",
        "token": "95ms",
    }
    wide = {"users": "120", "token_p99": "200ms"}
    assert dict(zip(titles.split(), row.split(), strict=True)) == narrow | (wide if width > 100 else {})


def test_the_state_is_told_from_afar() -> None:
    """Healthy, failing, latched and silent each have a headline of their own."""
    headlines = {
        "busy": "● HEALTHY  limited_production  50 % of users enrolled",
        "failing": "● TREATMENT FAILS 30%  limited_production",
        "latched": "■ LATCH ENGAGED  everything goes to control",
        "silent": "● CONTROL PROCESS SILENT",
    }
    for name, headline in headlines.items():
        assert any(headline in line for line in draw(PICTURES[name], 80, 24)), name


def test_the_way_out_is_the_one_that_is_needed() -> None:
    """`emergency` while traffic is split, `release` while the latch holds."""
    assert any(".venv/bin/gateway emergency" in line for line in draw(BUSY, 80, 24))
    assert any(".venv/bin/gateway release" in line for line in draw(LATCHED, 80, 24))


def test_commands_name_the_admin_address_where_it_is_unusual() -> None:
    """A line that is copied from the screen must reach this gateway."""
    moved = replace(GUIDE, admin_option="--admin http://127.0.0.1:9902")
    assert moved.line("release") == ".venv/bin/gateway release --admin http://127.0.0.1:9902"


def test_a_curve_is_as_high_as_its_rows() -> None:
    """Full blocks below, the rest above, and something visible for anything above zero."""
    assert curve([0, 1, 50, 100], 100, 2) == ["   █", " ▁██"]
    assert curve([4, 8], 8, 1) == ["▄█"]
    assert curve([], 0, 1) == [""]
    assert curve([0.0], 0, 1) == [" "]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0ms"), (0.1824, "182ms"), (0.9996, "1.00s"), (12.345, "12.35s"), (math.nan, "-")],
)
def test_latencies_keep_three_digits(seconds: float, text: str) -> None:
    """Milliseconds below a second, else seconds."""
    assert latency(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "00:00"), (61.9, "01:01"), (3725.0, "1:02:05")])
def test_the_clock_has_hours_once_there_are_any(seconds: float, text: str) -> None:
    """Minutes and seconds till then."""
    assert clock(seconds) == text


@pytest.mark.parametrize("name", PICTURES)
def test_plain_lines_are_plain(name: str) -> None:
    """One line without escape codes that names both arms."""
    line = lines.progress(PICTURES[name])
    assert line.isprintable()
    assert "control" in line
    assert "treatment" in line


def test_the_summary_names_arms_users_and_what_to_do_next() -> None:
    """Totals and shares of the whole run, and that nobody changed arm."""
    text = "\n".join(lines.summary(replace(BUSY, elapsed=30.0)))
    assert "1,635,801 requests by 300 users in 30 s" in text
    assert "75.0%" in text
    assert "every user stayed in one arm" in text
    assert "the gateway added 0.2 ms to a request (p99 0.9 ms) and held 134 MB" in text
    assert ".venv/bin/gateway demo --fault treatment.errors=0.3@10s" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda picture: replace(picture, movers=1), "1 user changed arm: by the latch"),
        (lambda picture: replace(picture, movers=41), "41 users changed arm"),
        (lambda picture: replace(picture, unanswered=7), "7 requests without an answer"),
    ],
)
def test_the_summary_hides_nothing(change: Callable[[Picture], Picture], expected: str) -> None:
    """Who changed arm and what was not answered is said."""
    assert expected in "\n".join(lines.summary(change(BUSY)))
