"""What `status` shows of the evidence: the document, and the lines that people read."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from gateway.commands import judging
from tests.monitoring.conftest import CANARY
from tests.support.monitoring import Served, Stage, Watch

CONTROL = Served(good=180)


def shown(document: dict[str, object], *, latched: bool = False) -> str:
    """The lines for people."""
    console = Console(width=200)
    with console.capture() as capture:
        for line in judging.lines(document | {"latch": {"engaged": latched}}):
            console.print(line)
    return capture.get()


async def seen(stage: Stage, watch: Watch) -> dict[str, object]:
    """The document as it leaves the API."""
    document = watch.monitor.document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    return document


async def test_the_document_has_evidence_limits_and_detection(stage: Stage) -> None:
    """In the contract's shape, with where each limit comes from, and when a rollback could be expected."""
    async with stage.control() as watch:
        await watch.seconds(20, Served(good=19, bad=1), CONTROL)
        document = await seen(stage, watch)
    evidence, limits = document["evidence"], document["limits"]
    assert isinstance(evidence, dict)
    assert isinstance(limits, dict)
    assert evidence["limit"] == 1000.0
    assert 0 < evidence["value"] < 1000
    assert evidence["decision"] == "evidence"
    assert evidence["parts"]["error_rate"]["failures"] == 20
    assert evidence["parts"]["error_rate"]["requests"] == 400
    assert limits["error_rate"] == {"value": 0.02, "source": "phases.canary.rollback_threshold.error_rate"}
    (everything, *_) = evidence["detection"]
    assert everything["failure_rate"] == 1.0
    assert everything["seconds"] == pytest.approx(everything["requests"] / 20, rel=0.2)


async def test_before_the_first_look_nothing_is_said(stage: Stage) -> None:
    """No number is made up."""
    async with stage.control() as watch:
        document = await seen(stage, watch)
    evidence = document["evidence"]
    assert isinstance(evidence, dict)
    assert (evidence["value"], evidence["verdict"], evidence["parts"]) == (None, None, {})
    assert evidence["detection_in_words"] == ["not known while there is no traffic"]
    assert "nothing was looked at yet" in shown(document)


async def test_people_read_the_reason_the_limits_and_how_soon(stage: Stage) -> None:
    """A line for each."""
    async with stage.control() as watch:
        await watch.seconds(20, Served(good=20), CONTROL)
        text = shown(await seen(stage, watch))
    assert "evidence  nothing against treatment" in text
    assert "limit     error_rate 0.02  (phases.canary.rollback_threshold.error_rate)" in text
    assert "found     if everything failed: after about" in text


UPSTREAMS: dict[str, dict[str, object]] = {
    "traditional": {"arms": ["control"], "available": True, "endpoints": [{"usable": True}]},
    "dspy": {"arms": ["treatment"], "available": False, "endpoints": [{"usable": False}]},
}
BROKEN_OFF = UPSTREAMS["dspy"] | {"endpoints": [{"usable": True}]}


def said(document: dict[str, object], dspy: dict[str, object] = UPSTREAMS["dspy"], **keys: object) -> str:
    """The line for people that treatment is away."""
    around = {"latch": {"engaged": False}, "upstreams": UPSTREAMS | {"dspy": dspy}}
    return "\n".join(str(line) for line in judging.absence(document | around | keys))


async def test_a_treatment_that_is_away_is_said_and_when_it_is_rolled_back(stage: Stage) -> None:
    """From the moment that it is gone until it is back, with the seconds that are left."""
    async with stage.control() as watch:
        await watch.seconds(20, Served(good=20), CONTROL)
        assert (await seen(stage, watch))["treatment_absence"] is None
        stage.endpoints.treatment = False
        gone = await seen(stage, watch)
        assert said(gone).endswith(": control answers; rolled back in 1 min unless it comes back")
        await watch.seconds(17, Served(failed_over=20), CONTROL)
        gone = await seen(stage, watch)
        assert gone["treatment_absence"] == {
            "seconds": 17.0,
            "control_healthy": True,
            "rollback_in": 43.0,
            "obstacle": None,
        }
        what = "control answers; rolled back in 43 s unless it comes back"
        assert said(gone) == f"Treatment has no usable endpoint: {what}"
        assert said(gone, BROKEN_OFF) == f"Treatment is behind an open circuit breaker: {what}"
        assert said(gone, BROKEN_OFF | {"available": True}) == f"Treatment gives no sign of life: {what}"
        assert said(gone, latch={"engaged": True}) == ""
        stage.endpoints.treatment = True
        await watch.second(Served(good=20), CONTROL)
        assert said(await seen(stage, watch)) == ""


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("never alive", "control answers; not rolled back, for it never gave a sign of life in this phase"),
        ("no trigger", "control answers; not rolled back, for system_failure is not among"),
        ("control fails", "control answers; not rolled back, for control fails beyond its own limit"),
        ("control is gone", "control is not healthy either; not rolled back, for an upstream of control has"),
    ],
)
async def test_a_treatment_that_is_away_and_stays_is_said_with_the_reason(
    stage: Stage, why: str, words: str
) -> None:
    """No countdown is shown where nothing comes of it."""
    if why == "no trigger":
        stage.scene.text = CANARY.replace("phases:", "rollback: {automatic_triggers: []}, phases:")
    async with stage.control() as watch:
        if why != "never alive":
            await watch.seconds(20, Served(good=20), CONTROL)
        stage.endpoints.treatment = False
        stage.endpoints.control = why != "control is gone"
        await watch.seconds(
            90, Served(failed_over=20), Served(bad=180) if why == "control fails" else CONTROL
        )
        assert words in said(await seen(stage, watch))


async def test_under_the_latch_there_is_nothing_to_judge(stage: Stage) -> None:
    """And it says so instead of showing old numbers."""
    async with stage.control() as watch:
        text = shown(await seen(stage, watch), latched=True)
    assert text.splitlines()[1:] == ["  nothing is judged while everything goes to control"]
