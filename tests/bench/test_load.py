"""The load generator against a server that does what the test says."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from tests.bench.load import Answer, Connection, Measured, closed_loop, open_loop, zipf

Answers = Callable[[int], Awaitable[bytes]]  # of the number of a request -> status and body
_PAGE = b'200 {"degraded":[]}'


def against(answer: Answers, ask: Callable[[str], Awaitable[Measured]]) -> Measured:
    """What `ask` measures of a server that gives `answer` to each request in turn."""

    async def run() -> Measured:
        number = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal number
            try:
                while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                    await reader.readexactly(length)
                    number += 1
                    status, _, body = (await answer(number - 1)).partition(b" ")
                    wait = b"Retry-After: 1\r\n" if body == b"busy" else b""
                    said = (status, wait, len(body), body)
                    writer.write(b"HTTP/1.1 %b OK\r\n%bContent-Length: %d\r\n\r\n%b" % said)
            except asyncio.IncompleteReadError:
                pass
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    return asyncio.run(run())


def test_an_answer_that_does_not_say_its_length_counts():
    """Its body, as of HAProxy's own errors, is what comes until the connection ends."""

    async def run() -> list[Answer]:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\nno server")
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            connection = Connection(url)
            return [await connection.feed(1) for _ in range(2)]

    assert asyncio.run(run()) == [Answer(503, b"no server")] * 2


def test_a_stall_is_seen_in_full_by_an_open_loop():
    """Whoever was due while the server stood still waited from then on."""
    free_s = 0.3

    async def stalls(_: int) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, begin + free_s - loop.time()))
        return _PAGE

    async def ask(url: str) -> Measured:
        nonlocal begin
        begin = asyncio.get_running_loop().time()
        return await open_loop(url, [1], rate=100, seconds=0.5)

    begin = 0.0
    measured = against(stalls, ask)
    assert len(measured.ms) == 50
    waited = [ms for due, ms in zip(measured.due_s, measured.ms, strict=True) if due < 0.2]
    assert len(waited) == 20  # a closed loop would have asked once
    assert min(waited) >= 1000 * (free_s - 0.2) - 20
    assert max(waited) >= 1000 * free_s - 20


def test_an_open_loop_can_be_ended():
    """No request leaves once it is ended, and those under way are waited for."""
    asked = 0

    async def answer(_: int) -> bytes:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.02)
        return _PAGE

    measured = against(
        answer, lambda url: open_loop(url, [1], rate=200, seconds=60, ended=lambda: asked >= 5)
    )
    assert 5 <= len(measured.ms) == asked


def test_every_answer_is_counted_as_what_it_was():
    """Pages, refusals, errors and pages made without something are told apart.

    A refusal that does not say when to try again is an error.
    """
    of_a_part = b'200 {"degraded":["scorers.actions"]}'
    answers = [_PAGE, of_a_part, b"503 busy", b"500 oops", b"503 gone"]

    async def answer(number: int) -> bytes:
        await asyncio.sleep(0.005)
        return answers[number % 5]

    measured = against(
        answer, lambda url: closed_loop(url, itertools.cycle([1, 2]), clients=1, seconds=0.3)
    )
    told = measured.summary(0.3)
    num = told["requests"]
    assert num >= 5
    assert told["refused_503"] == len(range(2, num, 5))
    assert told["other_non_2xx"] == len(range(3, num, 5)) + len(range(4, num, 5))
    assert told["degraded"] == len(range(1, num, 5))
    assert told["rps"] == pytest.approx((len(range(0, num, 5)) + told["degraded"]) / 0.3)


def test_refusals_make_nothing_look_faster():
    """Times are of all but refusals that say when to come again, which come at once."""
    measured = Measured()
    for ms in (10.0, 20.0, 30.0):
        measured.note(0.0, ms, Answer(200))
        measured.note(0.0, 0.1, Answer(503, retry_after=True))
    measured.note(0.0, 40.0, Answer(0))
    whole = Measured()
    whole.add(measured, 0.0)
    told = whole.summary(1.0)
    assert (told["p50_ms"], told["max_ms"]) == (25.0, 40.0)
    assert (told["requests"], told["refused_503"], told["other_non_2xx"]) == (7, 3, 1)


def test_nobody_there_is_no_answer():
    """Where nothing listens the status is 0; no exception ends the loop."""
    assert asyncio.run(Connection("http://127.0.0.1:9").feed(1)) == Answer(0)


def test_visits_follow_zipf():
    """The k-th viewer comes about as often as 1 / k, and all of them are real."""
    users = np.arange(100, 150)
    visits = Counter(zipf(users, 200_000))
    assert set(visits) == set(users.tolist())
    often = [num for _, num in visits.most_common()]
    total = sum(1 / k for k in range(1, 51))
    for k in (1, 2, 5, 10):
        assert often[k - 1] / 200_000 == pytest.approx(1 / k / total, rel=0.1)
