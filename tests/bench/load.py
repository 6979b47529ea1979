"""`python -m tests.bench.load URL [--rate N] [--seconds N]`: asks a running feed for pages.

Open loop: requests leave at a constant rate whatever comes back, and are timed from when they were
due, so that a stall is seen in full. Closed loops, N clients that each ask again once they have an
answer, give the peak rate and nothing else: they wait while the server does. The viewers are real
ones, of the bundle that the feed serves, and come as often as 1 / rank (Zipf). The generator is one
process of this machine and takes its share of the cores. Results go to artifacts/load.json, with a
page and a plot.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.bundle import load
from train.report import add_out, header
from train.report_plots import Record, save, write_with_plots

LIMIT = 20  # posts per page
QUANTILES = (0.5, 0.9, 0.95, 0.99)
_GIVE_UP_S = 30.0
_CLIENTS = 8  # of the closed loop of this command


class Answer(NamedTuple):
    """Of the feed; status 0 = none came."""

    status: int
    body: bytes = b""
    retry_after: bool = False  # whether it says when to try again


@dataclass
class Measured:
    """Answers of one loop, in the order in which they came.

    Attributes:
        due_s: when each was asked for, or due; since the loop began.
        ms: how long each took from then on.
        statuses: how many had each; 0 = none came.
        refused: whether it was an answer 503 that says when to try again.
        degraded: pages that were made without something.
    """

    due_s: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    refused: list[bool] = field(default_factory=list)
    degraded: int = 0

    def note(self, due_s: float, ms: float, answer: Answer) -> None:
        """Keep one answer."""
        self.due_s.append(due_s)
        self.ms.append(ms)
        self.statuses[answer.status] += 1
        self.refused.append(answer.status == 503 and answer.retry_after)
        self.degraded += answer.status == 200 and b'"degraded":[]' not in answer.body

    def add(self, later: Measured, begin_s: float) -> None:
        """Keep the answers of another loop, which began `begin_s` after this one."""
        self.due_s += [begin_s + due_s for due_s in later.due_s]
        self.ms += later.ms
        self.statuses += later.statuses
        self.refused += later.refused
        self.degraded += later.degraded

    def summary(self, seconds: float) -> dict[str, Any]:
        """Plain values for the report; times are of all but refusals, which come at once."""
        good, refused = self.statuses[200], sum(self.refused)
        ms = [ms for ms, at_once in zip(self.ms, self.refused, strict=True) if not at_once]
        ms = ms or [math.nan]
        times = {f"p{round(100 * q)}_ms": float(np.quantile(ms, q)) for q in QUANTILES}
        return {
            "requests": len(self.ms),
            "rps": good / seconds,
            **times,
            "max_ms": max(ms),
            "refused_503": refused,
            "other_non_2xx": len(self.ms) - good - refused,
            "degraded": self.degraded,
        }


class Connection:
    """One HTTP/1.1 connection, kept alive; as little work per request as Python can do."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
        self._port = int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def feed(self, user_id: int) -> Answer:
        """Ask for a page; no answer is one after 30 s, or where there is no server.

        A kept connection may have been closed meanwhile, as when HAProxy reloads; it is
        opened anew once, as every HTTP client does.
        """
        try:
            async with asyncio.timeout(_GIVE_UP_S):
                if self._streams is not None:
                    try:
                        return await self._ask(user_id)
                    except (asyncio.IncompleteReadError, ConnectionError):
                        self.close()
                self._streams = await asyncio.open_connection(self._host, self._port)
                return await self._ask(user_id)
        except (asyncio.IncompleteReadError, OSError):  # a timeout is an OSError
            self.close()
            return Answer(0)

    async def _ask(self, user_id: int) -> Answer:
        assert self._streams is not None
        reader, writer = self._streams
        body = json.dumps({"user_id": user_id, "limit": LIMIT}).encode()
        writer.write(
            b"POST /v1/feed HTTP/1.1\r\nHost: feed\r\nContent-Type: application/json\r\n"
            b"X-Session-Id: %d\r\nContent-Length: %d\r\n\r\n%b" % (user_id, len(body), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if length:
            body = await reader.readexactly(int(length))
        else:  # as HAProxy's own errors: the end of the connection ends the body
            body = await reader.read()
            self.close()
        return Answer(int(head[9:12]), body, b"\r\nretry-after:" in head)

    def close(self) -> None:
        """Hang up."""
        if self._streams:
            self._streams[1].close()
        self._streams = None


async def closed_loop(
    url: str, users: Iterable[int], clients: int, seconds: float = math.inf
) -> Measured:
    """`clients` that each ask as soon as they have an answer, until `users` or `seconds` end."""
    measured, turn = Measured(), iter(users)
    begin = time.perf_counter()

    async def client() -> None:
        connection = Connection(url)
        while (asked_s := time.perf_counter() - begin) < seconds:
            if (user_id := next(turn, None)) is None:
                break
            answer = await connection.feed(user_id)
            measured.note(asked_s, (time.perf_counter() - begin - asked_s) * 1000, answer)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return measured


async def open_loop(
    url: str,
    users: Iterable[int],
    rate: float,
    seconds: float,
    ended: Callable[[], bool] = lambda: False,
) -> Measured:
    """`rate` requests per second, evenly spaced, whatever becomes of those before.

    For `seconds`, or until it is `ended`.
    """
    measured = Measured()
    idle: list[Connection] = []
    begin = time.perf_counter()

    async def ask(due_s: float, user_id: int) -> None:
        connection = idle.pop() if idle else Connection(url)
        answer = await connection.feed(user_id)
        measured.note(due_s, (time.perf_counter() - begin - due_s) * 1000, answer)
        idle.append(connection)

    async with asyncio.TaskGroup() as requests:
        for number, user_id in zip(
            range(int(rate * seconds)), itertools.cycle(users), strict=False
        ):
            due_s = number / rate
            await asyncio.sleep(max(0.0, begin + due_s - time.perf_counter()))
            if ended():
                break
            requests.create_task(ask(due_s, user_id))
    for connection in idle:
        connection.close()
    return measured


def zipf(user_id: NDArray[np.int64], num: int, seed: int = 0) -> list[int]:
    """`num` visits of these viewers, the k-th of a random order coming as often as 1 / k."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(user_id) + 1)
    order = rng.permutation(user_id)
    return rng.choice(order, size=num, p=share / share.sum()).tolist()


def over_time(record: Record, plt: Any) -> Any:
    """Latency of each answer by when it was due, and how many took no longer."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for name, points in record["points"].items():
        left.plot(points["due_s"], points["ms"], ".", markersize=2, label=name)
        ms = np.sort(points["ms"])
        right.plot(ms, np.arange(1, len(ms) + 1) / len(ms), label=name)
    left.set(xlabel="due, s", ylabel="answered after, ms", yscale="log")
    right.set(xlabel="ms", ylabel="share answered by then", xscale="log", ylim=(0, 1))
    right.legend(frameon=False, loc="lower right")
    return figure


def main() -> None:
    """Ask, print the page and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load")
    parser.add_argument("url", help="of the feed, http://127.0.0.1:8000")
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each loop")
    add_out(parser, Path("artifacts"))
    args = parser.parse_args()
    bundle = load(args.bundle)
    users = zipf(bundle.profiles["user_id"].to_numpy(), 100_000)
    opened = asyncio.run(open_loop(args.url, users, args.rate, args.seconds))
    closed = asyncio.run(closed_loop(args.url, users, _CLIENTS, args.seconds))
    loops = {f"open, {args.rate:g} per s": opened, f"closed, {_CLIENTS} clients": closed}
    record = {
        "header": header(bundle.card["data_fingerprint"], seeds=[0]),
        "loops": {name: loop.summary(args.seconds) for name, loop in loops.items()},
    }
    points = {name: {"due_s": loop.due_s, "ms": loop.ms} for name, loop in loops.items()}
    page = write_with_plots(
        "load",
        record,
        str(args.out),
        lambda written, folder: save(
            {**written, "points": points}, folder, [("over_time", over_time)]
        ),
    )
    print(page.read_text())


if __name__ == "__main__":
    main()
