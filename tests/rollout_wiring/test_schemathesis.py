"""The admin API against requests that a generator makes of its own description."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.control import CONFIG, make_gateway, make_observation


@pytest.mark.slow
@pytest.mark.process
async def test_generated_requests_find_no_answer_that_the_description_lacks(tmp_path: Path) -> None:
    """Some hundred requests, made to fit and made not to: no fault of ours, no undescribed answer."""
    gateway = make_gateway(tmp_path, CONFIG)
    gateway.report(make_observation("a", 11))
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    async with gateway.control() as client:
        await client.status()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{client.url}/openapi.json"),
            *("--checks", checks, "--max-examples", "8", "--generation-deterministic", "--workers", "1"),
            *("--exclude-checks", "unsupported_method", "--phases", "examples,coverage,fuzzing"),
            *("--exclude-path", "/api/v1/events"),  # has no end
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(400):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, output.decode(errors="replace")[-6000:]
