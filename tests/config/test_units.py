"""Durations, numbers, comparisons and addresses: what was written is what is meant, exactly."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.config import Config
from gateway.model.units import (
    Comparison,
    NumberText,
    Operator,
    TcpAddress,
    UnixAddress,
    format_duration,
    is_number,
    parse_address,
    parse_duration,
    parse_number,
    split_comparison,
)

ROUTES = [{"name": "r", "control": "a", "treatment": "a"}]
UPSTREAMS = {"a": {"endpoints": ["http://127.0.0.1:1"]}}


def config(**keys: object) -> Config:
    """A config from values as the loader hands them over."""
    return Config.model_validate({"upstreams": UPSTREAMS, "routes": ROUTES, **keys})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("1m30s", 90),
        ("24h", 86_400),
        ("72h", 259_200),
        ("30d", 2_592_000),
        ("1d2h3m4s5ms", 93_784.005),
        ("1.5s", 1.5),
        ("0.1s", 0.1),
        ("0s", 0),
        ("0", 0),
        ("5000ms", 5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """The spellings of the manual, in seconds."""
    assert parse_duration(text) == seconds


@given(st.integers(0, 86_400_000 * 4000))
def test_a_duration_is_read_as_it_is_printed(milliseconds: int) -> None:
    """Printing and reading are each other's inverse."""
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from(["d", "h", "m", "s", "ms"])), max_size=4))
def test_units_stand_in_their_order_and_once(parts: list[tuple[int, str]]) -> None:
    """`30s1m` and `1m1m` are slips; anything that is in order is the sum of its parts."""
    sizes = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
    units = [unit for _, unit in parts]
    text = "".join(f"{number}{unit}" for number, unit in parts)
    in_order = bool(parts) and units == sorted(set(units), key=list(sizes).index)
    if in_order:
        assert parse_duration(text) == sum(number * sizes[unit] for number, unit in parts) / 1000
    else:
        with pytest.raises(ValueError):
            parse_duration(text)


@given(st.text(max_size=20))
def test_what_is_no_duration_is_a_value_error(text: str) -> None:
    """Nothing else comes out of any text, and never a negative or infinite time."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds < float("inf")


@given(st.integers(0, 100 * 10**9))
def test_percentages_are_exact(billionths: int) -> None:
    """A percentage is the fraction that was written: no rounding on the way."""
    text = f"{billionths // 10**9}.{billionths % 10**9:09d}"
    loaded = config(deployment={"phases": {"canary": {"user_percentage": NumberText(text)}}})
    assert loaded.deployment.phases["canary"].user_percentage == Fraction(billionths, 10**9)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5).filter(any))
def test_weights_are_exact(weights: list[int]) -> None:
    """A weight of 33.3333 is that and not its nearest float."""
    groups = {f"g{index}": {"weight": NumberText(f"{weight}e-4")} for index, weight in enumerate(weights)}
    loaded = config(deployment={"experiments": {"x": {"groups": groups}}})
    read = [group.weight for group in loaded.deployment.experiments["x"].groups.values()]
    assert read == [Fraction(weight, 10_000) for weight in weights]


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_numbers_of_a_program_are_taken_or_refused(value: float) -> None:
    """A config that a program builds from floats is checked like one from a file."""
    try:
        loaded = config(access_log={"sample": value})
    except ValueError:
        return
    assert 0 <= loaded.access_log.sample <= 1


@given(st.text(alphabet="0123456789.eE+-_xn ", max_size=40))
def test_a_number_is_decimal_and_bounded(text: str) -> None:
    """What passes as a number has a value that can be computed at once."""
    if is_number(text):
        try:
            value = parse_number(text)
        except ValueError:
            return
        assert abs(value) < 10**51
        assert abs(value - Fraction(float(text))) <= abs(value) / 10**15
    else:
        with pytest.raises(ValueError):
            parse_number(text)


@pytest.mark.parametrize(
    ("text", "operator", "limit"),
    [
        ("< 0.01", Operator.LESS, "0.01"),
        ("<0.01", Operator.LESS, "0.01"),
        ("<= 5s", Operator.AT_MOST, "5s"),
        (" >  0.95 ", Operator.GREATER, "0.95"),
        (">=1", Operator.AT_LEAST, "1"),
    ],
)
def test_comparisons(text: str, operator: Operator, limit: str) -> None:
    """An operator and a limit, with blanks or without."""
    assert split_comparison(text) == (operator, limit)


@pytest.mark.parametrize("text", ["", "0.01", "= 1", "=> 1", "< ", "<> 1", "< 1 2", "!= 1", "1 <"])
def test_what_is_no_comparison(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError):
        split_comparison(text)


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_a_comparison_holds_where_its_operator_does(value: float, limit: float) -> None:
    """The four operators are Python's."""
    assert Comparison(Operator.LESS, limit).holds(value) == (value < limit)
    assert Comparison(Operator.AT_MOST, limit).holds(value) == (value <= limit)
    assert Comparison(Operator.GREATER, limit).holds(value) == (value > limit)
    assert Comparison(Operator.AT_LEAST, limit).holds(value) == (value >= limit)


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080), True),
        ("127.8.8.8:0", TcpAddress("127.8.8.8", 0), True),
        ("localhost:80", TcpAddress("localhost", 80), True),
        ("[::1]:80", TcpAddress("::1", 80), True),
        ("0.0.0.0:80", TcpAddress("0.0.0.0", 80), False),
        ("[::]:80", TcpAddress("::", 80), False),
        ("10.1.2.3:65535", TcpAddress("10.1.2.3", 65535), False),
        ("gateway.example.com:80", TcpAddress("gateway.example.com", 80), False),
        ("[::ffff:10.0.0.1]:80", TcpAddress("::ffff:a00:1", 80), False),
        ("unix:run/x.sock", UnixAddress("/etc/run/x.sock"), True),
        ("unix:/x.sock", UnixAddress("/x.sock"), True),
    ],
)
def test_addresses(text: str, address: TcpAddress | UnixAddress, local: bool) -> None:
    """Hosts, brackets and sockets; what other machines can reach is known."""
    read = parse_address(text, Path("/etc"))
    assert read == address
    assert read.is_local is local


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    """No other exception comes out, and what is read prints as something that reads the same."""
    try:
        address = parse_address(text, Path("/"))
    except ValueError:
        return
    assert parse_address(str(address), Path("/")) == address
