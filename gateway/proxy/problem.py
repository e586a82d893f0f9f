"""The gateway's own error answers: problem+json (RFC 9457) as ready bytes."""

from __future__ import annotations

import json
from email.utils import formatdate

from gateway.wire.faults import Fault

RETRY_AFTER_SECONDS = 1


def problem(fault: Fault, detail: str, request_id: bytes, *, close: bool, fields: bytes, body: bool) -> bytes:
    """A whole answer. `fields` are further header lines, each with its CRLF; `body` is False for HEAD."""
    document = {
        "type": "about:blank",
        "title": fault.title,
        "status": fault.status,
        "detail": detail,
        "request_id": request_id.decode("latin-1"),
    }
    content = json.dumps(document).encode() + b"\n"
    head = [
        b"HTTP/1.1 %d %b" % (fault.status, fault.title.encode()),
        b"Date: " + formatdate(usegmt=True).encode(),
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(content),
    ]
    if fault is Fault.UNAVAILABLE:
        head.append(b"Retry-After: %d" % RETRY_AFTER_SECONDS)
    if fault is Fault.METHOD_NOT_ALLOWED:
        head.append(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if close:
        head.append(b"Connection: close")
    return b"\r\n".join(head) + b"\r\n" + fields + b"\r\n" + (content if body else b"")
