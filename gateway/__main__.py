"""The entry point of `gateway` and `python -m gateway`.

Its first statement blocks SIGUSR1. By default that signal kills a process, and one that arrives while modules
load must neither kill nor be lost. The kernel keeps it until the process is ready.
"""

import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

import sys  # noqa: E402  # nothing may stand before the line above

from gateway import cli  # noqa: E402


def main() -> int:
    """Run the command of the command line; returns the exit code."""
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
