"""The sample pipelines over real sockets."""

import asyncio
import json
import random
import re
import socket
import statistics
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession

from gateway.demo.faults import HEALTHY, Behaviour
from gateway.demo.pipelines import PROFILES, SamplePipeline, encode_behaviours
from gateway.demo.processes import Child
from gateway.model.snapshot import Arm

pytestmark = pytest.mark.socket

QUICK = 0.01
"""Factor on every delay: the tests wait for milliseconds."""
STREAM = {"prompt": "hello", "stream": True}


class Server:
    """A treatment pipeline that listens, and a client of it."""

    def __init__(self, pipeline: SamplePipeline, url: str, http: ClientSession) -> None:
        self.pipeline = pipeline
        self.http = http
        self.url = url

    def behave(self, **faults: float) -> None:
        self.pipeline.behaviour = Behaviour(**{"latency": QUICK, **faults})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port."""
    pipeline = SamplePipeline(PROFILES[Arm.TREATMENT], random.Random(1))
    listening = socket.create_server(("127.0.0.1", 0))
    runner = await pipeline.serve(listening)
    port = listening.getsockname()[1]
    async with ClientSession() as http:
        served = Server(pipeline, f"http://127.0.0.1:{port}", http)
        served.behave()
        yield served
    await runner.cleanup()


async def test_a_completion_is_json_with_an_outcome(server: Server) -> None:
    """The outcome header is what the gateway collects: accuracy and cost of this answer."""
    async with server.http.post(f"{server.url}/v1/generate", json={"prompt": "hello"}) as response:
        answer = await response.json()
        outcome = response.headers["X-Gateway-Metric"]
    assert response.status == 200
    assert answer["pipeline"] == "dspy"
    assert len(answer["completion"].split()) == answer["tokens"]
    assert re.fullmatch(r"accuracy=[01]\.\d{3}, cost_per_request=0\.\d{5}", outcome)


async def test_a_stream_sends_numbered_tokens_and_says_when_it_is_done(server: Server) -> None:
    """Every token is an event of its own, in order, and [DONE] closes the stream."""
    async with server.http.post(f"{server.url}/v1/generate", json=STREAM) as response:
        events = (await response.text()).split("\n\n")
    assert response.content_type == "text/event-stream"
    assert "X-Gateway-Metric" in response.headers
    assert events[-2:] == ["data: [DONE]", ""]
    tokens = [event.split("\n") for event in events[:-2]]
    assert [head for head, _ in tokens] == [f"id: {number}" for number in range(len(tokens))]
    assert all(json.loads(data.removeprefix("data: "))["token"] for _, data in tokens)


async def test_tokens_come_one_by_one(server: Server) -> None:
    """The answer arrives in many pieces, not in one at the end."""
    server.behave(latency=0.2)
    async with server.http.post(f"{server.url}/v1/generate", json=STREAM) as response:
        pieces = [piece async for piece in response.content.iter_any()]
    assert len(pieces) > 5


async def test_a_body_that_is_no_json_object_is_refused(server: Server) -> None:
    """A newcomer's typing error is told as such; an empty body is a plain completion."""
    for body, status in ((b"{", 400), (b"[1]", 400), (b"\xff", 400), (b"", 200), (b"{}", 200)):
        async with server.http.post(f"{server.url}/v1/generate", data=body) as response:
            assert response.status == status


async def test_the_share_of_errors_is_what_was_asked_for(server: Server) -> None:
    """All or nothing at the ends, about the share between."""

    async def failures(share: float, requests: int) -> int:
        server.behave(errors=share, latency=0.001)
        return sum([await failed() for _ in range(requests)])

    async def failed() -> bool:
        async with server.http.post(f"{server.url}/v1/generate", json={}) as response:
            return response.status == 500

    assert await failures(0.0, 20) == 0
    assert await failures(1.0, 20) == 20
    assert 8 < await failures(0.3, 60) < 30


async def test_a_reset_comes_before_any_answer(server: Server) -> None:
    """The client sees a connection that breaks, for completions and streams alike."""
    server.behave(reset=1.0)
    for body in ({}, STREAM):
        with pytest.raises(ClientConnectionError):
            await server.http.post(f"{server.url}/v1/generate", json=body)


async def test_a_truncated_answer_breaks_in_the_middle(server: Server) -> None:
    """Some bytes arrive, then the connection breaks: it must not look complete."""
    server.behave(truncate=1.0)
    for body in ({}, STREAM):
        received: list[bytes] = []
        with pytest.raises((ClientPayloadError, ConnectionResetError)):
            await _collect(server, body, received)
        assert received
        assert b"[DONE]" not in b"".join(received)


async def _collect(server: Server, body: dict[str, object], received: list[bytes]) -> None:
    async with server.http.post(f"{server.url}/v1/generate", json=body) as response:
        assert response.status == 200
        async for chunk in response.content.iter_any():
            received.append(chunk)


async def test_a_hanging_request_ends_when_its_client_leaves(server: Server) -> None:
    """Nothing is answered, the health check goes on, and others are served once the fault is over."""
    server.behave(hang=1.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await server.http.post(f"{server.url}/v1/generate", json={})
    async with server.http.get(f"{server.url}/healthz") as response:
        assert response.status == 200
    server.behave()
    async with server.http.post(f"{server.url}/v1/generate", json={}) as response:
        assert response.status == 200


def test_the_dspy_pipeline_is_a_little_faster_better_and_cheaper() -> None:
    """So that the comparison in the demo has something to find."""
    rng = random.Random(7)
    draws = {
        arm: sorted(profile.completion.draw(rng) for _ in range(4000)) for arm, profile in PROFILES.items()
    }
    control, treatment = draws[Arm.CONTROL], draws[Arm.TREATMENT]
    assert 0.6 < statistics.median(treatment) / statistics.median(control) < 0.95
    assert control[3960] / statistics.median(control) > 2  # a tail, as latencies have
    assert PROFILES[Arm.TREATMENT].accuracy > PROFILES[Arm.CONTROL].accuracy
    assert PROFILES[Arm.TREATMENT].cost.median < PROFILES[Arm.CONTROL].cost.median


@pytest.mark.process
async def test_the_process_serves_both_pipelines_takes_behaviours_and_ends_with_its_input(
    tmp_path: Path,
) -> None:
    """It inherits its sockets, follows the lines on its standard input, and ends when that closes."""
    sockets = {arm: socket.create_server(("127.0.0.1", 0)) for arm in Arm}
    urls = {arm: f"http://127.0.0.1:{bound.getsockname()[1]}/v1/generate" for arm, bound in sockets.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.demo.pipelines"),
        *(f"--{arm.label}-fd={bound.fileno()}" for arm, bound in sockets.items()),
        stdin=asyncio.subprocess.PIPE,
        pass_fds=[bound.fileno() for bound in sockets.values()],
    )
    assert process.stdin is not None
    for bound in sockets.values():
        bound.close()
    try:
        async with asyncio.timeout(15), ClientSession() as http:
            for arm, name in ((Arm.CONTROL, "traditional"), (Arm.TREATMENT, "dspy")):
                async with http.post(urls[arm], json={}) as response:
                    assert (await response.json())["pipeline"] == name
            behaviours = {Arm.CONTROL: HEALTHY, Arm.TREATMENT: Behaviour(errors=1.0)}
            process.stdin.write(encode_behaviours(behaviours))
            while await _status(http, urls[Arm.TREATMENT]) != 500:
                pass
            assert await _status(http, urls[Arm.CONTROL]) == 200
            process.stdin.close()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _status(http: ClientSession, url: str) -> int:
    async with http.post(url, json={}) as response:
        return response.status


@pytest.mark.process
async def test_a_child_that_ends_says_how_and_leaves_its_last_lines(tmp_path: Path) -> None:
    """The name, the exit code or the signal, and what it wrote."""
    async with asyncio.timeout(15):
        wrong = await Child.start("the pipelines", ["gateway.demo.pipelines"], log=tmp_path / "log")
        assert "ended with exit code 2" in await wrong.ended()
        assert "--control-fd" in wrong.last_lines()[-1]
        await wrong.stop(1.0)

        endless = await Child.start("a server", ["http.server", "--bind", "127.0.0.1", "0"], tmp_path / "log")
        await endless.stop(5.0)
        assert re.fullmatch(r"a server \(pid \d+\) was killed by SIGTERM", await endless.ended())
