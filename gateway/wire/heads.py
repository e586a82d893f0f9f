"""Heads as they leave the gateway: values in, bytes out (RFC 9110 section 7.6, RFC 9112 section 2.1).

Nothing is forwarded as received. Start line and framing are written anew, end-to-end fields are the lines
that the parser found valid, and the gateway adds its own.
"""

from __future__ import annotations

from gateway.wire.request import CHUNKED, Request
from gateway.wire.response import Response


def request_head(
    request: Request, host: bytes, client: bytes, request_id: bytes, own: bytes, asks_to_continue: bool
) -> bytes:
    """The head for an upstream.

    `host` is what Host says, `client` the client's address (b"" where it has none), `own` the gateway's
    header lines, each with its CRLF. `asks_to_continue` passes `Expect: 100-continue` on.
    """
    parts = [b"%b %b HTTP/1.1" % (request.method, request.target), b"Host: " + host, *request.lines]
    if request.length == CHUNKED:
        parts.append(b"Transfer-Encoding: chunked")
    elif request.has_length:
        parts.append(b"Content-Length: %d" % request.length)
    if asks_to_continue:
        parts.append(b"Expect: 100-continue")
    if request.websocket:
        parts.append(b"Connection: Upgrade\r\nUpgrade: websocket")
    if request.forwarded_for:
        # A client on a unix socket has no address of its own to add.
        client = request.forwarded_for + b", " + client if client else request.forwarded_for
    if client:
        parts.append(b"X-Forwarded-For: " + client)
    parts.append(
        b"X-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Request-Id: %b\r\n%b\r\n"
        % (request.forwarded_proto or b"http", request.forwarded_host or host, request_id, own)
    )
    return b"\r\n".join(parts)


def response_head(response: Response, framing: bytes, date: bytes, close: bool, own: bytes) -> bytes:
    """The head for a client.

    `framing` is the body's header line, b"" for none; `date` the line for answers without a Date; `own`
    the gateway's header lines, each with its CRLF.
    """
    parts = [b"HTTP/1.1 %d %b" % (response.status, response.reason), *response.lines]
    if framing:
        parts.append(framing)
    if not response.has_date:
        parts.append(date)
    if close:
        parts.append(b"Connection: close")
    parts.append(own)
    return b"\r\n".join(parts) + b"\r\n"


def interim_head(response: Response) -> bytes:
    """A 1xx for a client (RFC 9110 section 15.2)."""
    return b"\r\n".join([b"HTTP/1.1 %d %b" % (response.status, response.reason), *response.lines, b"", b""])


def switching_head(response: Response, own: bytes) -> bytes:
    """The 101 that opens a WebSocket; `own` are the gateway's header lines, each with its CRLF."""
    start = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"
    return b"\r\n".join([start, *response.lines, own]) + b"\r\n"
