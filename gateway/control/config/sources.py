"""What the config's files contain right now: fingerprints of content, never of modification times.

A file that cannot be read has a fingerprint too: the reason. It does not know what a config means.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from gateway.control.config.loading import MAX_CONFIG_BYTES
from gateway.control.config.reading import read_file

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
        return fingerprint(read_file(path, MAX_CONFIG_BYTES))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "error")
    except ValueError as error:
        return str(error)
