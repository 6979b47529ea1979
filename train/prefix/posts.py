"""A prefix head on the texts of prepared posts: coarse topics first, what a text says after.

`python -m train configs/prefix/posts.yaml data=DATA` writes a run that `train.bundle --prefix` and
`train.content_bundle --prefix` take. The encoder stays as it is; what is learned is the head.

Axes: n posts with a text, E width of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import Config
from pipelines.encoding import pad
from pipelines.facts import Facts
from pipelines.prepared import read_manifest
from pipelines.whole import new_folder, save_json
from train import git
from train.models.prefix import SeparatedHead
from train.prefix.metrics import cosines, r_precision
from train.prefix.objectives import FitConfig, OwnObjective, condition, merged
from train.prefix.training import fit_head
from train.prefix_index import PREFIX, embed
from train.runs import CONFIG, MODEL, RESULT, RunError, read_run, read_run_for

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
_MOST_MEASURED = 2_000  # held-out posts that are compared with each other


class PostsRun(Config):
    """One head on the posts of one data set."""

    study: Literal["prefix_posts"] = "prefix_posts"
    name: str = "prefix-posts"  # artefacts go to <out>/<name>
    data: str = "artifacts/data/movielens"  # with vectors of text: python -m pipelines.data.encode
    out: str = "artifacts/runs"
    # Which of a post's topic_ids is its coarse label; of a post with several topics that are
    # equals, such as genres, 0 takes the first.
    coarse: NonNegativeInt = 0
    # Which is its fine label, where topics are listed from coarse to fine; null = the fine part
    # keeps the encoder's own similarities. Posts without one then teach nothing.
    fine: NonNegativeInt | None = None
    clusters: NonNegativeInt = 0  # k-means clusters of texts in place of topics, 0 = topics
    least_posts: PositiveInt = 5  # posts on a coarse topic; rarer ones teach nothing
    held_out: float = Field(default=0.2, gt=0, lt=1)  # of posts, to measure on
    fit: FitConfig = condition("own", num_levels=1)  # a part for topics, one for what is said
    seed: int = 0

    @field_validator("fit", mode="before")
    @classmethod
    def _over_the_default(cls, fit: Any) -> Any:
        """Settings say only what differs."""
        own = condition("own", num_levels=1).model_dump(mode="json")
        return merged(own, fit) if isinstance(fit, Mapping) else fit

    @model_validator(mode="after")
    def _fits(self) -> PostsRun:
        if not isinstance(self.fit.objective, OwnObjective):
            raise ValueError(f"fit: {self.fit.condition}, expected own, whose vectors can be cut")
        if self.clusters and self.fine is not None:
            raise ValueError("fine: clusters take the place of topics, so there is no fine one")
        return self


@dataclass(frozen=True)
class Labelled:
    """Posts with a text and a label.

    Attributes:
        post_id: sorted. int64 [n].
        content: vectors of their texts. float32 [n, E].
        labels: coarse, and if there is one, fine; numbers from 0. int64 [n, 1 or 2].
    """

    post_id: Ids
    content: Vectors
    labels: Ids

    @classmethod
    def of(cls, data: Path, run: PostsRun) -> Labelled:
        """Those of prepared data.

        Raises:
            ValueError: no vectors, or too few posts with a topic.
            FileNotFoundError: no prepared data.
        """
        facts = Facts.load(data)
        if not facts.content.shape[1]:
            raise ValueError(
                f"{data}: no vectors of text; run `python -m pipelines.data.encode {data}` first"
            )
        has = facts.content[:-1].any(axis=1)
        post_id, content = facts.post_id[has], facts.content[:-1][has]
        wanted = [run.coarse] if run.fine is None else [run.coarse, run.fine]
        if run.clusters:
            topics = _clusters(content, run.clusters, run.seed)[:, None]
        else:
            topics = _topics(data, max(wanted) + 1)[has][:, wanted]
        known = (topics > 0).all(axis=1)
        topic, num = np.unique(topics[known, 0], return_counts=True)
        common = topic[num >= run.least_posts]
        kept = known & np.isin(topics[:, 0], common)
        if len(common) < 2:
            raise ValueError(
                f"{data}: {len(common)} topics with {run.least_posts} or more posts that have a "
                "text, but a coarse part needs two; give posts topic_ids, or clusters=20 to take "
                "clusters of texts in their place"
            )
        labels = [np.unique(column, return_inverse=True)[1] for column in topics[kept].T]
        return cls(post_id[kept], content[kept], np.stack(labels, axis=1))

    def take(self, rows: Ids) -> Labelled:
        """Those at `rows`."""
        return Labelled(self.post_id[rows], self.content[rows], self.labels[rows])


def fit_posts(run: PostsRun) -> Path:
    """Fit the head and write the run; returns its folder."""
    data = Path(run.data).resolve()
    manifest, posts = read_manifest(data), Labelled.of(data, run)
    order = np.random.default_rng(run.seed).permutation(len(posts.post_id))
    num_held = max(1, int(run.held_out * len(order)))
    held, rest = posts.take(order[:num_held]), posts.take(np.sort(order[num_held:]))
    head = fit_head(rest.content, rest.labels, run.fit, run.seed).head
    assert isinstance(head, SeparatedHead)
    settings = run.model_dump(mode="json") | {
        "data": str(data),
        "learning": {"kind": PREFIX, "model": head.config.model_dump(mode="json")},
    }
    story = {
        "data_fingerprint": manifest["fingerprint"],
        "content": manifest["content"]["identity"],
        "git_commit": git.commit(),
        "epochs": [],
        "num_posts": len(rest.post_id),
        "num_held_out": len(held.post_id),
        "num_coarse": int(posts.labels[:, 0].max()) + 1,
        "labels": _said(run),
        "held_out": measures(held.take(np.arange(min(num_held, _MOST_MEASURED))), head),
    }
    with new_folder(Path(run.out) / run.name) as folder:
        save_file(head.state_dict(), folder / MODEL)
        save_json(folder / CONFIG, settings)
        save_json(folder / RESULT, story)
    return Path(run.out) / run.name


def read_prefix(run: Path, manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and weights of a run's head, for a bundle.

    Args:
        run: as `fit_posts` writes it.
        manifest: of the data that the bundle is made of.

    Raises:
        RunError: there is none, it is another kind of run, or it was made from other data or
            with another encoder.
    """
    settings = read_run_for(run, PREFIX, manifest)
    theirs = read_run(run)[1]["content"]
    if theirs != manifest.get("content", {}).get("identity"):
        raise RunError(f"{run}: learned from texts encoded otherwise than the data's are")
    return settings["learning"]["model"], load_file(run / MODEL)


def prefix_story(run: Path) -> dict[str, Any]:
    """What a bundle's card says of a run's head: what it learned from, and how well."""
    story = read_run(run)[1]
    return {name: story[name] for name in ("labels", "num_posts", "num_coarse", "held_out")}


def measures(posts: Labelled, head: SeparatedHead) -> dict[str, float]:
    """R-precision by coarse label among posts: by each prefix, and by the encoder's own vectors.

    Of a post with R others of its label, how many of its R nearest share it; the mean over posts.
    """
    vectors, size = embed(head, posts.content), head.config.part_sizes[0]
    coarse = posts.labels[:, 0]
    spaces = {f"coarse_{size}": vectors[:, :size], f"full_{vectors.shape[1]}": vectors}
    spaces |= {f"encoder_{posts.content.shape[1]}": posts.content}
    return {name: mean_r_precision(space, coarse) for name, space in spaces.items()}


def mean_r_precision(vectors: Vectors, label: Ids) -> float:
    """Mean over those [n] that share their label with another; NaN = none does."""
    found = r_precision(cosines(torch.from_numpy(np.ascontiguousarray(vectors))), label)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def _topics(data: Path, num: int) -> Ids:
    """The first `num` topics of all posts, ids sorted; 0 = no more. [N, num]."""
    posts = pq.read_table(data / "posts.parquet", columns=["post_id", "topic_ids"])
    return pad(posts.sort_by("post_id")["topic_ids"].combine_chunks().fill_null([]), num)


def _clusters(content: Vectors, num: int, seed: int) -> Ids:
    """The k-means cluster of each text, from 1. [n]."""
    kmeans = faiss.Kmeans(content.shape[1], num, niter=20, seed=seed, spherical=True)
    kmeans.train(content)
    return kmeans.index.search(content, 1)[1][:, 0] + 1


def _said(run: PostsRun) -> str:
    if run.clusters:
        return f"coarse: {run.clusters} clusters of texts; fine: the encoder's similarities"
    fine = "the encoder's similarities" if run.fine is None else f"topic_ids[{run.fine}]"
    return f"coarse: topic_ids[{run.coarse}]; fine: {fine}"
