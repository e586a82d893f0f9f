"""`gateway check` and `gateway schema`: what is printed where, and the exit code."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.cli import main
from gateway.commands.schema import document as schema_document
from gateway.control.config.document import Node, parse
from gateway.exits import Exit
from gateway.model.units import NumberText
from tests.config.test_files import WHOLE
from tests.config.test_wrong_values import CASES
from tests.support.configs import complete, marked


def write(folder: Path, text: str) -> str:
    """The path of a config with this text."""
    path = folder / "gateway.yaml"
    path.write_text(text)
    return str(path)


def test_check_says_what_a_config_amounts_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Phases with percentage and real share, arms, upstreams, what is needed, warnings; exit 0."""
    text = """\
routes:
  - name: generate
    match: {path_prefix: /v1, methods: [POST]}
    control: traditional
    treatment: dspy
    experiment: x
  - {name: default, control: traditional, treatment: dspy}
deployment:
  initial_phase: canary
  phases: {canary: {user_percentage: 2, success_criteria: {user_satisfaction: > 0.9}}}
  experiments: {x: {groups: {control: {weight: 75}, treatment: {weight: 25}}}}
"""
    assert main(["check", write(tmp_path, complete(text))]) == Exit.DONE
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith(f"{tmp_path}/gateway.yaml: valid (digest ")
    (canary,) = [line.split() for line in lines if line.startswith("→")]
    assert canary == ["→", "canary", "2", "%", "0.5", "%", "2", "%"]
    assert "  generate  POST /v1  traditional | dspy, experiment x" in lines
    assert "  dspy         http://127.0.0.1:9002" in lines
    assert "ratings (POST /api/v1/outcomes): canary waits for user_satisfaction" in out
    assert "staging enrols 100 % of the users" in out


def test_check_names_every_phase_that_waits_for_ratings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last phase is none: nothing comes after it."""
    phases = ", ".join(
        f"{name}: {{success_criteria: {{user_satisfaction: > 0.9}}}}"
        for name in ("canary", "limited_production", "full_production")
    )
    assert main(["check", write(tmp_path, complete(f"deployment: {{phases: {{{phases}}}}}\n"))]) == Exit.DONE
    needed = "ratings (POST /api/v1/outcomes): canary, limited_production wait for user_satisfaction\n"
    assert needed in capsys.readouterr().out


def test_check_prints_a_line_for_each_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Problems go to stderr as FILE:LINE:COL: path: what; expected, in the file's order; exit 2."""
    path = write(tmp_path, complete("drain_timeout: 5\nlimits: {headrs: 5}\n"))
    assert main(["check", path]) == Exit.INVALID
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{path}:1:16: drain_timeout: 5 has no unit; "
        "expected a duration such as 500ms, 10s, 1m30s, 24h or 30d",
        f"{path}:2:10: limits.headrs: unknown key (did you mean headers?); expected one of connections, "
        "header_bytes, headers, body_bytes, header_timeout, keepalive_timeout, half_close",
    ]


def test_check_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-o json gives the same as values, also what is wrong."""
    assert main(["check", "-o", "json", write(tmp_path, complete(""))]) == Exit.DONE
    valid = json.loads(capsys.readouterr().out)
    assert valid["valid"] is True
    canary = valid["phases"][2]
    assert (canary["name"], canary["user_percentage"]) == ("canary", 1.0)
    assert canary["treatment"] == {"default": 1.0}
    assert canary["limits"]["error_rate"]["value"] == 0.02
    assert valid["upstreams"] == {
        "traditional": ["http://127.0.0.1:9001"],
        "dspy": ["http://127.0.0.1:9002"],
    }
    path = write(tmp_path, complete("emergency: on\n"))
    assert main(["check", "-o", "json", path]) == Exit.INVALID
    invalid = json.loads(capsys.readouterr().out)
    assert invalid == {
        "valid": False,
        "problems": [
            {
                "file": path,
                "line": 1,
                "column": 12,
                "path": "emergency",
                "message": "'on' is text",
                "expected": "expected true or false",
            }
        ],
    }


def test_check_says_how_soon_a_broken_treatment_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, for a share and a traffic that are said with it; ten times the traffic is faster by that."""
    path = write(tmp_path, complete("deployment: {rollback: {unit: request}}\n"))
    assert main(["check", path, "--traffic", "100"]) == Exit.DONE
    out = capsys.readouterr().out
    assert "how soon a broken treatment is rolled back, with 100 requests a second" in out
    assert "canary              1 %    if everything failed: after about 6 requests to treatment, 6s" in out
    found = []
    for traffic in ("10", "100"):
        assert main(["check", "-o", "json", path, "--traffic", traffic]) == Exit.DONE
        found.append(json.loads(capsys.readouterr().out)["phases"][2]["detection"][0])
    slow, fast = found
    assert slow["failure_rate"] == fast["failure_rate"] == 1.0
    assert slow["requests"] == fast["requests"]
    assert slow["seconds"] == pytest.approx(10 * fast["seconds"], rel=1e-3)


@pytest.mark.parametrize(
    ("rollback", "phase", "line"),
    [
        ("{}", "canary: {user_percentage: 0}", "0 %    never: nobody is on treatment\n"),
        (
            "{decision: threshold}",
            "canary: {user_percentage: 10}",
            "if everything failed: after about 61 requests to treatment, 7s",
        ),
        (
            "{decision: threshold}",
            "canary: {user_percentage: 0.1}",
            "if everything failed: never, for treatment gets too little traffic",
        ),
    ],
)
def test_check_says_why_nothing_is_found_and_how_late_a_plain_threshold_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rollback: str, phase: str, line: str
) -> None:
    """What holds for this way to decide, and no forecast for a treatment that nobody is on."""
    text = f"deployment: {{rollback: {rollback}, phases: {{{phase}}}}}\n"
    assert main(["check", write(tmp_path, complete(text)), "--traffic", "100"]) == Exit.DONE
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("traffic", ["0", "-1", "nan", "inf", "many"])
def test_check_with_a_traffic_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], traffic: str
) -> None:
    """A usage error that says what is expected, before the file is looked at."""
    with pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path / "nowhere"), "--traffic", traffic])
    assert ended.value.code == Exit.INVALID
    assert f"'{traffic}' is no number above 0 and below 1,000,000" in capsys.readouterr().err


def test_check_of_the_strategy_s_own_file_says_how_it_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing that somebody who has it will try: it is no config by itself, but part of one."""
    assert main(["check", str(Path(__file__).parent / "production_deployment.yaml")]) == Exit.INVALID
    assert (
        "upstreams: the key is missing: a file of the deployment alone is another config's deployment_file;"
        in capsys.readouterr().err
    )


def test_check_of_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is an invalid config."""
    assert main(["check", str(tmp_path / "nowhere")]) == Exit.INVALID
    assert "nowhere: cannot be read: No such file or directory" in capsys.readouterr().err


# --- the schema, as an editor uses it


def as_json(node: Node) -> Any:
    """A document as an editor's YAML parser hands it to the schema."""
    match node.content:
        case dict() as mapping:
            return {key: as_json(value) for key, value in mapping.items()}
        case list() as items:
            return [as_json(item) for item in items]
        case NumberText() as number:
            return float(number) if not number.lstrip("-").isdigit() else int(number)
        case scalar:
            return scalar


@functools.cache
def schema() -> dict[str, Any]:
    """The schema, made once for all that read it."""
    return schema_document()


def complaints_of(value: Any) -> list[str]:
    """What the schema has against a value."""
    return [error.message for error in Draft202012Validator(schema()).iter_errors(value)]


def test_the_schema_is_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """What the command prints is valid JSON Schema, draft 2020-12."""
    assert main(["schema"]) == Exit.DONE
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema()
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(printed)


def test_every_key_of_the_schema_is_described() -> None:
    """An editor shows it beside the key, where the key names another mapping too."""
    described = undescribed = 0
    waiting: list[Any] = [schema()]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            keys = node["properties"].values() if isinstance(node.get("properties"), dict) else ()
            undescribed += sum("description" not in key and "const" not in key for key in keys)
            described += len(keys)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    assert (described > 150, undescribed) == (True, 0)


def test_wrong_values_hide_no_wrong_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run names what is wrong by itself and what is wrong only beside something else."""
    text = """\
version: 1
listen: {workers: -1}
upstreams:
  traditional: {endpoints: ["http://127.0.0.1:9001"], timeouts: {connect: banana}}
  dspy: {endpoints: ["http://127.0.0.1:9002"]}
routes:
  - {name: a, control: nowhere, treatment: dspy, experiment: nothing, match: {methods: 5}}
  - {name: a, control: traditional, treatment: dspy}
deployment:
  initial_phase: moon
  phases: {canary: {user_percentage: 101}}
"""
    assert main(["check", write(tmp_path, text)]) == Exit.INVALID
    lines = capsys.readouterr().err.splitlines()
    paths = [line.split(": ", 2)[1] for line in lines]
    assert paths == [
        "listen.workers",
        "upstreams.traditional.timeouts.connect",
        "routes[0].control",
        "routes[0].experiment",
        "routes[0].match.methods",
        "routes[1].name",
        "deployment.initial_phase",
        "deployment.phases.canary.user_percentage",
    ]


def test_the_schema_describes_every_key() -> None:
    """An editor can show what each key means."""
    definitions = schema()["$defs"]

    def described(value: dict[str, Any]) -> bool:
        referred = definitions.get(value.get("$ref", "").rpartition("/")[2], {})
        return "description" in value or "description" in referred

    bare = [
        f"{section}.{key}"
        for section, definition in {"Config": schema(), **definitions}.items()
        for key, value in definition.get("properties", {}).items()
        if not described(value) and key != "type"
    ]
    assert bare == []


@pytest.mark.parametrize("path", WHOLE, ids=str)
def test_the_schema_takes_every_example(path: Path) -> None:
    """What loads is not marked as wrong in an editor."""
    assert complaints_of(as_json(parse(path.read_bytes()).root)) == []


def test_the_schema_takes_the_strategys_file() -> None:
    """Also the deployment that the strategy wrote."""
    root = parse(Path("tests/config/production_deployment.yaml").read_bytes()).root
    whole = as_json(parse(complete("").encode()).root) | as_json(root)
    assert complaints_of(whole) == []


def test_the_schema_finds_most_of_what_is_wrong() -> None:
    """Wrong keys, kinds and ranges are marked while they are typed; what needs two places is for `check`."""
    missed = []
    for snippet, path, words in CASES:
        text, _ = marked(complete(snippet))
        if not complaints_of(as_json(parse(text.encode()).root)):
            missed.append(f"{path}: {words}")
    assert len(missed) < len(CASES) / 3, missed
