"""`python -m tests.bench.plain_server BUNDLE [--port N]`: a bundle's models behind HTTP, by hand.

What somebody would write without Ray: one uvicorn process that reads a viewer's history, asks the
user tower, searches FAISS, ranks what it finds and answers the best posts as JSON. No filters, no
rules of the page, no stores, no log, no explanation. A floor that `tests.bench.bench_load` holds
the served feed against.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn

from pipelines.features import candidate_inputs, history_inputs, history_rows
from serve.stores.profiles import ProfileStore
from train.bundle import Bundle, load
from train.models.ranker import Ranker
from train.models.tokens import tensors


class PlainFeed:
    """Retrieval, ranking and a weighted sum, for one viewer at a time."""

    def __init__(self, bundle: Bundle, num_candidates: int) -> None:
        """Load the models of `bundle`, whose ranker must not be one by text alone."""
        self._towers, self._ranker = bundle.load_two_tower(), bundle.load_ranker()
        assert isinstance(self._ranker, Ranker)
        self._index, self._facts = bundle.load_index(), bundle.facts
        self._profiles, self._now_ms = ProfileStore(bundle.profiles), bundle.as_of_ms
        author = dict(
            zip(*(bundle.posts[c].to_pylist() for c in ("post_id", "author_id")), strict=True)
        )
        self._author = np.array([author[post] or 0 for post in self._index.post_id.tolist()])
        self._num, self._actions, self._weights = num_candidates, bundle.actions, bundle.weights

    @torch.inference_mode()
    def page(self, user_id: int, limit: int) -> dict[str, Any]:
        """The best posts; none for a viewer without a history."""
        history = self._profiles.history(user_id)
        if history is None:
            return {"user_id": user_id, "degraded": [], "posts": []}
        rows = history_rows([history], [self._now_ms])
        spec = self._towers.config.features
        query = self._towers.user(tensors(history_inputs(rows, spec, self._facts)))
        found, _ = self._index.nearest(query.numpy(), self._num)
        post_id, author_id = self._index.post_id[found], self._author[found]
        spec = self._ranker.config.features
        surface = np.full(post_id.shape, int(history.surface[-1:].sum()))
        at_ms = np.full(post_id.shape, self._now_ms)
        asked = (post_id, author_id, surface, at_ms)
        inputs = history_inputs(rows, spec, self._facts)
        inputs |= candidate_inputs(rows, *asked, spec, self._facts)
        p_action = self._ranker.predict(tensors(inputs)).numpy()[0]
        score = p_action @ self._weights
        posts = [
            {
                "post_id": int(post_id[0, row]),
                "author_id": int(author_id[0, row]),
                "rank": rank,
                "score": float(score[row]),
                "p_action": dict(zip(self._actions, p_action[row].tolist(), strict=True)),
            }
            for rank, row in enumerate(np.argsort(-score)[:limit], start=1)
        ]
        return {"user_id": user_id, "degraded": [], "posts": posts}


def app_of(feed: PlainFeed) -> Any:
    """An ASGI application: any POST is a request for a page, any GET asks whether it is there."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        told: dict[str, Any] = {}
        if scope["method"] == "POST":
            asked = json.loads(body)
            told = await asyncio.to_thread(feed.page, asked["user_id"], asked.get("limit", 20))
        answer = json.dumps(told, separators=(",", ":")).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def main() -> None:
    """Serve on loopback until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plain_server")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--candidates", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    feed = PlainFeed(load(args.bundle), args.candidates)
    settings: dict[str, Any] = {"host": "127.0.0.1", "log_level": "warning", "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app_of(feed), port=args.port, **settings))

    def stop() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop, daemon=True).start()
    server.run()


if __name__ == "__main__":
    main()
