"""The page's script, style sheet and icon: part of the package, read once.

The URL of a file contains a digest of all of them, so browsers may cache it for ever, and a page that is
still open after an upgrade can detect that it is old.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

_TYPES = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
PREFIX = "/dashboard/assets"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    body: bytes
    content_type: str


def _read() -> Mapping[str, Asset]:
    folder = resources.files(__package__) / "assets"
    return {name: Asset((folder / name).read_bytes(), kind) for name, kind in _TYPES.items()}


ASSETS: Mapping[str, Asset] = _read()
"""Every file by name."""
DIGEST = hashlib.sha256(b"\0".join(asset.body for asset in ASSETS.values())).hexdigest()[:16]
"""Changes whenever one of them does."""


def address(name: str) -> str:
    """Where a file is served."""
    return f"{PREFIX}/{DIGEST}/{name}"
