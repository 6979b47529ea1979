"""A made-up social network with planted tastes, for tests and closed-loop runs.

Planted, so that a model can be asked whether it found it:

* topics in two levels; a viewer likes some fine topics and, less, their siblings;
* authors write on a primary and a secondary topic, well or badly; a few are spammers;
* viewers follow authors of their topics, and engage more with those they follow;
* originals, replies (threads of any depth), reposts and quotes, each younger than its parent;
* a feed that shows followed, topical and popular posts, none before it exists, none twice,
  never the viewer's own; lower places are looked at less;
* all 19 actions: the negative ones come of mismatched, bad and spam posts; dwell times are
  log-logistic, and the `dwell` and `vqv` actions follow from them;
* viewers differ in activity, hours, generosity (positive actions) and temper (negative ones).

Not planted: tastes that drift, text beyond topic words, actions that change the graph or write
posts, a feed that learns from its log (the exposure policy is fixed), actions that depend on
each other once viewer and post are given (save dwell and vqv).

Accounts are users 1..num_users; the first num_authors of them also write. Topic ids are
1..num_coarse for coarse topics, then the fine ones. Accounts, posts and follows do not depend
on num_events. `python -m pipelines.data.synthetic OUT [key=value ...]` writes a world.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from configs import check, parse_overrides
from pipelines.data import synthetic_draws as draw
from pipelines.data.synthetic_draws import SyntheticConfig
from pipelines.data.synthetic_truth import Truth
from pipelines.schema import ACTION_NAMES, DAY_MS, EVENTS, FOLLOWS, POSTS, USERS

__all__ = ["SyntheticConfig", "World"]


@dataclass(frozen=True)
class World:
    """Tables of the contract (schema.EVENTS, POSTS, USERS, FOLLOWS) and the truth behind them."""

    config: SyntheticConfig
    events: pa.Table  # oldest first
    posts: pa.Table  # oldest first
    users: pa.Table
    follows: pa.Table
    truth: Truth

    @classmethod
    def make(cls, config: SyntheticConfig) -> World:
        """Draw a world; the same config gives the same tables to the byte.

        Raises:
            ValueError: fewer unseen posts than num_events asks for.
        """
        people, authors, graph, posts, log = (
            np.random.default_rng([config.seed, stage]) for stage in range(5)
        )
        taste = draw.tastes(people, config)
        fame, home, away, quality, spam = draw.authors(authors, config)
        edges = draw.follows(graph, config, taste, fame, home)
        wall = draw.posts(posts, config, fame, home, away, quality, spam)
        truth = Truth(
            taste=taste,
            topic=wall["topic"],
            author=wall["author"],
            quality=wall["quality"],
            spam=spam[wall["author"]],
            duration_s=wall["duration_s"],
            quotes=wall["kind"] == 3,
            follows=edges[:, 0] * config.num_users + edges[:, 1],
            generosity=people.normal(0, 0.5, config.num_users),
            temper=people.normal(0, 0.5, config.num_users),
        )
        return cls(
            config=config,
            events=_events(log, config, truth, wall["at_ms"]),
            posts=_post_table(posts, config, wall),
            users=_user_table(people, config, edges),
            follows=_follow_table(graph, config, edges),
            truth=truth,
        )

    def oracle(self, user_id: NDArray[np.int64], post_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """True chance that each viewer, looking at the post, takes each action.

        Returns:
            [n, A] in the order of schema.ACTIONS; the dwell_time column holds expected
            seconds. Posts that were scrolled past have none of it, so logged rates are
            lower, the more so the lower the place.
        """
        seen = self.truth.meet(np.asarray(user_id) - 1, np.asarray(post_id) - 1)
        return np.stack([seen.chance(name) for name in ACTION_NAMES], axis=1)

    def write(self, folder: str | Path) -> None:
        """Write `folder/<table>/part-00000.parquet` for each table."""
        for name in ("events", "posts", "users", "follows"):
            path = Path(folder) / name
            path.mkdir(parents=True, exist_ok=True)
            pq.write_table(getattr(self, name), path / "part-00000.parquet")


def _events(
    rng: np.random.Generator,
    config: SyntheticConfig,
    truth: Truth,
    written_ms: NDArray[np.int64],
) -> pa.Table:
    """The log, oldest first; columns of schema.EVENTS."""
    page = draw.pages(rng, config, truth, written_ms)
    examined = rng.random(len(page["user"])) < 1 / (1 + 0.15 * page["position"])
    meeting = truth.meet(page["user"], page["post"])
    did = meeting.draw(rng, examined)
    dwell_s = did.pop("dwell_time")
    # Slot k comes on screen when the k before it have been left.
    gap = (dwell_s * 1000).astype(np.int64) + 300
    left = np.cumsum(gap) - gap
    start = np.flatnonzero(page["position"] == 0)
    late = left - np.repeat(left[start], np.diff(np.append(start, len(left))))
    shown_ms = page["asked_ms"] + late
    order = np.argsort(shown_ms, kind="stable")
    names = {"user_id": page["user"] + 1, "post_id": page["post"] + 1, "shown_at_ms": shown_ms}
    columns = {
        **names,
        "surface": page["surface"].astype(np.int16),
        "position": page["position"].astype(np.int16),
        "dwell_s": dwell_s.astype(np.float32),
        **did,
    }
    arrays = {name: pa.array(values[order]) for name, values in columns.items()}
    day = (shown_ms[order] // DAY_MS).astype(np.int32)
    arrays["log_date"] = pa.array(day).cast(pa.date32())  # the log keeps UTC
    arrays["event_id"] = _named("e", np.arange(len(order)))
    arrays["request_id"] = _named("r", page["request"][order])
    return pa.table([arrays[name] for name in EVENTS.arrow.names], schema=EVENTS.arrow)


def _named(prefix: str, number: NDArray[np.int64]) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(number), pa.string()), "")


def _post_table(
    rng: np.random.Generator, config: SyntheticConfig, wall: dict[str, NDArray]
) -> pa.Table:
    fine, num = config.num_fine, config.num_posts
    coarse = wall["topic"] // fine
    topics = np.stack([coarse + 1, config.num_coarse + 1 + wall["topic"]], axis=1)
    words = rng.integers(30, size=(num, 3))  # each fine topic has thirty words of its own
    text = [
        f"coarse{c} " + " ".join(f"fine{t}word{w}" for w in row)
        for c, t, row in zip(coarse, wall["topic"], words, strict=True)
    ]
    for post in np.flatnonzero(wall["kind"] == 2):
        text[post] = text[wall["parent"][post]]

    def parent_if(kind: int) -> pa.Array:
        return pa.array(wall["parent"] + 1, mask=wall["kind"] != kind)

    columns = {
        "post_id": np.arange(1, num + 1),
        "author_id": wall["author"] + 1,
        "created_at_ms": wall["at_ms"],
        "duration_s": pa.array(wall["duration_s"].astype(np.float32), from_pandas=True),
        "topic_ids": topics.tolist(),
        "text": text,
        "language": ["en"] * num,
        "reply_to_post_id": parent_if(1),
        "repost_of_post_id": parent_if(2),
        "quote_of_post_id": parent_if(3),
    }
    return pa.table(columns, schema=POSTS.arrow)


def _user_table(
    rng: np.random.Generator, config: SyntheticConfig, edges: NDArray[np.int64]
) -> pa.Table:
    num = config.num_users
    created_ms = config.start_ms - (rng.random(num) * 900 + 400) * DAY_MS
    columns = {
        "user_id": np.arange(1, num + 1),
        "created_at_ms": created_ms.astype(np.int64),
        "num_followers": np.bincount(edges[:, 1], minlength=num),
        "num_following": np.bincount(edges[:, 0], minlength=num),
        "language": ["en"] * num,
        "country": np.array(["DE", "IN", "BR", "US"])[rng.integers(4, size=num)],
        "attributes": [
            [f"client={c}"] for c in np.array(["web", "app"])[rng.integers(2, size=num)]
        ],
    }
    return pa.table(columns, schema=USERS.arrow)


def _follow_table(
    rng: np.random.Generator, config: SyntheticConfig, edges: NDArray[np.int64]
) -> pa.Table:
    since_ms = config.start_ms - (1 + rng.random(len(edges)) * 390) * DAY_MS
    columns = [edges[:, 0] + 1, edges[:, 1] + 1, since_ms.astype(np.int64)]
    return pa.table([pa.array(column) for column in columns], schema=FOLLOWS.arrow)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a world from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.data.synthetic", description="Write a made-up world's log."
    )
    parser.add_argument("out", type=Path, help="folder to write events, posts, users, follows to")
    parser.add_argument("overrides", nargs="*", help="settings as key=value, such as seed=1")
    args = parser.parse_args(arguments)
    try:
        values = parse_overrides(args.overrides)
        World.make(check(values, SyntheticConfig, place="synthetic")).write(args.out)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
