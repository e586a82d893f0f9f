"""Stored text and the values it stands for, also over versions of the gateway."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from gateway.control.store.encoding import from_json, to_json
from gateway.core.rollout import begin
from gateway.model.rollout import Rollout
from tests.support.rollouts import NOW, make_rules

STATE = begin(make_rules(), NOW)


def test_a_field_that_an_older_version_did_not_write_takes_its_default() -> None:
    """An upgrade reads the state as it was left."""
    document = json.loads(to_json(STATE))
    del document["paused"], document["holds"]
    assert from_json(Rollout, json.dumps(document)) == STATE


def test_a_field_that_a_newer_version_wrote_is_passed_over() -> None:
    """A downgrade reads what it understands."""
    document = json.loads(to_json(STATE)) | {"mood": "cheerful"}
    assert from_json(Rollout, json.dumps(document)) == STATE


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"version": 1}', "nonsense", '{"share": "x"}'])
def test_text_that_is_no_state_is_refused(text: str) -> None:
    """Whoever reads it must know, to latch."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_json(Rollout, text)


def test_what_cannot_be_read_back_is_not_written_quietly() -> None:
    """A new kind of field is a mistake that shows at once."""

    @dataclass(frozen=True)
    class Odd:
        pair: tuple[int, str]

    with pytest.raises(TypeError):
        from_json(Odd, "{}")
