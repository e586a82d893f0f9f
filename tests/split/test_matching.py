"""Which route serves a request."""

from __future__ import annotations

import pytest

from gateway.core.split import Table
from tests.support.snapshots import make_route, make_snapshot

TABLE = Table(
    make_snapshot(
        routes=[
            make_route("generate", "/v1/generate", methods=("POST",), headers=(("x-step-type", "generate"),)),
            make_route("embed", "/v1/embed", methods=("GET", "POST")),
            make_route("v1", "/v1/"),
            make_route("v1-again", "/v1/"),
        ]
    )
)
STEP = {b"x-step-type": b"generate"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        pytest.param("POST", "/v1/generate", STEP, "generate", id="all-conditions-hold"),
        pytest.param("POST", "/v1/generate/stream", STEP, "generate", id="a-prefix-is-enough"),
        pytest.param("GET", "/v1/generate", STEP, "v1", id="another-method-goes-on"),
        pytest.param("POST", "/v1/generate", {}, "v1", id="a-missing-header-goes-on"),
        pytest.param("POST", "/v1/generate", {b"x-step-type": b"Generate"}, "v1", id="values-are-exact"),
        pytest.param("GET", "/v1/embed", {}, "embed", id="one-of-the-methods"),
        pytest.param("PUT", "/v1/embed", {}, "v1", id="none-of-the-methods"),
        pytest.param("GET", "/v1/other", {}, "v1", id="the-first-match-wins"),
        pytest.param("GET", "/v1", {}, None, id="shorter-than-every-prefix"),
        pytest.param("GET", "/", {}, None, id="no-route"),
    ],
)
def test_the_first_route_whose_conditions_hold(
    method: str, path: str, headers: dict[bytes, bytes], expected: str | None
) -> None:
    """Prefix, method and headers must all hold; the order in the file decides among several."""
    found = TABLE.match(method.encode(), path.encode(), headers)
    assert (found.route.name if found else None) == expected


def test_headers_are_asked_for_only_where_a_route_wants_them() -> None:
    """`needs_headers` lets the proxy skip building the mapping."""
    assert TABLE.needs_headers
    assert not Table(make_snapshot(routes=[make_route("plain", methods=("GET",))])).needs_headers
