"""YAML as the gateway reads it: what is typed, what is refused, and where things stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.config.document import MAX_DEPTH, MAX_NODES, DocumentError, Mark, parse
from gateway.model.units import NumberText
from tests.support.configs import marked


def plain(text: str) -> object:
    """The value of a text."""
    return parse(text.encode()).root.plain()


def refusal(text: str) -> DocumentError:
    """Why a text is refused."""
    with pytest.raises(DocumentError) as caught:
        parse(text.encode())
    return caught.value


@pytest.mark.parametrize("text", ["null", "Null", "NULL", "~", ""])
def test_null(text: str) -> None:
    """The core schema's spellings of null, and nothing at all."""
    assert plain(f"a: {text}\n") == {"a": None}


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("false", False), ("FALSE", False)]
)
def test_truth_values(text: str, value: bool) -> None:
    """The core schema's spellings of true and false."""
    assert plain(f"a: {text}\n") == {"a": value}


@pytest.mark.parametrize("text", ["0", "1", "-1", "+1", "10", "0.5", ".5", "5.", "1e3", "1.5E-3", "-0"])
def test_decimal_numbers_keep_their_spelling(text: str) -> None:
    """A number is known as one and can still be read as the text that was written."""
    value = plain(f"a: {text}\n")
    assert value == {"a": text}
    assert isinstance(value["a"], NumberText)  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        *("010", "00", "-01", "0x10", "0o10", "0b1", "1_000", "12:30", "12:30:00", "2026-01-01"),
        *(".inf", "-.inf", ".nan", "nan", "yes", "no", "on", "off", "y", "n", "Yes", "NO"),
        *("1e", "1.2.3", "1e5.5", "--1", "e5", "."),
    ],
)
def test_all_else_is_text(text: str) -> None:
    """What YAML 1.1 would have typed, and the core schema's infinities, are text."""
    value = plain(f"a: {text}\n")
    assert value == {"a": text}
    assert type(value["a"]) is str  # type: ignore[index]


@pytest.mark.parametrize("text", ["'10'", '"true"', '"null"', "'~'"])
def test_quoted_is_text(text: str) -> None:
    """Quotes make text of anything."""
    value = plain(f"a: {text}\n")
    assert value == {"a": text[1:-1]}
    assert type(value["a"]) is str  # type: ignore[index]


@pytest.mark.parametrize("key", ["10", "true", "null", "on", "1.5", "'x'", "~"])
def test_keys_are_text(key: str) -> None:
    """Whatever a key looks like, it is a name."""
    assert plain(f"{key}: 1\n") == {key.strip("'"): "1"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: > 0.95\n", "> 0.95"),
        ("a: >= 0.95\n", ">= 0.95"),
        ("a: >0.95\n", ">0.95"),
        ("a: >=0.95\n", ">=0.95"),
        ("a: >  1  # a remark\n", ">  1"),
        ("a: > 5s\n", "> 5s"),
        ("a: > .5\r\n", "> .5"),
        ("a: > -1\n", "> -1"),
        ("a: < 0.01\n", "< 0.01"),
        ("a: <= 0.01\n", "<= 0.01"),
        ("{a: > 0.95}\n", "> 0.95"),
        ("{a: > 0.95, b: 1}\n", "> 0.95"),
        ("a:\n  > 0.95\n", None),
    ],
)
def test_comparisons_on_one_line_are_text(text: str, value: str | None) -> None:
    """`> 0.95` is a value, in a block as in brackets; alone on a line it is still YAML's error."""
    if value is None:
        assert refusal(text).mark == Mark(2, 5)
    else:
        assert plain(text)["a"] == value  # type: ignore[index]


def test_comparisons_in_lists() -> None:
    """An item of a list may be a comparison."""
    assert plain("- > 1\n- [> 2, >= 3,>4]\n") == ["> 1", ["> 2", ">= 3", ">4"]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: >\n  > 0.95 stays\n  as it is\n", "> 0.95 stays as it is\n"),
        ("a: >-\n  - > 1\n", "- > 1"),
        ("a: >2\n    indented\n", "  indented\n"),
        ("a: |\n  b: > 0.95\n  c: > 1\n", "b: > 0.95\nc: > 1\n"),
        ('a: "b: > 0.95"\n', "b: > 0.95"),
        ("a: 'b, > 0.95'\n", "b, > 0.95"),
        ("a: b - > 0.95\n", "b - > 0.95"),
        ("a: error_rate > 0.02\n", "error_rate > 0.02"),
    ],
)
def test_folded_blocks_and_quotes_are_left_alone(text: str, value: str) -> None:
    """A real folded block is one, and a `>` inside text is that text."""
    assert plain(text) == {"a": value}


def test_positions_behind_a_comparison_are_true() -> None:
    """Reading `>` in its own way moves nothing."""
    text, place = marked("a:\n  b: {c: > 0.95, d: >= 1, §e: > 2}\n")
    mark = parse(text.encode()).root.key_mark(("a", "b", "e"))
    assert (mark.line, mark.column) == place


def test_positions_count_characters() -> None:
    """A column counts what an editor counts, not bytes; a byte order mark is no column."""
    text, place = marked("ä: {öö: 1, §ü: 2}\n")
    mark = parse(b"\xef\xbb\xbf" + text.encode()).root.key_mark(("ä", "ü"))
    assert (mark.line, mark.column) == place


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\n§a: 3\n", "duplicate key 'a'; expected it once: it stands in line 1 already"),
        ("a:\n  b: {c: 1, §c: 2}\n", "duplicate key 'c'"),
        ("1: a\n§1: b\n", "duplicate key '1'"),
    ],
)
def test_duplicate_keys_are_faults(text: str, words: str) -> None:
    """A key twice is a fault, at its second place; all of them are found."""
    clean, place = marked(text)
    (fault,) = parse(clean.encode()).faults
    assert (fault.mark.line, fault.mark.column) == place
    assert words in str(fault)


def test_every_duplicate_is_found() -> None:
    """One reading names every key that stands twice."""
    assert len(parse(b"a: 1\na: 2\na: 3\nb: {c: 1, c: 1}\n").faults) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("§", "the file is empty"),
        ("§\n# nothing\n", "the file is empty"),
        ("§---\n", "the file is empty"),
        ("§null\n", "the file is empty"),
        ("a: 1\n§---\nb: 2\n", "a second document begins"),
        (
            "a: §!!python/object:os.system x\n",
            "the tag tag:yaml.org,2002:python/object:os.system is not known",
        ),
        ("a: §!!str 5\n", "expected a value without a tag"),
        ("a: §!thing {}\n", "the tag !thing is not known"),
        ("a: &x {b: 1}\nc:\n  §<<: *x\n", "<< is not known: merging is YAML 1.1"),
        ("a: §*nowhere\n", "*nowhere has no anchor before it"),
        ("a: &x [§*x]\n", "*x has no anchor before it"),
        ("§[1, 2]: a\n", "a key that is not plain text"),
        ("? §{a: 1}\n: b\n", "a key that is not plain text"),
        ("a: b§: c\n", "a second ': ' on one line, or wrong indentation"),
        ("a: [1, 2\nb§: 3\n", "a [ that is not closed"),
        ("a: {b: 1\nc§: 3\n", "a { that is not closed"),
        ("a: [1,\n§", "a [ or { that is not closed; expected the ] or } before the end"),
        ("%YAML 1.2\n---\na: {b: [1, 2],\n§...\n", "a [ or { that is not closed"),
        ("a: [1,§,2]\n", "a mark where a value should stand"),
        ('a: "b\n§', "a quote that is not closed (begun in line 1)"),
        ("a:\n§\tb: 1\n", "a tab in the indentation"),
        ("a:\n  b: 1\n §c: 2\n", "wrong indentation"),
        ("a: §@b\n", "a character that cannot begin a value; expected the value in quotes, if it is text"),
        ("a: §`b`\n", "a character that cannot begin a value"),
        ("a: §%b\n", "a character that cannot begin a value"),
        ("a: b§\x00c\n", "the character U+0000 may not stand here"),
        ("a: 1\nb: §\x1b[31m\n", "the character U+001B may not stand here"),
        ("a: 1\n§b\n", "a key without a colon"),
        ("a: [§- b]\n", "a mark where a value should stand; expected the value in quotes"),
        ("a: §- b\n", "a '- item' behind a key; expected it on a line of its own"),
        ("a: [*§]\n", "a * or & without the name of an anchor"),
        ('a: "§\\q"\n', "an unknown escape with \\; expected text in single quotes"),
        ("a: 'it'§s'\n", "wrong indentation, or text behind a finished value"),
        ("a: >§x\n", "text behind the | or > that begins a block"),
        ("%YAML 1.2\n§a: 1\n", "the line --- is missing"),
        ("§%YAML 3.0\n---\na: 1\n", "another version of YAML; expected %YAML 1.2"),
        ("%FOO§\n---\na: 1\n", "an unknown directive"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    """Each refusal has its place and plain words."""
    clean, place = marked(text)
    error = refusal(clean)
    assert words in str(error)
    assert (error.mark.line, error.mark.column) == place


def test_what_is_not_utf8_is_refused_at_its_byte() -> None:
    """The first byte that is no UTF-8 has a place."""
    with pytest.raises(DocumentError, match="the byte 0xe4 is not UTF-8") as caught:
        parse(b"a: 1\nb: K\xe4se\n")
    assert caught.value.mark == Mark(2, 5)


def test_utf16_is_refused() -> None:
    """A file in another encoding is named as such, not guessed at."""
    with pytest.raises(DocumentError, match="is not UTF-8"):
        parse("a: 1\n".encode("utf-16"))


def test_aliases_stand_for_their_value() -> None:
    """An anchor may be used again."""
    assert plain("a: &x {b: 1}\nc: *x\nd: [*x]\n") == {"a": {"b": "1"}, "c": {"b": "1"}, "d": [{"b": "1"}]}


def test_an_alias_bomb_ends_early() -> None:
    """Values behind aliases count as often as they are used."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "too many values, those behind aliases counted" in str(refusal("\n".join(rows) + "\n"))


def test_depth_and_number_are_bounded() -> None:
    """Neither nesting nor length can use up the machine."""
    assert "nested too deep" in str(refusal("[" * 5000))
    assert "nested too deep" in str(refusal("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2)))
    assert "too many values" in str(refusal("[" + "a," * MAX_NODES + "a]\n"))
    assert plain("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def is_read_or_refused(text: str) -> bool:
    """True if a text is a document, or is refused with a place; any other exception is a defect."""
    try:
        parse(text.encode(errors="surrogatepass"))
    except DocumentError as error:
        return error.mark.line >= 1 and error.mark.column >= 1
    return True


@given(st.text(max_size=60))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    """Whatever a file holds, it is a document or a DocumentError."""
    assert is_read_or_refused(text)


@given(st.text(alphabet=":-,[]{}>< =0.5a#'\"|\n&*?!%", max_size=40))
def test_no_text_of_marks_makes_it_fail_otherwise(text: str) -> None:
    """The same for text that is made of YAML's own marks."""
    assert is_read_or_refused(text)
