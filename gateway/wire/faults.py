"""What can be wrong with a request or an answer, and the status that reports it.

The status says whose fault it is: 4xx the client's, 5xx the gateway's or an upstream's.
"""

from __future__ import annotations

import enum


class Fault(enum.Enum):
    """Every error that the gateway itself answers with: (status, title) as RFC 9110 names them."""

    BAD_REQUEST = (400, "Bad Request")
    NO_ROUTE = (404, "Not Found")
    METHOD_NOT_ALLOWED = (405, "Method Not Allowed")
    REQUEST_TIMEOUT = (408, "Request Timeout")
    CONTENT_TOO_LARGE = (413, "Content Too Large")
    URI_TOO_LONG = (414, "URI Too Long")
    EXPECTATION_FAILED = (417, "Expectation Failed")
    FIELDS_TOO_LARGE = (431, "Request Header Fields Too Large")
    NOT_IMPLEMENTED = (501, "Not Implemented")
    BAD_GATEWAY = (502, "Bad Gateway")
    UNAVAILABLE = (503, "Service Unavailable")
    GATEWAY_TIMEOUT = (504, "Gateway Timeout")
    VERSION_NOT_SUPPORTED = (505, "HTTP Version Not Supported")

    def __init__(self, status: int, title: str) -> None:
        self.status = status
        self.title = title


class WireError(Exception):
    """Bytes that are refused. `detail` says what is wrong with them, for a person."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault.status} {detail}")
        self.fault = fault
        self.detail = detail
