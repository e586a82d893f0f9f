"""A config that is refused asks for the emergency unless it clearly does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.config.loading import ConfigError, load
from tests.support.configs import complete, load_text


def refused(folder: Path, text: str, environ: dict[str, str] | None = None) -> ConfigError:
    """The error of a config that must not load."""
    with pytest.raises(ConfigError) as caught:
        load_text(folder, text, environ or {})
    return caught.value


@pytest.mark.parametrize(
    "line",
    [
        "emergency: true",
        "emergency: True   # incident 12",
        "emergency: yes",
        "emergency: on",
        "emergency: 1",
        'emergency: "true"',
        '"emergency": true',
        "emergency: tru",
        "emergency: false\nemergency: true",
        "emergency: true\nemergency: false",
        "emergency: {now: true}",
    ],
)
@pytest.mark.parametrize(
    "fault", ["healht: {}", "drain_timeout: soon", "nonsense: [", "\tname: tab", "a line without a colon"]
)
def test_whatever_is_no_clear_no_asks(tmp_path: Path, line: str, fault: str) -> None:
    """Neither another fault, nor broken YAML, nor an odd spelling keeps the emergency from being heard."""
    assert refused(tmp_path, complete(f"{line}\n{fault}\n")).emergency is True


@pytest.mark.parametrize(
    "line",
    [
        "",
        "emergency: false",
        "emergency: no",
        "emergency: 0",
        "emergency:",
        "emergency: null",
        "# emergency: true",
        "emergency_contacts: true",
        "access_log: {emergency: true}",
        "access_log:\n  emergency: true",
    ],
)
@pytest.mark.parametrize("fault", ["healht: {}", "nonsense: ["])
def test_a_clear_no_and_other_keys_do_not_ask(tmp_path: Path, line: str, fault: str) -> None:
    """A config with a fault is no emergency by itself; nor is a comment, or a key further inside."""
    assert refused(tmp_path, complete(f"{line}\n{fault}\n")).emergency is False


def test_the_key_is_found_between_braces(tmp_path: Path) -> None:
    """JSON is YAML, and there no key begins a line."""
    assert refused(tmp_path, '{"version": 1, "emergency": true}').emergency is True
    assert refused(tmp_path, '{"version": 1, "emergency": false}').emergency is False


def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    """Neither yes nor no: what was read before stands. But the environment asks without any file."""
    for environ, expected in (({}, None), ({"GATEWAY_EMERGENCY": "1"}, True)):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / "absent.yaml", environ)
        assert caught.value.emergency is expected
