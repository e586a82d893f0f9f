"""The rollout's commands as an operator types them: what they print, and how they exit."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from gateway import cli
from gateway.exits import Exit
from tests.support.control import CONFIG, Client, Gateway, make_gateway, make_observation

pytestmark = pytest.mark.socket

GATED = CONFIG.replace(
    "    canary: {user_percentage: 1}\n",
    """\
    canary: {user_percentage: 1, duration: 24h}
  gates:
    canary -> limited_production:
      - {type: manual_approval, approvals: 1}
""",
)
APPROVAL = "canary.limited_production.manual_approval"


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway in canary; a day and a person's word stand before the next phase."""
    gateway = make_gateway(tmp_path, GATED)
    gateway.report(make_observation("a", 11))
    return gateway


class Shell:
    """Runs commands against one gateway and holds what they printed."""

    def __init__(self, admin: str, printed: pytest.CaptureFixture[str]) -> None:
        self._admin = admin
        self._printed = printed
        self.out = self.err = ""

    async def __call__(self, *arguments: str) -> int:
        code = await asyncio.to_thread(cli.main, (*arguments, "--admin", self._admin))
        self.out, self.err = self._printed.readouterr()
        return code


async def test_an_advance_that_the_gates_refuse_is_exit_3_with_every_reason(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each gate that does not pass; the document with -o json."""
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        assert await shell("advance") == Exit.GATE_NOT_PASSED
        assert shell.out == ""
        assert "not every gate has passed" in shell.err
        waits = r"pending +canary\.limited_production\.time_based: \S+ of healthy service left"
        assert re.search(waits, shell.err)
        assert f"pending      {APPROVAL}: 0 of 1 approvals" in shell.err
        assert await shell("advance", "-o", "json") == Exit.GATE_NOT_PASSED
        assert [gate["verdict"] for gate in json.loads(shell.out)["gates"]] == ["pending", "pending"]


async def test_status_says_what_holds_the_phase_and_what_to_type(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pending gates with what they wait for; then the way on, once there is one."""
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        await shell("status")
        assert "Gates of canary -> limited_production" in shell.out
        assert "0 of 1 approvals" in shell.out
        assert re.search(r"healthy service left, at the earliest in (1 d|23 h 59 min)", shell.out)
        assert f"gateway approve {APPROVAL}" in shell.out
        assert "gateway advance" not in shell.out
        await shell("pause")
        await shell("status")
        assert "PAUSED" in shell.out
        assert "gateway resume" in shell.out
        await shell("resume")
        assert await shell("approve", "manual_approval", "--operator", "ann") == Exit.DONE
        await shell("status")
        assert "approved by ann" in shell.out
        assert await shell("advance", "--force") == Exit.DONE
        assert "Phase limited_production: 10 % of users enrolled" in shell.out
        await shell("status")
        assert "To go on to full_production, with 100 % of users: gateway advance" in shell.out


async def test_an_approval_says_what_the_gate_still_waits_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of two is not enough; once it is, nothing is said of it."""
    for name in ("ann", "ben"):
        (tmp_path / f"{name}.token").write_text(f"secret-of-{name}\n")
    tokens = "admin: {tokens: {ann: ann.token, ben: ben.token}}\n"
    text = GATED.replace("approvals: 1", "approvals: 2") + tokens
    async with make_gateway(tmp_path, text).control() as control:
        shell = Shell(control.url, capsys)
        said = []
        for name in ("ann", "ben"):
            token = str(tmp_path / f"{name}.token")
            assert await shell("approve", "manual_approval", "--token-file", token) == Exit.DONE
            said.append(shell.out)
    phase = "Phase canary: 1 % of users enrolled"
    assert said[0].startswith(f"Approved. {APPROVAL} is pending: 1 of 2 approvals.\n{phase}")
    assert said[1].startswith(f"Approved. {phase}")


async def test_rollback_release_and_on(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that an operator does on a bad day, with the ceiling in sight."""
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        assert await shell("rollback", "--operator", "bob", "--reason", "bad answers") == Exit.DONE
        assert "gateway release" in shell.out
        await shell("status")
        assert "LATCHED (rollback)" in shell.out
        assert "by bob: bad answers" in shell.out
        assert "(with 1 % in staging)" in shell.out
        assert await shell("advance") == Exit.GATE_NOT_PASSED
        assert "release it first" in shell.err
        assert await shell("release", "--reason", "fixed") == Exit.DONE
        assert "under the ceiling of 1 %" in shell.out
        assert await shell("release", "--percentage", "5%") == Exit.DONE
        assert "The ceiling is set. Phase staging: 5 % of users enrolled" in shell.out
        await shell("status")
        assert "Under a ceiling of 5 %" in shell.out
        assert await shell("advance") == Exit.DONE
        await shell("history", "-o", "json")
        types = [event["type"] for event in json.loads(shell.out)]
    assert types == ["reload", "rollback", "release", "release", "phase_transition"]


async def test_a_second_rollback_says_that_it_goes_no_further(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever types it twice does not believe that the rollout fell two phases."""
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        await shell("rollback")
        assert shell.out.startswith("Rolled back. Phase staging: latched")
        assert await shell("rollback") == Exit.DONE
        assert shell.out.startswith(
            "It was latched before: recorded, and no further step back. Phase staging:"
        )
        await shell("rollback", "-o", "json")
        assert json.loads(shell.out)["repeated"]


@pytest.mark.parametrize(
    ("over", "words"),
    [("0s", "Rolled back. Phase staging: latched"), ("30s", "The drain has begun; `gateway")],
)
async def test_a_graceful_rollback_says_whether_it_is_under_way_or_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], over: str, words: str
) -> None:
    """Without steps to take it is done; under way, everything else is told to wait."""
    gateway = make_gateway(tmp_path, GATED + f"  rollback: {{drain: {{over: {over}}}}}\n")
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        assert await shell("rollback", "--graceful") == Exit.DONE
        assert shell.out.startswith(words)
        assert await shell("rollback", "--graceful") == Exit.GATE_NOT_PASSED
        assert re.match("gateway: (the latch is engaged|a graceful rollback is under way:) ?.*", shell.err)
        assert "drain" not in shell.err


async def waiting_rollback(control: Client) -> None:
    """Have Alertmanager ask for a rollback, which waits for a person."""
    labels = {"alertname": "Slow", "gateway_action": "rollback"}
    alert = {"status": "firing", "labels": labels, "startsAt": "2026-01-01T00:00:00Z"}
    await control.ask("POST", "/api/v1/alerts/alertmanager", alerts=[alert])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("approve", "Approved: rolled back. Phase staging: latched"),
        (
            "reject",
            "Rejected: treatment keeps its users, and the evidence against it begins at zero. Phase canary",
        ),
    ],
)
async def test_a_word_on_a_rollback_that_waits_says_what_became_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    """It is gone with it either way: nobody can still approve what was rejected."""
    gateway = make_gateway(tmp_path, GATED + "  rollback: {manual_approval_required: true}\n")
    async with gateway.control() as control:
        await waiting_rollback(control)
        shell = Shell(control.url, capsys)
        assert await shell(word, "rollback") == Exit.DONE
        assert shell.out.startswith(said)


async def test_a_rollback_that_waits_for_a_person_says_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Apart from the gates ahead, with both ways out; and it is a gate among the metrics."""
    gateway = make_gateway(tmp_path, GATED + "  rollback: {manual_approval_required: true}\n")
    async with gateway.control() as control:
        await waiting_rollback(control)
        shell = Shell(control.url, capsys)
        await shell("status")
        _, metrics = await control.ask("GET", "/metrics")
    assert re.search(r"^Rollback\npending +rollback\n +waits for approval: Slow", shell.out, re.MULTILINE)
    assert "To roll back: gateway approve rollback" in shell.out
    assert "To leave treatment its traffic: gateway reject rollback" in shell.out
    assert 'gateway_gate_status{gate="rollback"} 0.0' in metrics


async def test_history_tells_the_gates_of_an_advance_a_line_each(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people: no braces, and nothing of what there is nothing to say of."""
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        await shell("advance", "--force", "--operator", "ann")
        await shell("advance")  # without a gate
        await shell("rollback")
        await shell("history")
    lines = shell.out.splitlines()
    assert f"{'':26}pending      {APPROVAL}: 0 of 1 approvals" in lines
    assert re.search(r"^ {26}seconds: latch [\d.e-]+, phase", shell.out, re.MULTILINE)
    assert not re.search(r"[{}\[\]]|None", shell.out)


async def test_what_others_wrote_does_not_steer_the_terminal(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it make lines of its own that look like history."""
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        reason = "gone\x1b[2J\r\n2026-01-01T00:00:00.000Z  release          by ann"
        await shell("rollback", "--operator", "eve\x1b[8m", "--reason", reason)
        for command in ("status", "history", "advance"):
            await shell(command)
            assert not re.search(r"[\x00-\x09\x0b-\x1f]", shell.out + shell.err)
            assert not re.search("^2026-01-01", shell.out + shell.err, re.MULTILINE)
            assert r"gone\x1b[2J" in shell.out + shell.err


async def test_a_gate_that_is_rejected_and_one_that_is_not_there(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rejected gate fails; an unknown one is a failure that names those that wait."""
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        assert await shell("reject", APPROVAL, "--operator", "ann", "--reason", "not today") == Exit.DONE
        assert await shell("advance") == Exit.GATE_NOT_PASSED
        assert f"fail         {APPROVAL}: rejected by ann: not today" in shell.err
        assert await shell("approve", "no/such gate") == Exit.FAILED
        assert APPROVAL in shell.err


async def test_json_is_where_the_rollout_stands(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every step."""
    async with gateway.control() as control:
        shell = Shell(control.url, capsys)
        for command in ("pause", "resume", "rollback", "release"):
            assert await shell(command, "-o", "json") == Exit.DONE
            assert {"version", "phase", "user_percentage", "latched"} <= set(json.loads(shell.out))


@pytest.mark.parametrize("percentage", ["-1", "101", "x", "nan"])
def test_a_share_that_makes_no_sense_is_exit_2(percentage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anybody is asked, and with what would do."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["release", "--percentage", percentage])
    assert ended.value.code == Exit.INVALID
    assert f"{percentage!r} is no percentage from 0 to 100" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["advance"], ["rollback"], ["pause"], ["resume"], ["approve", "x"]])
def test_no_gateway_is_exit_4(arguments: list[str]) -> None:
    """One line that says where was looked."""
    assert cli.main([*arguments, "--admin", "http://127.0.0.1:9"]) == Exit.UNREACHABLE
