"""Valid YAML with an invalid meaning: each case is refused, at its place, in words that help.

The cases are in `wrong_values.txt`: a snippet of a config, completed by upstreams and routes where it
has none, and behind `=>` the path of the problem and words of its message. `§` stands before the
character that the problem must point at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.configs import complete, marked, problems_of

_TABLE = Path(__file__).with_name("wrong_values.txt")


def cases() -> Iterator[tuple[str, str, str]]:
    """Snippet, path and words of every case."""
    for block in _TABLE.read_text().split("\n\n"):
        if not block.startswith("###"):
            snippet, _, expectation = block.strip().rpartition("\n=> ")
            path, _, words = expectation.partition(" | ")
            yield snippet, path.strip(), words


CASES = list(cases())


@pytest.mark.parametrize(("snippet", "path", "words"), CASES)
def test_it_is_refused_at_its_place(tmp_path: Path, snippet: str, path: str, words: str) -> None:
    """The problem names the file, line, column and key, what is wrong and what was expected."""
    text, place = marked(complete(snippet))
    found = [problem for problem in problems_of(tmp_path, text) if problem.path == path]
    assert found, problems_of(tmp_path, text)
    assert (found[0].line, found[0].column) == place, found[0]
    assert words in str(found[0])
    assert str(found[0]).startswith(f"{tmp_path / 'gateway.yaml'}:{place[0]}:{place[1]}: ")


def test_the_table_is_long_enough() -> None:
    """At least two hundred different ways to be wrong."""
    assert len({snippet for snippet, _, _ in CASES}) == len(CASES) >= 200


def test_every_problem_is_said_at_once(tmp_path: Path) -> None:
    """Faults of all kinds in one file are a line each, in the order of the file."""
    text = """\
listen: {workers: -1, wrong: 1}
listen: {}
drain_timeout: 5
upstreams: {traditional: {endpoints: [https://a]}, dspy: {}}
routes: [{name: default, control: traditional, treatment: 5 5}, {name: default}]
emergency: yes
"""
    problems = problems_of(tmp_path, text)
    assert [problem.line for problem in problems] == [1, 1, 2, 3, 4, 4, 5, 5, 5, 6]


def test_faults_of_one_section_do_not_hide_those_of_another(tmp_path: Path) -> None:
    """A wrong value keeps no check from running that does not read it, and makes none say it again."""
    text = complete("""\
limits: {connections: many}
admin: {address: 0.0.0.0:9900, tokens: {alice: nowhere}}
state: {store: mysql}
deployment:
  phases: {canary: {user_percentage: 200}}
  gates: {canary -> staging: []}
  monitoring: {interval: 10s, window: 5s}
notifications: {contacts: {engineering: oncall}}
""")
    assert [problem.path for problem in problems_of(tmp_path, text)] == [
        "limits.connections",
        "admin.tokens.alice",
        "state.store",
        "deployment.phases.canary.user_percentage",
        "deployment.gates.canary -> staging",
        "deployment.monitoring.window",
        "notifications.contacts.engineering",
    ]


def test_a_channel_whose_secret_is_missing_is_not_an_unknown_one_too(tmp_path: Path) -> None:
    """Who names it is right: one fault is one line."""
    text = complete("""\
notifications:
  channels: {oncall: {type: slack, url: "${NOT_SET_ANYWHERE}"}, other: {type: slack, url: "http://h/"}}
  contacts: {engineering: oncall}
""")
    (problem,) = problems_of(tmp_path, text)
    assert problem.path == "notifications.channels.oncall.url"
