"""What `status` shows of the evidence: the document, and the lines that people read."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from gateway.commands import judging
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
    assert "never, for treatment gets no traffic" in evidence["detection_in_words"][0]
    assert "nothing was looked at yet" in shown(document)


async def test_people_read_the_reason_the_limits_and_how_soon(stage: Stage) -> None:
    """A line for each."""
    async with stage.control() as watch:
        await watch.seconds(20, Served(good=20), CONTROL)
        text = shown(await seen(stage, watch))
    assert "evidence  nothing against treatment" in text
    assert "limit     error_rate 0.02  (phases.canary.rollback_threshold.error_rate)" in text
    assert "found     if everything failed: after about" in text


async def test_under_the_latch_there_is_nothing_to_judge(stage: Stage) -> None:
    """And it says so instead of showing old numbers."""
    async with stage.control() as watch:
        text = shown(await seen(stage, watch), latched=True)
    assert text.splitlines()[1:] == ["  nothing is judged while everything goes to control"]
