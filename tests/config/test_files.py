"""Files as they come: missing, huge, half-written, several of them, and what is remembered of them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.control.config.document import DocumentError, parse
from gateway.control.config.loading import ConfigError, load, load_sources
from tests.support.configs import complete, load_text, problems_of

EXAMPLES = sorted([*Path("config").glob("*.yaml"), *Path("config/examples").glob("*.yaml")])
WHOLE = [path for path in EXAMPLES if path.name != "production_deployment.yaml"]
STRATEGY = Path("tests/config/production_deployment.yaml")


def reason(path: Path) -> str:
    """Why a file cannot be loaded, found within a second."""
    begun = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert time.process_time() - begun < 1
    return str(caught.value)


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user that file permissions bind: tests may run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("path", WHOLE, ids=str)
def test_every_example_loads(path: Path) -> None:
    """What the repository shows is valid."""
    assert load(path, {}).config.routes


def test_the_strategys_own_file_loads_word_for_word(tmp_path: Path) -> None:
    """The strategy's production_deployment.yaml is a deployment_file without a change."""
    (tmp_path / "production_deployment.yaml").write_bytes(STRATEGY.read_bytes())
    deployment = load_text(
        tmp_path, complete("deployment_file: production_deployment.yaml\n")
    ).config.deployment
    assert {name: float(phase.user_percentage) for name, phase in deployment.phases.items()} == {
        "development": 100,
        "staging": 100,
        "canary": 1,
        "limited_production": 10,
        "full_production": 100,
    }
    canary = deployment.phases["canary"]
    assert canary.duration == 24 * 3600
    criteria = {metric.value: str(value) for metric, value in canary.success_criteria.by_metric().items()}
    assert criteria == {
        "error_rate": "< 0.01",
        "performance_degradation": "< 0.1",
        "user_satisfaction": "> 0.95",
    }
    assert canary.rollback_threshold.error_rate == 0.02  # the default of the phase, which the file leaves
    assert deployment.phases["full_production"].duration is None
    groups = deployment.experiments["dspy_vs_traditional"].groups
    assert {name: group.configuration.dspy_enabled for name, group in groups.items()} == {
        "control": False,
        "treatment": True,
    }
    assert [str(trigger) for trigger in deployment.rollback.automatic_triggers] == [
        "error_rate > 0.02",
        "performance_degradation > 0.3",
        "system_failure",
    ]
    response_time = deployment.monitoring.alerts.response_time
    assert response_time is not None
    assert (response_time.warning, response_time.critical) == (5.0, 10.0)


def test_the_example_is_the_strategys_file() -> None:
    """The copy among the examples is the same file."""
    assert STRATEGY.read_bytes() == Path("config/examples/production_deployment.yaml").read_bytes()


# --- files that are none


def test_a_missing_file(tmp_path: Path) -> None:
    """The reason names the file as it was given."""
    path = tmp_path / "nowhere.yaml"
    assert reason(path) == f"{path}: cannot be read: No such file or directory; expected a config file"


def test_an_unreadable_file(tmp_path: Path) -> None:
    """A file without permission is named as such."""
    path = tmp_path / "gateway.yaml"
    path.write_text(complete(""))
    path.chmod(0)
    with without_privileges():
        assert "cannot be read: Permission denied" in reason(path)


def test_a_directory(tmp_path: Path) -> None:
    """A directory is no config."""
    assert f"{tmp_path} is a directory" in reason(tmp_path)


def test_a_fifo_without_a_writer(tmp_path: Path) -> None:
    """Opening never waits."""
    os.mkfifo(tmp_path / "fifo")
    assert "is a FIFO" in reason(tmp_path / "fifo")


def test_a_device() -> None:
    """Nothing is read from a device."""
    assert "/dev/zero is a device" in reason(Path("/dev/zero"))


def test_a_socket(tmp_path: Path) -> None:
    """A socket is no config either."""
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    assert "cannot be read" in reason(tmp_path / "socket")


def test_a_dangling_and_a_looping_link(tmp_path: Path) -> None:
    """Links that lead nowhere are said to."""
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert "No such file" in reason(tmp_path / "dangling")
    assert "Too many levels of symbolic links" in reason(tmp_path / "loop")


def test_a_hundred_megabytes(tmp_path: Path) -> None:
    """A huge file is given up at once, without being read."""
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    assert "is larger than 1,000,000 bytes" in reason(path)


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["a,", "a: 1, ", "[", "{a: ", "'", "> 1\n", "&a [", "- ", "\n"])
def test_a_megabyte_of_anything_is_given_up_within_a_second(tmp_path: Path, piece: str) -> None:
    """The largest file that is read cannot hold the loader up."""
    path = tmp_path / "gateway.yaml"
    path.write_text("[" + piece * (990_000 // len(piece)) + "\n")
    assert reason(path)


def test_an_empty_file(tmp_path: Path) -> None:
    """An empty file is no config with nothing in it."""
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"")
    assert "the file is empty" in reason(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    """A file that Windows wrote loads, and its columns are true."""
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + complete("").replace("\n", "\r\n").encode())
    assert load(path, {}).config.routes
    path.write_bytes(b"\xef\xbb\xbfwrong: 1\r\n" + complete("").encode())
    assert f"{path}:1:1: wrong: unknown key" in reason(path)


def test_json_is_yaml(tmp_path: Path) -> None:
    """A JSON file loads, with and without a line break behind it: its brackets say that it is whole."""
    text = (
        '{"upstreams": {"a": {"endpoints": ["http://127.0.0.1:1"]}},'
        ' "routes": [{"name": "r", "control": "a", "treatment": "a"}]}'
    )
    assert load_text(tmp_path, text).config == load_text(tmp_path, text + "\n").config


# --- files that were cut short


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gateway.yaml", "examples/canary.yaml", "examples/experiment.yaml"])
def test_no_prefix_of_a_closed_file_loads(name: str) -> None:
    """A file that opens with %YAML is refused however it is cut; only the last line break may lack."""
    whole = (Path("config") / name).read_bytes()
    for length in range(len(whole) - 1):
        with pytest.raises(DocumentError):
            parse(whole[:length])
    assert parse(whole[:-1]).root.plain() == parse(whole).root.plain()


def test_no_prefix_within_a_line_loads(tmp_path: Path) -> None:
    """Without %YAML, a cut inside a line is refused: `weight: 1` is no `weight: 10`."""
    whole = (
        complete("deployment:\n  phases:\n    canary: {}\n")
        .replace("{}", "\n      user_percentage: 10")
        .encode()
    )
    copy = tmp_path / "gateway.yaml"
    loaded = []
    for length in range(len(whole)):
        copy.write_bytes(whole[:length])
        if not problems_of(tmp_path, copy.read_text()):
            loaded.append(length)
    assert loaded == []
    text = complete("") + "deployment:\n  phases:\n    canary:\n      user_percentage: 10"
    assert "seems to be cut short: its last line does not end" in str(problems_of(tmp_path, text[:-1])[0])
    assert "seems to be cut short" in str(problems_of(tmp_path, text)[0])
    assert problems_of(tmp_path, text + "\n") == ()


def test_a_cut_between_lines_is_a_smaller_file(tmp_path: Path) -> None:
    """What a loader cannot see: whole lines that are missing. The reload waits for the writer; see there."""
    text = complete("") + "access_log:\n  sample: 1\n"
    assert load_text(tmp_path, text).config.access_log.sample == 1
    assert load_text(tmp_path, text[: text.index("access_log")]).config.access_log.sample == 0
    assert "access_log: there is no value" in str(problems_of(tmp_path, text[: text.index("  sample")])[0])


# --- several files


def test_problems_of_a_deployment_file_have_its_name(tmp_path: Path) -> None:
    """A problem points into the file that it is in."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/d.yaml").write_text(
        "deployment:\n  phases: {canary: {user_percentage: 500}}\nother: 1\n"
    )
    first, second = problems_of(tmp_path, complete("deployment_file: sub/d.yaml\n"))
    assert str(first).startswith(
        f"{tmp_path}/sub/d.yaml:2:38: deployment.phases.canary.user_percentage: 500 is too"
    )
    assert str(second).startswith(
        f"{tmp_path}/sub/d.yaml:3:1: other: unknown key; expected the key deployment alone"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "d.yaml:1:1: the file is empty"),
        ("phases: {}\n", "d.yaml:1:1: deployment: the key is missing"),
        ("[deployment]\n", "d.yaml:1:1: this is no mapping"),
        ("deployment: {}", "d.yaml:1:15: the file seems to be cut short"),
        ("deployment:\n", "d.yaml:1:12: deployment: there is no value"),
    ],
)
def test_deployment_files_that_hold_none(tmp_path: Path, content: str, words: str) -> None:
    """The file must hold the key `deployment`, and something under it."""
    (tmp_path / "d.yaml").write_text(content)
    assert words in "\n".join(map(str, problems_of(tmp_path, complete("deployment_file: d.yaml\n"))))


def test_everything_that_was_read_is_remembered(tmp_path: Path) -> None:
    """The config, the deployment_file and the token files: what a reload has to watch."""
    (tmp_path / "d.yaml").write_text("deployment: {initial_phase: canary}\n")
    (tmp_path / "alice").write_text("a-secret\n")
    (tmp_path / "qa").write_text("another\n")
    text = complete("deployment_file: d.yaml\nadmin: {tokens: {alice: alice}}\noverrides: {token_file: qa}\n")
    loaded = load_text(tmp_path, text)
    assert set(loaded.sources) == {tmp_path / name for name in ("gateway.yaml", "d.yaml", "alice", "qa")}
    assert loaded.config.admin.tokens["alice"].secret == "a-secret"
    assert loaded.config.overrides.token_file is not None
    assert loaded.config.overrides.token_file.secret == "another"
    assert "a-secret" not in repr(loaded)
    assert "another" not in repr(loaded)


def test_what_was_read_loads_again_without_the_files(tmp_path: Path) -> None:
    """A control process that restarts over a broken file goes on with the last good text."""
    (tmp_path / "d.yaml").write_text("deployment: {initial_phase: canary}\n")
    (tmp_path / "alice").write_text("a-secret\n")
    path = tmp_path / "gateway.yaml"
    path.write_text(complete("deployment_file: d.yaml\nadmin: {tokens: {alice: alice}}\n"))
    loaded = load(path, {})
    for name in ("gateway.yaml", "d.yaml", "alice"):
        (tmp_path / name).unlink()
    again = load_sources(path, loaded.sources, {})
    assert again == loaded


def test_the_digest_is_that_of_all_contents(tmp_path: Path) -> None:
    """Any change of any file changes it; nothing else does."""
    (tmp_path / "d.yaml").write_text("deployment: {}\n")
    (tmp_path / "alice").write_text("one\n")
    text = complete("deployment_file: d.yaml\nadmin: {tokens: {alice: alice}}\n")
    digests = [load_text(tmp_path, text).digest]
    os.utime(tmp_path / "gateway.yaml", (1, 1))
    assert load(tmp_path / "gateway.yaml", {}).digest == digests[0]
    (tmp_path / "alice").write_text("two\n")
    digests.append(load(tmp_path / "gateway.yaml", {}).digest)
    (tmp_path / "d.yaml").write_text("deployment: {rollout_salt: x}\n")
    digests.append(load(tmp_path / "gateway.yaml", {}).digest)
    digests.append(load_text(tmp_path, "# a remark\n" + text).digest)
    assert len(set(digests)) == 4


def test_a_failed_load_says_which_files_it_asked_for(tmp_path: Path) -> None:
    """A file that is missing may appear: it has to be watched as well."""
    path = tmp_path / "gateway.yaml"
    path.write_text(complete("deployment_file: later.yaml\nadmin: {tokens: {alice: later.token}}\n"))
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.files == {path, tmp_path / "later.yaml", tmp_path / "later.token"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"two words\n", "holds more than one token"),
        (b"one\ntwo\n", "holds more than one token"),
        ("ümlaut\n".encode(), "or letters that no header may hold"),
        (b"\xff\xfe\n", "is not text in UTF-8"),
        (b"x" * 5000, "is larger than 4,096 bytes"),
    ],
)
def test_token_files_that_hold_no_token(tmp_path: Path, content: bytes, words: str) -> None:
    """An unusable token is a problem at the key that names the file."""
    (tmp_path / "token").write_bytes(content)
    (problem,) = problems_of(tmp_path, complete("overrides: {token_file: token}\n"))
    assert words in problem.message
    assert (problem.path, problem.line, problem.column) == ("overrides.token_file", 1, 25)


def test_two_operators_need_two_tokens(tmp_path: Path) -> None:
    """A token that two names share would let one person approve twice."""
    (tmp_path / "one").write_text("same\n")
    (tmp_path / "two").write_text("same")
    (problem,) = problems_of(tmp_path, complete("admin: {tokens: {alice: one, bob: two}}\n"))
    assert "admin.tokens.bob: the token is the same as alice's" in str(problem)


# --- paths and the environment


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the gateway is started from, and however the file was named."""
    (tmp_path / "etc").mkdir()
    load_text(tmp_path / "etc", complete("listen: {address: 'unix:run/gateway.sock'}\n"))
    monkeypatch.chdir(tmp_path)
    config = load(Path("etc/gateway.yaml"), {}).config
    assert config.state.directory == tmp_path / "etc/state"
    assert str(config.listen.address) == f"unix:{tmp_path}/etc/run/gateway.sock"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    """An absolute path is taken as it is."""
    config = load_text(tmp_path, complete("state: {directory: /var/lib/gateway}\n")).config
    assert config.state.directory == Path("/var/lib/gateway")


CHANNEL = 'notifications: {channels: {oncall: {type: slack, url: "https://h/${TOKEN}?x=${B}"}}}\n'


def test_variables_are_filled_into_the_urls_of_channels(tmp_path: Path) -> None:
    """`${NAME}` stands for the environment's value, which stays out of every repr."""
    loaded = load_text(tmp_path, complete(CHANNEL), {"TOKEN": "t0psecret", "B": "1"})
    channel = loaded.config.notifications.channels["oncall"]
    assert channel.url.get_secret_value() == "https://h/t0psecret?x=1"
    assert "t0psecret" not in repr(loaded)


@pytest.mark.parametrize("environ", [{"B": "1"}, {"B": "1", "TOKEN": ""}])
def test_a_missing_variable_is_named(tmp_path: Path, environ: dict[str, str]) -> None:
    """Unset or empty: the message says which."""
    (problem,) = problems_of(tmp_path, complete(CHANNEL), environ)
    assert "the environment variable TOKEN is" in problem.message
    assert problem.expected == "expected TOKEN in the environment"


def test_a_secret_is_not_in_the_message_of_its_problem(tmp_path: Path) -> None:
    """A URL that is wrong is not printed: it may be the secret."""
    (problem,) = problems_of(tmp_path, complete(CHANNEL), {"TOKEN": "t0p secret", "B": "1"})
    assert "t0p" not in str(problem)


def test_variables_stay_text_elsewhere(tmp_path: Path) -> None:
    """Nothing else is expanded, and a warning says so."""
    loaded = load_text(tmp_path, complete("deployment: {rollout_salt: '${SALT}'}\n"), {"SALT": "x"})
    assert loaded.config.deployment.rollout_salt == "${SALT}"
    assert "${SALT} is not expanded here" in "\n".join(map(str, loaded.warnings))


@pytest.mark.parametrize(
    ("value", "engaged"),
    [("1", True), ("true", True), ("yes", True), ("", False), ("0", False), ("false", False)],
)
def test_the_environment_can_engage_the_latch(tmp_path: Path, value: str, engaged: bool) -> None:
    """GATEWAY_EMERGENCY counts unless it clearly says no."""
    config = load_text(tmp_path, complete(""), {"GATEWAY_EMERGENCY": value}).config
    assert config.emergency is engaged


def test_the_environment_does_not_disengage_what_the_file_says(tmp_path: Path) -> None:
    """`emergency: true` stands whatever the environment says."""
    assert load_text(tmp_path, complete("emergency: true\n"), {"GATEWAY_EMERGENCY": "0"}).config.emergency
