"""How pydantic reads values that point somewhere: paths, secrets, URLs, addresses, identity sources.

Rules like those of `model.fields`. They know spellings and do not look at what a value points to, except
for token files, which come in through `Surroundings`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from gateway.model import units
from gateway.model.fields import Info, Rule, Surroundings, fault, text_of
from gateway.model.snapshot import IdentitySource, SourceKind
from gateway.model.units import Address, HttpCall, TcpAddress, TokenFile, UnixAddress, shorten


@dataclass(frozen=True, slots=True)
class Folder(Rule):
    """A path, relative to the folder of the file that names it; null for None where `optional`."""

    optional: bool = False

    def expects(self) -> str:
        """The spelling in words."""
        return "expected a path, relative to this file's folder"

    def parse(self, value: Any, info: Info) -> Path | None:
        """The path, joined to the folder."""
        if value is None and self.optional:
            return None
        text = str(value) if isinstance(value, Path) else text_of(value)
        if not text or "\0" in text:
            raise ValueError("the path is empty")
        return Surroundings.of(info).folder / text

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": ["string", "null"] if self.optional else "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class SecretFile(Rule):
    """The path of a file with one token in it; the value holds both."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected the path, relative to this file's folder, of a file with the token on one line"

    def parse(self, value: Any, info: Info) -> TokenFile:
        """The token and its path."""
        if isinstance(value, TokenFile):
            return value
        surroundings = Surroundings.of(info)
        path = surroundings.folder / text_of(value)
        try:
            return TokenFile(path, surroundings.read_token(path))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "minLength": 1}


VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A reference to an environment variable."""


@dataclass(frozen=True, slots=True)
class SecretUrl(Rule):
    """An http or https URL in which `${NAME}` stands for an environment variable."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected a URL, http:// or https://, that may hold ${VARIABLE}"

    def parse(self, value: Any, info: Info) -> SecretStr:
        """The URL with its variables filled in."""
        environ = Surroundings.of(info).environ

        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if not environ.get(name):
                state = "empty" if name in environ else "not set"
                raise fault(
                    f"the environment variable {name} is {state}", f"expected {name} in the environment"
                )
            return environ[name]

        url = VARIABLE.sub(fill, text_of(value))
        if "${" in url:
            raise ValueError("a ${ without the name of a variable and a } behind it")
        try:
            check_url(url)
        except ValueError as error:  # the URL is a secret: say nothing of what is in it
            raise ValueError("this is not a URL") from error
        return SecretStr(url)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "minLength": 1}


def check_url(url: str) -> None:
    """Raise ValueError unless the URL is http or https with a host and holds no blanks."""
    if not re.fullmatch(r"[\x21-\x7e]+", url):
        raise ValueError(f"{shorten(url)!r} is not a URL: it holds blanks or is not ASCII")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shorten(url)!r} is not an http:// or https:// URL")
    _ = parts.port  # raises ValueError beyond 65535


@dataclass(frozen=True, slots=True)
class Call(Rule):
    """An HTTP request that the gateway makes: `POST http://host/path`, or a URL alone."""

    method: str = "GET"
    """The method where none is written."""
    optional: bool = False

    def expects(self) -> str:
        """The spelling in words."""
        return "expected a URL, or a method and a URL as in POST http://host:port/path"

    def parse(self, value: Any, info: Info) -> HttpCall | None:
        """The method and the URL."""
        if isinstance(value, HttpCall) or (value is None and self.optional):
            return value
        words = text_of(value).split()
        if len(words) == 1:
            words.insert(0, self.method)
        if len(words) != 2 or not re.fullmatch("[A-Z]{3,10}", words[0]):
            raise ValueError(f"{shorten(str(value))!r} is not a method and a URL")
        check_url(words[1])
        return HttpCall(*words)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        kind: Any = ["string", "null"] if self.optional else "string"
        return {"type": kind, "pattern": "^([A-Z]{3,10} +)?https?://"}


@dataclass(frozen=True, slots=True)
class Listening(Rule):
    """An address to listen on."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected host:port as in 127.0.0.1:8080, or unix:PATH"

    def parse(self, value: Any, info: Info) -> Address:
        """The address."""
        if isinstance(value, (TcpAddress, UnixAddress)):
            return value
        return units.parse_address(text_of(value), Surroundings.of(info).folder)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": "^(unix:.+|.+:[0-9]{1,5})$"}


@dataclass(frozen=True, slots=True)
class Endpoint(Rule):
    """Where an upstream listens, normalised to `http://host:port` or `unix:PATH`."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected http://host:port, or unix:PATH"

    def parse(self, value: Any, info: Info) -> str:
        """The endpoint's text."""
        text = text_of(value)
        if text.startswith("unix:"):
            return str(units.parse_address(text, Surroundings.of(info).folder))
        scheme, separator, rest = text.partition("://")
        if scheme == "https" and separator:
            raise ValueError("https is not spoken to upstreams: TLS stands at the mesh or the ingress")
        if scheme != "http" or not separator:
            raise ValueError(f"{shorten(text)!r} does not begin with http://")
        rest = rest.removesuffix("/")
        if re.search(r"[/?#@]", rest):
            raise ValueError(f"{shorten(text)!r} holds more than a host and a port")
        address = units.parse_address(rest if re.search(r":[0-9]+$", rest) else f"{rest}:80", Path())
        if isinstance(address, TcpAddress) and address.port == 0:
            raise ValueError("an upstream cannot listen on port 0")
        return f"http://{address}"

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": "^(http://[^/?#@]+/?|unix:.+)$"}


TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # a token as RFC 9110, section 5.6.2, means it
"""Pattern of a header's name."""


@dataclass(frozen=True, slots=True)
class Source(Rule):
    """Where the user id stands: `header:NAME`, `cookie:NAME` or `query:NAME`."""

    def expects(self) -> str:
        """The spelling in words."""
        return "expected header:NAME, cookie:NAME or query:NAME"

    def parse(self, value: Any, info: Info) -> IdentitySource:
        """The source; a header's name in lower case."""
        if isinstance(value, IdentitySource):
            return value
        text = text_of(value)
        kind, colon, name = text.partition(":")
        if not colon or kind not in list(SourceKind):
            raise ValueError(f"{shorten(text)!r} names no source")
        pattern = r"[^\s=&;#]+" if kind == SourceKind.QUERY else TOKEN
        if not re.fullmatch(pattern, name):
            raise ValueError(f"{shorten(name)!r} cannot be the name of a {kind}")
        if kind == SourceKind.HEADER and name.lower().startswith("x-gateway-"):
            raise ValueError(f"{name} never arrives: a client's own X-Gateway headers are removed")
        return IdentitySource(SourceKind(kind), name.lower() if kind == SourceKind.HEADER else name)

    def json_schema(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": "^(header|cookie|query):.+$"}
