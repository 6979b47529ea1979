"""A bundle with as many made-up posts as asked for, to measure what posts cost.

Its models are untrained; what it holds of a post is as large as of a real one: a text of twenty
words, two topics, one count of how often it was shown, a vector of text and one of the post tower.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.synthetic import SyntheticConfig, World
from pipelines.facts import CONTENT, CONTENT_IDS, RATES
from pipelines.schema import DAY_MS
from tests.conftest import prepare_world, write_bundle
from train.index import PostIndex

WIDTH = 64  # of the post tower's vectors
TEXT_WIDTH = 384  # of the default encoder's
NUM_WORDS = 20
PER_AUTHOR = 20  # posts
_DIFFERENT = 20_000  # texts, each many times
_AT_ONCE = 65_536


def base(folder: Path) -> Path:
    """A bundle of a small world."""
    config = SyntheticConfig(num_users=150, num_authors=30, num_posts=800, num_events=8_000)
    World.make(config).write(folder / "log")
    return write_bundle(prepare_world(folder / "log", folder / "data"), folder)


def grown(bundle: Path, num_posts: int, folder: Path) -> Path:
    """A copy of `bundle` with these posts instead of its own, at `folder`."""
    shutil.copytree(bundle, folder)
    rng, ids = np.random.default_rng(0), np.arange(1, num_posts + 1)
    tables = folder / "tables"
    old = pq.read_table(tables / "posts.parquet")
    newest_ms = int(old["created_at_ms"].to_numpy().max())
    pq.write_table(_posts(rng, ids, newest_ms, old.schema), tables / "posts.parquet")
    file = tables / RATES / "post.parquet"
    counts = pq.read_table(file)
    drawn = {
        name: pa.array(rng.integers(0, 100, num_posts).astype(np.float64)).cast(
            counts.schema.field(name).type, safe=False
        )
        for name in counts.schema.names[1:]
    }
    drawn["from_ms"] = pa.array(np.full(num_posts, newest_ms)).cast(
        counts.schema.field("from_ms").type
    )
    columns = {"id": pa.array(ids), **drawn}
    pq.write_table(pa.table(columns).select(counts.schema.names), file)
    np.save(tables / CONTENT_IDS, ids)
    shape = (num_posts, TEXT_WIDTH)
    content = np.lib.format.open_memmap(tables / CONTENT, mode="w+", dtype="f2", shape=shape)
    for first in range(0, num_posts, _AT_ONCE):
        rows = content[first : first + _AT_ONCE]
        rows[:] = rng.random(rows.shape, np.float32) - 0.5
    content.flush()
    flat(rng, ids, WIDTH).save(folder / "index")
    return folder


def flat(rng: np.random.Generator, ids: np.ndarray, width: int) -> PostIndex:
    """An index of drawn vectors, without a graph whatever their number."""
    index = faiss.IndexFlatIP(width)
    for first in range(0, len(ids), _AT_ONCE):
        index.add(rng.random((len(ids[first : first + _AT_ONCE]), width), np.float32) - 0.5)
    return PostIndex(ids, index)


def _posts(
    rng: np.random.Generator, ids: np.ndarray, newest_ms: int, schema: pa.Schema
) -> pa.Table:
    num = len(ids)
    words = np.array([f"word{n}" for n in range(50_000)])
    drawn = np.minimum(rng.zipf(1.3, (_DIFFERENT, NUM_WORDS)), len(words)) - 1
    texts = pa.array([" ".join(row) for row in words[drawn]])
    parents = np.where(rng.random(num) < 0.3, np.maximum(ids - rng.integers(1, 1000, num), 1), 0)
    columns = {
        "post_id": pa.array(ids),
        "author_id": pa.array(1 + rng.integers(0, max(num // PER_AUTHOR, 1), num)),
        "created_at_ms": pa.array(newest_ms - np.sort(rng.integers(0, 90 * DAY_MS, num))[::-1]),
        "text": texts.take(pa.array(rng.integers(0, _DIFFERENT, num))),
        "language": pa.array(np.array(["en", "de", "ja"])[rng.integers(0, 3, num)]),
        "reply_to_post_id": pa.array(parents, mask=(parents == 0) | (parents == ids)),
        "topic_ids": pa.ListArray.from_arrays(
            pa.array(np.arange(0, 2 * num + 1, 2), pa.int32()),
            pa.array(rng.integers(1, 100, 2 * num)),
        ),
        "popularity": pa.array(rng.random(num)),
        "num_shown": pa.array(rng.integers(0, 1000, num)),
    }
    return pa.table(
        {
            field.name: columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(num, field.type)
            for field in schema
        }
    )
