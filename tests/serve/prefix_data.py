"""A prepared world whose texts have planted topics and near duplicates, and a head that fits it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines.data.encoder import EncoderSettings, identity
from pipelines.facts import CONTENT, CONTENT_IDS
from pipelines.prepared import note
from train.prefix.objectives import FitConfig, condition
from train.prefix.posts import PostsRun, fit_posts

SIZE = 24  # of a text vector
ENCODER_SIZE = 384  # of the default encoder's
FIT = condition("own", num_levels=1, block_sizes=(8, 8, 8)).model_copy(update={"num_epochs": 3})


def twin(post_id: int) -> int:
    """The post that says almost the same: neighbours of one coarse topic, see `texts`."""
    return TWINS[post_id]


TWINS: dict[int, int] = {}


def texts(post_id: np.ndarray, topic: np.ndarray) -> np.ndarray:
    """A unit vector for each post: its topic's, its pair's, and little of its own. [n, SIZE]."""
    rng = np.random.default_rng(0)
    of_topic = rng.normal(size=(topic.max() + 1, SIZE))
    vectors = np.empty((len(post_id), SIZE))
    for one in np.unique(topic):
        rows = np.flatnonzero(topic == one)
        pair = rng.normal(size=(len(rows) // 2 + 1, SIZE))[np.arange(len(rows)) // 2]
        vectors[rows] = of_topic[one] + pair + 0.05 * rng.normal(size=pair.shape)
        for a, b in zip(rows[::2], rows[1::2], strict=False):
            first, second = int(post_id[a]), int(post_id[b])
            TWINS.update({first: second, second: first})
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def with_texts(prepared: Path, folder: Path, encoder: EncoderSettings | None = None) -> Path:
    """A copy of a prepared world with these texts, which pass for an encoder's if there is one."""
    shutil.copytree(prepared, folder)
    posts = pq.read_table(folder / "posts.parquet").sort_by("post_id")
    topic = np.array([one[0] for one in posts["topic_ids"].to_pylist()])
    vectors = texts(posts["post_id"].to_numpy(), topic)
    story: dict[str, object] = {"identity": "planted", "encoder": {}}
    if encoder:
        story = {"identity": identity(encoder), "encoder": encoder.model_dump(mode="json")}
        vectors = np.pad(vectors, ((0, 0), (0, ENCODER_SIZE - SIZE)))
    np.save(folder / CONTENT, vectors.astype(np.float16))
    np.save(folder / CONTENT_IDS, posts["post_id"].to_numpy())
    note(folder, "content", story)
    return folder


def fitted(data: Path, out: Path, fit: FitConfig = FIT) -> Path:
    """A run of a small prefix head."""
    return fit_posts(PostsRun(data=str(data), out=str(out), fit=fit))
