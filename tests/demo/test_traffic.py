"""The demo's users against a small server that stands where the gateway would."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from gateway.demo import traffic as traffic_module
from gateway.demo.tally import Ending, Sample, Tally
from gateway.demo.traffic import USER_COUNT, NoAnswers, Traffic, user_ids
from gateway.model.snapshot import Arm
from tests.support.polling import soon

pytestmark = pytest.mark.socket

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RATE = 400.0


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """The handler behind a real socket; yields its URL."""
    application = web.Application()
    application.router.add_post("/v1/generate", handler)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    await web.SockSite(runner, listening).start()
    try:
        yield f"http://127.0.0.1:{port}/v1/generate"
    finally:
        await runner.cleanup()


async def samples_of(handler: Handler, count: int) -> list[Sample]:
    """What the users experienced with this handler, `count` times or a few more."""
    tally = Tally(asyncio.get_running_loop().time())
    async with serving(handler) as url:
        sending = asyncio.create_task(Traffic(url, RATE, tally, random.Random(3)).run())
        try:
            await soon(lambda: len(tally.recent) >= count)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    return list(tally.recent)


async def test_users_keep_their_ids_and_ask_for_both_kinds_of_answers() -> None:
    """Each request names a known user; some want a stream, most a completion."""
    seen: list[tuple[str, bool]] = []

    async def answer(request: web.Request) -> web.Response:
        wants_stream = (await request.json())["stream"]
        seen.append((request.headers["X-User-Id"], wants_stream))
        body = b"data: {}\n\ndata: [DONE]\n\n" if wants_stream else b"{}"
        return web.Response(body=body, headers={"X-Gateway-Arm": "treatment"})

    samples = await samples_of(answer, 30)
    assert len(set(user_ids(USER_COUNT))) == USER_COUNT
    assert {user for user, _ in seen} <= set(user_ids(USER_COUNT))
    assert {wants_stream for _, wants_stream in seen} == {True, False}
    assert {sample.ending for sample in samples} == {Ending.OK}
    assert {sample.arm for sample in samples} == {Arm.TREATMENT}
    assert all(0 < sample.first_byte <= sample.duration for sample in samples)


async def test_a_stream_without_its_end_is_cut_off() -> None:
    """Although it was framed properly: what counts is what the user was promised."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"data: {}\n\n", headers={"X-Gateway-Arm": "control"})

    samples = await samples_of(answer, 20)
    assert {(sample.streamed, sample.ending) for sample in samples} == {
        (True, Ending.CUT_OFF),
        (False, Ending.OK),
    }


async def test_a_failure_belongs_to_the_arm_that_answered() -> None:
    """A status other than 200 is a failure, with its status kept."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=502, headers={"X-Gateway-Arm": "control"})

    samples = await samples_of(answer, 5)
    assert {(sample.arm, sample.status, sample.ending) for sample in samples} == {
        (Arm.CONTROL, 502, Ending.FAILED)
    }


async def test_a_connection_that_breaks_in_the_middle_is_cut_off() -> None:
    """The status was fine, the body is not whole."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"X-Gateway-Arm": "control", "Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    assert {sample.ending for sample in await samples_of(answer, 5)} == {Ending.CUT_OFF}


async def test_a_gateway_that_is_gone_ends_the_traffic() -> None:
    """Refused connections are no answers, and without answers the load stops by itself."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1/generate"
    tally = Tally(asyncio.get_running_loop().time())
    with pytest.raises(NoAnswers, match="answered nothing"):
        await asyncio.wait_for(Traffic(url, 50.0, tally, random.Random(3), patience=0.2).run(), 10)
    assert {sample.ending for sample in tally.recent} == {Ending.NO_CONNECTION}
    assert tally.unanswered == len(tally.recent) > 0


async def test_hanging_requests_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing is sent; when the traffic ends, what is open is let go."""
    monkeypatch.setattr(traffic_module, "MAX_OPEN", 3)
    open_now, most = 0, 0

    async def hang(request: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            await asyncio.Event().wait()
        finally:
            open_now -= 1
        raise AssertionError

    tally = Tally(asyncio.get_running_loop().time())
    async with serving(hang) as url:
        with pytest.raises(NoAnswers):
            await Traffic(url, RATE, tally, random.Random(3), patience=1.0).run()
        await soon(lambda: open_now == 0)
    assert most == 3
