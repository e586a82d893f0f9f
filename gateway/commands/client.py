"""How commands reach a running gateway: a small HTTP client for its admin API.

It turns failures into exceptions with an exit code. The options that say where the gateway is are in
`options`; the commands interpret the answers.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from gateway.exits import Exit

PATIENCE = 10.0
"""Seconds for one request, unless the command says otherwise."""
_UNIX = "unix:"
_ANSWER_LIMIT = 16 * 1024 * 1024


class UsageError(Exception):
    """The command line or the environment makes no sense."""


class Unreachable(Exception):
    """No gateway answers at the admin address."""


class Refused(Exception):
    """The gateway answered with a problem. `status` is the HTTP status, `document` says why."""

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status = status
        self.document = document
        self.detail = str(document.get("detail") or f"HTTP {status}")
        super().__init__(self.detail)

    @property
    def reasons(self) -> list[str]:
        """What every gate says that does not let the rollout pass, a line each."""
        return [
            f"{gate['verdict']:<12} {gate['id']}: {gate['reason']}"
            for gate in self.document.get("gates", [])
            if gate["verdict"] != "pass"
        ]

    @property
    def exit(self) -> Exit:
        """The exit code: 409 says that the rollout's state does not allow it, all else is a failure."""
        return Exit.GATE_NOT_PASSED if self.status == http.HTTPStatus.CONFLICT else Exit.FAILED


def printable(text: str) -> str:
    """The text on one line, without anything that a terminal obeys: others wrote it."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def audit_fields(args: argparse.Namespace) -> dict[str, Any]:
    """`operator` and `reason` of a write's body, from `options.audit_options`."""
    return {"operator": args.operator, "reason": args.reason}


def run(args: argparse.Namespace, action: Callable[[AdminClient], int]) -> int:
    """Carry out a command against the gateway that the options name; returns its exit code."""
    try:
        return action(AdminClient.from_options(args))
    except UsageError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return Exit.INVALID
    except Unreachable as error:
        print(f"gateway: {error}", file=sys.stderr)
        return Exit.UNREACHABLE
    except Refused as refusal:
        _print_refusal(refusal, args.output)
        return refusal.exit
    except (LookupError, TypeError, AttributeError) as error:
        # What answers speaks JSON and not ours: another service, or the gateway's own port for traffic.
        print(
            f"gateway: what answers at {args.admin} is no admin API that I know ({error!r})", file=sys.stderr
        )
        return Exit.UNREACHABLE


def _print_refusal(refusal: Refused, output: str) -> None:
    """Why not: in words on stderr, or the gateway's own document on stdout."""
    if output == "json":
        print(json.dumps(refusal.document))
        return
    print(f"gateway: {printable(refusal.detail)}", file=sys.stderr)
    for reason in refusal.reasons:
        print(f"  {printable(reason)}", file=sys.stderr)


class AdminClient:
    """Requests to one gateway's admin API, a connection each."""

    def __init__(self, admin: str, token: str | None = None, patience: float = PATIENCE) -> None:
        """`admin` is `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`. Raises UsageError."""
        self._admin = admin
        self._token = token
        self._patience = patience
        self._connect = _connector(admin, patience)

    def __repr__(self) -> str:
        return f"<AdminClient {self._admin}>"

    @classmethod
    def from_options(cls, args: argparse.Namespace, patience: float = PATIENCE) -> AdminClient:
        """The client that `options.client_options` describe. Raises UsageError."""
        return cls(args.admin, _read_token(args.token_file), patience)

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """The JSON at `/api/v1/PATH`. Raises Unreachable or Refused."""
        encoded = f"?{urlencode(query)}" if query else ""
        return self._request("GET", f"/api/v1/{path}{encoded}", None, {})

    def post(self, path: str, body: Mapping[str, Any], if_match: int | None = None) -> Any:
        """Post JSON to `/api/v1/PATH`; `if_match` is the version that it depends on. Raises as `get`."""
        headers = {"Content-Type": "application/json"}
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        return self._request("POST", f"/api/v1/{path}", json.dumps(body).encode(), headers)

    def delete(self, path: str, query: Mapping[str, str]) -> Any:
        """Delete what is at `/api/v1/PATH`. Raises as `get`."""
        return self._request("DELETE", f"/api/v1/{path}?{urlencode(query)}", None, {})

    def _request(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Any:
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connect()
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            raw = response.read(_ANSWER_LIMIT)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(f"no gateway answers at {self._admin}: {reason}") from error
        finally:
            connection.close()
        return _take(response.status, raw)


def _take(status: int, raw: bytes) -> Any:
    try:
        document = json.loads(raw)
    except ValueError:
        raise Unreachable(f"what answers there is no gateway (HTTP {status})") from None
    if status >= 400:
        raise Refused(status, document if isinstance(document, dict) else {})
    return document


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path
        self._patience = patience

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience)
        self.sock.connect(self._path)


def _connector(admin: str, patience: float) -> Callable[[], http.client.HTTPConnection]:
    if admin.startswith(_UNIX):
        path = admin.removeprefix(_UNIX)
        return lambda: _UnixConnection(path, patience)
    try:
        url = urlsplit(admin if "://" in admin else f"http://{admin}")
        host, port = url.hostname, url.port
    except ValueError:
        host, port, url = None, None, urlsplit("")
    if url.scheme != "http" or not host or url.path not in ("", "/") or url.query:
        raise UsageError(f"--admin {admin!r} makes no sense; expected http://HOST:PORT or unix:PATH")
    return lambda: http.client.HTTPConnection(host, port or 80, timeout=patience)


def _read_token(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token file {path} cannot be read: {error}") from error
    if not token or not token.isascii() or not token.isprintable():
        raise UsageError(f"the token file {path} holds no token")
    return token
