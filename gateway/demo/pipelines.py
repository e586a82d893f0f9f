"""The two sample pipelines that the demo runs behind the gateway, in a process of their own.

Each answers `POST /v1/generate` with a JSON completion or, with `"stream": true` in the body, with
server-sent tokens, after delays drawn from a log-normal distribution; `GET /healthz` always answers.
The process inherits its two listening sockets, reads new behaviours as JSON lines from its standard
input, and ends when that input does, so it cannot outlive the demo.

Apart from the `X-Gateway-Metric` header that it sends, it does not know that a gateway exists.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from aiohttp import web

from gateway.demo.faults import HEALTHY, Behaviour
from gateway.model.snapshot import Arm

_LINGER_RESET = struct.pack("ii", 1, 0)  # close() then sends RST in place of FIN
_MAX_BODY_BYTES = 1 << 20
_SHUTDOWN_PATIENCE = 0.1

_TEXT = (
    "the rollout keeps every user in one arm while evidence grows and the gate decides when the next "
    "phase may begin so a prompt that was optimised offline meets real questions slowly and leaves at "
    "once if it answers them worse than the one it wants to replace"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A positive random quantity by its median and the spread of its logarithm."""

    median: float
    sigma: float

    def draw(self, rng: random.Random) -> float:
        """One value."""
        return rng.lognormvariate(math.log(self.median), self.sigma)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a sample pipeline is like when it is well. Times in seconds, cost in dollars."""

    name: str
    completion: LogNormal
    first_token: LogNormal
    token_gap: LogNormal
    tokens: tuple[int, int]
    accuracy: float
    cost: LogNormal


PROFILES: Mapping[Arm, Profile] = {
    Arm.CONTROL: Profile(
        name="traditional",
        completion=LogNormal(0.190, 0.42),
        first_token=LogNormal(0.120, 0.35),
        token_gap=LogNormal(0.030, 0.50),
        tokens=(14, 40),
        accuracy=0.86,
        cost=LogNormal(0.0031, 0.25),
    ),
    Arm.TREATMENT: Profile(
        name="dspy",
        completion=LogNormal(0.150, 0.38),
        first_token=LogNormal(0.095, 0.32),
        token_gap=LogNormal(0.025, 0.45),
        tokens=(12, 34),
        accuracy=0.91,
        cost=LogNormal(0.0024, 0.22),
    ),
}
_ACCURACY_SPREAD = 0.06


class SamplePipeline:
    """One upstream. Assign `behaviour` at any time; requests that come later follow it."""

    def __init__(self, profile: Profile, rng: random.Random) -> None:
        self.behaviour = HEALTHY
        self._profile = profile
        self._rng = rng

    async def serve(self, listening: socket.socket) -> web.AppRunner:
        """Serve on a listening socket, which is closed by the `cleanup` of what is returned."""
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_post("/v1/generate", self._generate)
        application.router.add_get("/healthz", self._healthz)
        runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_PATIENCE
        )
        await runner.setup()
        await web.SockSite(runner, listening).start()
        return runner

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "pipeline": self._profile.name})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        try:
            wants_stream = json.loads(await request.read() or b"{}").get("stream") is True
        except (ValueError, AttributeError):
            return web.json_response({"error": "the body is not a JSON object"}, status=400)
        if self._happens(self.behaviour.hang):
            await asyncio.Event().wait()  # until the client leaves, which cancels this handler
        await self._pause(self._profile.first_token if wants_stream else self._profile.completion)
        if self._happens(self.behaviour.reset):
            return _cut_off(request, web.StreamResponse())
        if self._happens(self.behaviour.errors):
            return web.json_response({"error": "the pipeline failed"}, status=500)
        words = self._words()
        if wants_stream:
            return await self._stream(request, words)
        return await self._complete(request, words)

    async def _complete(self, request: web.Request, words: list[str]) -> web.StreamResponse:
        answer = {"pipeline": self._profile.name, "completion": " ".join(words), "tokens": len(words)}
        body = json.dumps(answer).encode() + b"\n"
        headers = {"Content-Type": "application/json", "X-Gateway-Metric": self._outcome()}
        if not self._happens(self.behaviour.truncate):
            return web.Response(body=body, headers=headers)
        response = web.StreamResponse(headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        return _cut_off(request, response)

    async def _stream(self, request: web.Request, words: list[str]) -> web.StreamResponse:
        kept = len(words) // 2 if self._happens(self.behaviour.truncate) else len(words)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-cache",
                "X-Gateway-Metric": self._outcome(),
            }
        )
        await response.prepare(request)
        for position, word in enumerate(words[:kept]):
            event = json.dumps({"pipeline": self._profile.name, "token": word})
            await response.write(f"id: {position}\ndata: {event}\n\n".encode())
            await self._pause(self._profile.token_gap)
        if kept < len(words):
            return _cut_off(request, response)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _happens(self, share: float) -> bool:
        return self._rng.random() < share

    async def _pause(self, delay: LogNormal) -> None:
        await asyncio.sleep(delay.draw(self._rng) * self.behaviour.latency)

    def _words(self) -> list[str]:
        start = self._rng.randrange(len(_WORDS))
        return [_WORDS[(start + i) % len(_WORDS)] for i in range(self._rng.randint(*self._profile.tokens))]

    def _outcome(self) -> str:
        accuracy = min(1.0, max(0.0, self._rng.gauss(self._profile.accuracy, _ACCURACY_SPREAD)))
        return f"accuracy={accuracy:.3f}, cost_per_request={self._profile.cost.draw(self._rng):.5f}"


def _cut_off(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Reset the client's connection; the response is only what aiohttp wants returned."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        transport.abort()
    return response


def encode_behaviours(behaviours: Mapping[Arm, Behaviour]) -> bytes:
    """The line that tells the process how its pipelines behave from now on."""
    return json.dumps({arm.label: asdict(value) for arm, value in behaviours.items()}).encode() + b"\n"


def _apply_line(line: bytes, pipelines: Mapping[Arm, SamplePipeline]) -> None:
    behaviours = json.loads(line)
    for arm, pipeline in pipelines.items():
        pipeline.behaviour = Behaviour(**behaviours[arm.label])


async def _serve(sockets: Mapping[Arm, socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    loop.add_signal_handler(signal.SIGTERM, commands.feed_eof)
    pipelines = {arm: SamplePipeline(PROFILES[arm], random.Random()) for arm in sockets}
    runners = [await pipeline.serve(sockets[arm]) for arm, pipeline in pipelines.items()]
    while line := await commands.readline():
        _apply_line(line, pipelines)
    for runner in runners:
        await runner.cleanup()


def main() -> None:
    """Serve both pipelines on the inherited sockets until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo.pipelines")
    for arm in Arm:
        parser.add_argument(f"--{arm.label}-fd", type=int, required=True)
    arguments = vars(parser.parse_args())
    asyncio.run(_serve({arm: socket.socket(fileno=arguments[f"{arm.label}_fd"]) for arm in Arm}))


if __name__ == "__main__":
    main()
