"""Compiles the hot path with mypyc, if asked: `GATEWAY_COMPILE=1 pip install .`

The same source runs either way. Compiled, a request costs the worker about half the time in Python;
plain, nothing needs a C compiler and an edit takes effect at once. Everything else is in pyproject.toml.
"""

import os

from setuptools import setup

HOT_PATH = [
    "gateway/core/split.py",
    "gateway/marks.py",
    "gateway/model/ticks.py",
    "gateway/proxy/account.py",
    "gateway/proxy/context.py",
    "gateway/proxy/deciding.py",
    "gateway/proxy/downstream.py",
    "gateway/proxy/exchange.py",
    "gateway/proxy/framing.py",
    "gateway/proxy/identity.py",
    "gateway/proxy/plan.py",
    "gateway/proxy/pool.py",
    "gateway/proxy/recorder.py",
    "gateway/proxy/records.py",
    "gateway/proxy/reports.py",
    "gateway/proxy/roles.py",
    "gateway/proxy/tally.py",
    "gateway/proxy/ticks.py",
    "gateway/proxy/tunnel.py",
    "gateway/proxy/upstream.py",
    "gateway/wire/chunked.py",
    "gateway/wire/headers.py",
    "gateway/wire/heads.py",
    "gateway/wire/request.py",
    "gateway/wire/response.py",
]
COMPILER = "mypy>=1.17,<3"

if os.environ.get("GATEWAY_COMPILE", "0") in ("", "0"):
    setup()
else:
    try:
        from mypyc.build import mypycify
    except ImportError:
        extensions = []  # pip asks what the build needs before it brings it
    else:
        # The build's environment has no other dependency: what they return is unknown to the compiler.
        options = ["--config-file=", "--ignore-missing-imports"]
        extensions = mypycify([*options, *HOT_PATH], opt_level="3")
    setup(ext_modules=extensions, setup_requires=[COMPILER])
