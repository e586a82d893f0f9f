"""Cases 23-29: Host and identity (RFC 9112 section 3.2, RFC 9110 section 7)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.http.cases import Case, Forwarded, Way, check, every_way, get, message
from tests.http.conftest import Place
from tests.support.dataplane import Rig
from tests.support.snapshots import DSPY, make_route

pytestmark = pytest.mark.socket


def host(*values: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A GET with these Host fields."""
    return message(b"GET /case " + version, *(b"Host: " + value for value in values))


CASES = [
    Case(23, "no Host", host()),
    Case(24, "two Hosts", host(b"a.example", b"b.example")),
    Case(24, "the same Host twice", host(b"a.example", b"a.example")),
    Case(24, "a second Host in capitals", message(b"GET /case HTTP/1.1", b"Host: a", b"HOST: b")),
    Case(24, "an empty second Host", host(b"a.example", b"")),
    Case(24, "an empty first Host", host(b"", b"a.example")),
    *(
        Case(25, f"Host {value!r}", host(value))
        for value in (
            b"",
            b"a,b",
            b"user@a",
            b"a/path",
            b"a b",
            b"a:99999",
            b"a:65536",
            b"a:b",
            b"a:80:80",
            b"a:-1",
            b":80",
            b"a\0b",
            b"a\\b",
            b"a?b",
            b"a#b",
            b"[::1",
            b"::1",
            b"[::1]a",
            b"http://a",
            b"\xc3\xa9.example",
        )
    ),
    Case(
        25,
        "a valid Host with a port",
        host(b"a.example:8080"),
        Forwarded(has=((b"host", b"a.example:8080"),)),
    ),
    Case(25, "a valid IPv6 Host", host(b"[::1]:80"), Forwarded(has=((b"host", b"[::1]:80"),))),
    Case(25, "blanks around a Host", host(b" \ta.example\t "), Forwarded(has=((b"host", b"a.example"),))),
    Case(26, "unknown Host", host(b"unknown.example"), Forwarded(has=((b"host", b"unknown.example"),))),
    Case(
        28,
        "the gateway's own fields",
        get(
            b"X-Gateway-Phase: evil",
            b"x-gateway-group: vip",
            b"X-GATEWAY-EXPERIMENT: evil",
            b"X-Gateway-Feature-Flags: all",
            b"X-Gateway-Override-Token: guess",
            b"X-Gateway-Override: treatment",
            b"X-Gateway-Anything: evil",
            b"X-Gateway-Metric: accuracy=1",
            b"X_Gateway_Arm: evil",
        ),
        Forwarded(
            has=((b"x-gateway-phase", b"canary"), (b"x-gateway-feature-flags", b"core_features")),
            lacks=(
                b"x-gateway-group",
                b"x-gateway-experiment",
                b"x-gateway-override",
                b"x-gateway-override-token",
                b"x-gateway-anything",
                b"x-gateway-metric",
                b"x_gateway_arm",
            ),
        ),
    ),
    Case(
        29,
        "underscores in place of hyphens",
        get(
            b"X_Forwarded_For: 1.2.3.4",
            b"X-Forwarded_For: 1.2.3.4",
            b"Transfer_Encoding: chunked",
            b"Content_Length: 5",
        ),
        Forwarded(
            lacks=(
                b"x_forwarded_for",
                b"x-forwarded_for",
                b"transfer_encoding",
                b"content_length",
                b"transfer-encoding",
                b"content-length",
            )
        ),
    ),
    Case(29, "underscores in other names", get(b"My_Field: 1"), Forwarded(has=((b"my_field", b"1"),))),
]


@every_way(CASES)
def test_host(rigs: dict[Place, Rig], case: Case, place: Place, way: Way) -> None:
    """Every case of Host and identity comes out as the RFCs want it, however it arrives."""
    check(rigs[place], case, way)


def test_a_client_of_http_1_0_needs_no_host(rig: Rig) -> None:
    """Case 23: an old client without Host is served, and the upstream still gets one valid Host."""
    with rig.connect() as client:
        client.send(host(version=b"HTTP/1.0"))
        assert client.response().status == 200
    assert rig.upstream.heads[-1].values(b"host") == [f"127.0.0.1:{rig.upstream.port}".encode()]


@pytest.mark.parametrize("place", list(Place))
def test_the_arm_header_says_who_serves(rigs: dict[Place, Rig], place: Place) -> None:
    """Case 28: a forged arm is replaced by the true one, towards the upstream and the client."""
    rig = rigs[place]
    with rig.connect() as client:
        client.send(get(b"X-Gateway-Arm: forged", b"x-gateway-arm: forged"))
        response = client.response()
    assert rig.upstream.heads[-1].values(b"x-gateway-arm") == [rig.arm.encode()]
    assert response.value(b"x-gateway-arm") == rig.arm.encode()


def test_forwarding_fields_are_appended_or_set(rig: Rig) -> None:
    """Case 27: the client's address is added to X-Forwarded-For; each of the others has one value."""
    with rig.connect() as client:
        client.send(
            get(
                b"X-Forwarded-For: 1.2.3.4",
                b"X-Forwarded-For: 5.6.7.8, 9.9.9.9",
                b"X-Forwarded-Proto: https",
                b"X-Forwarded-Host: outside.example",
            )
        )
        client.response()
        added = rig.upstream.heads[-1]
        client.send(get())
        client.response()
        fresh = rig.upstream.heads[-1]
    chain = b", ".join(added.values(b"x-forwarded-for"))
    assert chain == b"1.2.3.4, 5.6.7.8, 9.9.9.9, 127.0.0.1"
    assert added.values(b"x-forwarded-proto") in ([b"https"], [b"http"])
    assert added.values(b"x-forwarded-host") in ([b"outside.example"], [b"case.example"])
    assert fresh.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert fresh.values(b"x-forwarded-proto") == [b"http"]
    assert fresh.values(b"x-forwarded-host") == [b"case.example"]


def test_without_a_host_the_forwarded_one_is_the_upstreams_own(rig: Rig) -> None:
    """HTTP/1.0 needs no Host; what the upstream gets in its place is never empty."""
    with rig.connect() as client:
        client.send(b"GET /case HTTP/1.0\r\n\r\n")
        client.response()
    head = rig.upstream.heads[-1]
    assert head.values(b"x-forwarded-host") == head.values(b"host") != [b""]


def test_an_unknown_host_is_not_reflected(rig: Rig) -> None:
    """Case 26: nothing in the answer repeats a Host that the client made up."""
    with rig.connect() as client:
        client.send(host(b"made-up.example"))
        response = client.response()
    assert not any(b"made-up" in value for _, value in response.head.fields)


@pytest.mark.parametrize("kept", [b"abc-123", b"01HXYZ"])
def test_a_request_id_is_kept(rig: Rig, kept: bytes) -> None:
    """A usable X-Request-Id goes to the upstream and back to the client unchanged."""
    with rig.connect() as client:
        client.send(get(b"X-Request-Id: " + kept))
        assert client.response().value(b"x-request-id") == kept
    assert rig.upstream.heads[-1].values(b"x-request-id") == [kept]


@pytest.mark.parametrize("fields", [(), (b"X-Request-Id:",), (b"X-Request-Id: a", b"X-Request-Id: b")])
def test_a_request_id_is_made(rig: Rig, fields: tuple[bytes, ...]) -> None:
    """Without one usable X-Request-Id the gateway makes one, and both sides see the same."""
    with rig.connect() as client:
        client.send(get(*fields))
        made = client.response().value(b"x-request-id")
    assert made
    assert rig.upstream.heads[-1].values(b"x-request-id") == [made]


@pytest.mark.parametrize(
    ("name", "value"),
    [("host", "api.example"), ("x-forwarded-proto", "https"), ("x-request-id", "7"), ("content-length", "5")],
)
def test_a_route_may_go_by_a_field_that_is_rewritten(name: str, value: str) -> None:
    """Case 29: what the gateway reads for itself can be matched as any other field, and is read still."""
    elsewhere = replace(make_route("elsewhere", headers=((name, value),)), control=DSPY)
    sent = {b"host": b"a", b"content-length": b"2", name.encode(): value.encode()}
    with Rig(routes=(elsewhere, make_route())) as rig, rig.connect() as client:
        for fields, upstream in ((sent, rig.treatment), ({b"host": b"a"}, rig.control)):
            lines = [field + b": " + text for field, text in fields.items()]
            body = b"x" * int(fields.get(b"content-length", b"0"))
            client.send(message(b"POST /case HTTP/1.1", *lines, body=body))
            assert client.response(b"POST").status == 200
            assert len(upstream.heads) == 1
