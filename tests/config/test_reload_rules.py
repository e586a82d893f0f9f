"""What a reload may change and what it may not, and the way out that each refusal names."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.reload_rules import changed_keys, refusals, reload_conflicts, restart_required
from gateway.model.config import Config
from tests.support.configs import complete, load_text


def config(folder: Path, snippet: str) -> Config:
    """The config of a snippet."""
    return load_text(folder, complete(snippet)).config


def running(**keys: str) -> str:
    """A snippet with an experiment, some of its keys changed."""
    settings = {"seed": "a", "hash": "xxh3", "revision": "1", "enabled": "true", "control": "50"} | keys
    control = settings.pop("control")
    salt = settings.pop("salt", "gateway")
    inside = ", ".join(f"{key}: {value}" for key, value in settings.items())
    groups = f"groups: {{control: {{weight: {control}}}, treatment: {{weight: 50}}}}"
    return f"deployment: {{rollout_salt: {salt}, experiments: {{x: {{{inside}, {groups}}}}}}}\n"


@pytest.mark.parametrize(
    ("snippet", "keys"),
    [
        ("", ()),
        ("# a remark\nlimits: {headers: 100}", ()),
        ("limits: {headers: 50}\ndrain_delay: 1s", ("drain_delay", "limits")),
        (
            "deployment: {phases: {canary: {user_percentage: 2}}, rollout_salt: x}",
            ("deployment.rollout_salt", "deployment.phases"),
        ),
    ],
)
def test_what_changed_is_named_as_it_is_written(tmp_path: Path, snippet: str, keys: tuple[str, ...]) -> None:
    """Top-level keys, and what is right below `deployment`; a default that is written out changes nothing."""
    assert changed_keys(config(tmp_path, ""), config(tmp_path, snippet)) == keys


@pytest.mark.parametrize(
    ("snippet", "keys"),
    [
        ("listen: {address: 127.0.0.1:8081}", ("listen",)),
        ("listen: {workers: 2}", ("listen",)),
        ("admin: {address: 127.0.0.1:9999}", ("admin",)),
        ("health: {address: 127.0.0.1:9999}", ("health",)),
        ("state: {retention: 1d}", ("state",)),
        ("listen: {workers: 2}\nstate: {directory: ./elsewhere}", ("listen", "state")),
        ("drain_timeout: 1s\nemergency: true\nlimits: {headers: 50}\ndeployment: {rollout_salt: x}", ()),
        ("listen: {address: 127.0.0.1:8080}", ()),
    ],
)
def test_keys_that_need_a_restart(tmp_path: Path, snippet: str, keys: tuple[str, ...]) -> None:
    """listen, admin, health and state, and nothing else."""
    assert restart_required(config(tmp_path, ""), config(tmp_path, snippet)) == keys


def test_a_new_token_file_needs_a_restart_and_a_new_token_does_not(tmp_path: Path) -> None:
    """Tokens can be exchanged while the gateway runs."""
    (tmp_path / "alice").write_text("one\n")
    before = config(tmp_path, "admin: {tokens: {alice: alice}}")
    (tmp_path / "alice").write_text("two\n")
    (tmp_path / "bob").write_text("three\n")
    assert restart_required(before, config(tmp_path, "admin: {tokens: {alice: alice}}")) == ()
    assert restart_required(before, config(tmp_path, "admin: {tokens: {alice: alice, bob: bob}}")) == (
        "admin",
    )


def test_the_current_phase_must_stay(tmp_path: Path) -> None:
    """Removing another phase is fine."""
    after = config(tmp_path, "deployment: {ladder: [canary, full_production]}")
    assert reload_conflicts(config(tmp_path, ""), after, "canary") == ()
    (conflict,) = reload_conflicts(config(tmp_path, ""), after, "staging")
    assert "the current phase staging is gone" in conflict
    assert "advance or roll back to a phase that stays" in conflict


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": "b"}, "seed"),
        ({"hash": "sha256"}, "hash"),
        ({"control": "60"}, "weights"),
        ({"control": "60", "seed": "b"}, "weights, seed"),
        ({"salt": "b"}, "deployment.rollout_salt"),
    ],
)
def test_a_running_experiment_keeps_its_split(tmp_path: Path, change: dict[str, str], named: str) -> None:
    """What would move its users is refused, unless its revision is raised."""
    before = config(tmp_path, running())
    (conflict,) = reload_conflicts(before, config(tmp_path, running(**change)), "canary")
    assert f"deployment.experiments.x: {named} changed while it runs" in conflict
    assert "conclude it first, or raise its revision to 2" in conflict
    assert reload_conflicts(before, config(tmp_path, running(**change, revision="2")), "canary") == ()


def test_a_revision_is_not_put_back(tmp_path: Path) -> None:
    """Whoever restores an older file does not begin an epoch by that."""
    before, after = (config(tmp_path, running(revision=number)) for number in ("3", "2"))
    (conflict,) = reload_conflicts(before, after, "canary")
    assert "x: revision changed while it runs" in conflict
    assert "raise its revision to 4" in conflict


@pytest.mark.parametrize("change", [{"enabled": "false"}, {}, {"revision": "7"}])
def test_what_moves_nobody_is_no_conflict(tmp_path: Path, change: dict[str, str]) -> None:
    """Switching off, nothing at all, a raised revision."""
    assert reload_conflicts(config(tmp_path, running()), config(tmp_path, running(**change)), "canary") == ()


def test_an_experiment_that_does_not_run_may_change(tmp_path: Path) -> None:
    """Neither one that is switched off, nor one that is new, nor one that goes."""
    off = config(tmp_path, running(enabled="false"))
    assert reload_conflicts(off, config(tmp_path, running(seed="b")), "canary") == ()
    assert reload_conflicts(config(tmp_path, ""), config(tmp_path, running()), "canary") == ()
    assert reload_conflicts(config(tmp_path, running()), config(tmp_path, ""), "canary") == ()


def test_the_order_of_the_groups_is_part_of_the_split(tmp_path: Path) -> None:
    """Ranges are dealt in the order written."""
    groups = "{experiments: {x: {groups: {a: {weight: 1}, b: {weight: 1}}}}}"
    swapped = "{experiments: {x: {groups: {b: {weight: 1}, a: {weight: 1}}}}}"
    before, after = (config(tmp_path, f"deployment: {each}") for each in (groups, swapped))
    assert "weights changed" in reload_conflicts(before, after, "canary")[0]


def test_every_reason_is_given_at_once(tmp_path: Path) -> None:
    """Whoever fixes the file sees all of it."""
    after = config(tmp_path, "listen: {workers: 2}\n" + running(seed="b"))
    first, second = refusals(config(tmp_path, running()), after, "canary")
    assert first == "listen: changed, which needs a restart; restart the gateway, or put it back"
    assert second.startswith("deployment.experiments.x: seed changed")
