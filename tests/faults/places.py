"""Namespaces of the kernel for a gateway: a network, a mount table or limits of its own."""

from __future__ import annotations

import subprocess


def can_unshare(*options: str) -> bool:
    """True if this user may make such a namespace here."""
    try:
        return subprocess.run(["unshare", *options, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
