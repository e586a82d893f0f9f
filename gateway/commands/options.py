"""Options that several commands share."""

from __future__ import annotations

import argparse
import getpass
import os

DEFAULT_ADMIN = "http://127.0.0.1:9900"


def client_options() -> argparse.ArgumentParser:
    """The options of commands that talk to a running gateway, as a parent parser."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("the running gateway")
    group.add_argument(
        "--admin",
        metavar="URL",
        default=os.environ.get("GATEWAY_ADMIN", DEFAULT_ADMIN),
        help=f"its admin API (env GATEWAY_ADMIN, default: {DEFAULT_ADMIN})",
    )
    group.add_argument(
        "--token-file",
        metavar="FILE",
        default=os.environ.get("GATEWAY_TOKEN_FILE"),
        help="file with the operator's bearer token (env GATEWAY_TOKEN_FILE)",
    )
    options.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="json for machines (default: text)"
    )
    return options


def audit_options() -> argparse.ArgumentParser:
    """The options of commands that change something: who and why, for the audit log."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("for the audit log")
    group.add_argument(
        "--operator", metavar="NAME", default=login_name(), help="who does this (default: %(default)s)"
    )
    group.add_argument("--reason", metavar="TEXT", default="", help="why")
    return options


def login_name() -> str:
    """The name that the system has for whoever runs this, `uid:N` if it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"
