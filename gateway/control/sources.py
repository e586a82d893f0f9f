"""What the config's files hold right now: fingerprints of content, never of times.

Reading is bounded in size and never waits: a FIFO, a device or a directory is named as such, not
opened for good. It does not know what a config means.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

READ_LIMIT = 4 * 1024 * 1024
"""Bytes of a file that are looked at; the loader refuses files long before this."""

Fingerprints: TypeAlias = Mapping[Path, str]
"""Path -> SHA-256 of the content in hex, or in words why there is none."""


def fingerprint(data: bytes) -> str:
    """The fingerprint of a file that holds `data`."""
    return hashlib.sha256(data).hexdigest()


def look(paths: Iterable[Path]) -> Fingerprints:
    """The fingerprints of the files as they are, through symlinks."""
    return {path: _look(path) for path in paths}


def _look(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "error")
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return f"no regular file (mode {status.st_mode:o})"
        if status.st_size > READ_LIMIT:
            return f"too large: {status.st_size} bytes, changed at {status.st_mtime_ns}"
        try:
            return fingerprint(file.read(READ_LIMIT))
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "error")
