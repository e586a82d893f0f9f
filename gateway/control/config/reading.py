"""Reads a file that a user named: with a size limit, and without ever waiting for a writer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, through symlinks.

    Raises OSError where it cannot be read, ValueError where it is no regular file or holds more than
    `limit` bytes.
    """
    # Without O_NONBLOCK, opening a FIFO waits for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'not a regular file')}")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ValueError(f"{path} is larger than {limit:,} bytes")
    return data
