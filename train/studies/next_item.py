"""The next item of every viewer, found among all: the protocol of published sequence models.

Each viewer's last event is asked for, knowing all before it; all posts are ranked, those the
viewer met before are left out, and of equal scores the asked-for post stands last. Settings are
chosen on the second-last events (the validate split); the last ones are looked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from configs import Config
from pipelines.encoding import pad
from pipelines.facts import Facts, find
from pipelines.features import history_inputs
from pipelines.intervals import bootstrap_interval
from train.baselines import Retriever, fit_retrievers
from train.index import index_posts
from train.learners.corpus import Corpus
from train.loop import TrainConfig
from train.metrics import mean
from train.models.retrieval import TwoTower
from train.models.tokens import tensors
from train.rows import Past, ranges, read_examples
from train.studies.seeds import Results, fit_seeds, load_run, mean_and_spread, prepared, stories

Ids = NDArray[np.int64]
Scorer = Callable[[slice], NDArray[np.float32]]  # viewers -> a score for every post
_BATCH = 256  # viewers scored at once
_AT = 10  # of hit rate and NDCG
_NUM_LIKED = 200  # newest events that a baseline looks at


class NextItem(Config):
    """What is trained and on which data."""

    data: str = "configs/data/ml-1m.yaml"
    run: TrainConfig


def next_item(settings: NextItem, seeds: tuple[int, ...]) -> Results:
    """Train a run per seed and set it beside the baselines.

    Returns:
        split ("validate", "test") -> model -> hr10 and ndcg10, with spread and 95 % intervals
        over viewers, and each seed's; of "test" also each baseline's; runs -> how each went.

    Raises:
        InputError: the data is missing; the text says what to fetch.
    """
    data = prepared(settings.data)
    runs = fit_seeds(settings.run, data, seeds)
    results: Results = {}
    for split in ("validate", "test"):
        asked = Asked.of(data, split)
        ranks = [asked.ranks(_scorer(run, data, asked)) for run in runs]
        each = [measures(rank) for rank in ranks]
        results[split] = {"model": mean_and_spread(each) | _intervals(ranks)}
        for run, values in zip(runs, each, strict=True):
            results[split][run.name] = values
        if split == "validate":
            continue  # baselines take minutes and choose nothing here
        for name, baseline in fit_retrievers(asked.past, asked.corpus, with_clock=False).items():
            rank = asked.ranks(partial(_of_baseline, baseline, asked))
            results[split][name] = measures(rank)
    results["runs"] = stories(runs)
    return results


def measures(rank: Ids) -> dict[str, float]:
    """Hit rate and NDCG of one asked-for post a viewer at these ranks, 0 = first. [Q]."""
    hit = rank < _AT
    return {"hr10": float(hit.mean()), "ndcg10": float((hit / np.log2(rank + 2.0)).mean())}


def strict_rank(scores: NDArray[np.float32], target: Ids, seen: Ids) -> Ids:
    """How many other posts score at least as high as the asked-for one.

    Args:
        scores: [Q, P].
        target: row of the asked-for post, which counts whether seen or not. [Q].
        seen: rows that are left out, -1 = padding. [Q, S].

    Returns:
        int64 [Q], 0 = first.

    Raises:
        ValueError: a score is NaN, or an asked-for post is none of the corpus.
    """
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {scores.size} scores are NaN")
    if (target < 0).any():
        raise ValueError(f"{(target < 0).sum()} of {len(target)} asked-for posts are unknown")
    query = np.arange(len(scores))
    own = scores[query, target]
    left = np.concatenate([scores, np.zeros((len(scores), 1), scores.dtype)], axis=1)
    left[query[:, None], seen] = -np.inf  # -1 is the added column
    left[query, target] = -np.inf
    return (left[:, :-1] >= own[:, None]).sum(axis=1)


@dataclass(frozen=True)
class Asked:
    """One event of each viewer to be found, and what was known before it.

    Attributes:
        visits: rows of schema.EXAMPLES with one post shown.
        corpus: ids of all posts, sorted. int64 [P].
        target: corpus row of the asked-for post. int64 [Q].
        met: corpus rows of the viewer's earlier posts, oldest first, -1 = padding. int64 [Q, S].
        past: all events before the asked-for ones.
    """

    visits: pa.Table
    corpus: Ids
    target: Ids
    met: Ids
    past: Past

    @classmethod
    def of(cls, data: Path, split: str) -> Asked:
        """The questions of one split of data that was split with leave_last_out."""
        before = ("train",) if split == "validate" else ("train", "validate")
        visits, past = read_examples(data, split), Past.of(read_examples(data, *before))
        corpus = Corpus.load(data).post_id
        start, end = past.before(visits["user_id"].to_numpy(), visits["at_ms"].to_numpy())
        place, which = ranges(start, end)
        met = np.full((len(start), int((end - start).max(initial=1))), -1)
        met[which, place - start[which]] = find(past.post_id[place], corpus)
        target = find(pad(visits["post_id"], 1)[:, 0], corpus)
        return cls(visits, corpus, target, met, past)

    def ranks(self, scorer: Scorer) -> Ids:
        """The rank of each asked-for post, as `strict_rank`."""
        parts = [slice(at, at + _BATCH) for at in range(0, len(self.target), _BATCH)]
        ranked = [strict_rank(scorer(part), self.target[part], self.met[part]) for part in parts]
        return np.concatenate(ranked)


def _of_baseline(baseline: Retriever, asked: Asked, part: slice) -> NDArray[np.float32]:
    met = asked.met[part]
    length = (met >= 0).sum(axis=1)
    newest = np.arange(-_NUM_LIKED, 0) + length[:, None]  # slots of the newest, oldest first
    return baseline.scores(
        np.where(newest >= 0, np.take_along_axis(met, np.maximum(newest, 0), 1), -1)
    )


def _scorer(run: Path, data: Path, asked: Asked) -> Scorer:
    """A trained run's inner products of viewers and posts."""
    towers, facts = load_run(run, data), Facts.load(data)
    assert isinstance(towers, TwoTower)
    posts = pq.read_table(data / "posts.parquet").sort_by("post_id")  # as the corpus is
    vectors = index_posts(towers, posts, facts).vectors.reconstruct_n(0, len(posts))

    def scores(part: slice) -> NDArray[np.float32]:
        rows = asked.visits.slice(part.start, part.stop - part.start)
        inputs = tensors(history_inputs(rows, towers.config.features, facts))
        with torch.inference_mode():
            return towers.user(inputs).numpy() @ vectors.T

    return scores


def _intervals(ranks: Sequence[Ids]) -> dict[str, tuple[float, float]]:
    """95 % intervals of the runs' means when viewers are drawn anew."""
    rank = np.stack(ranks)
    hit = rank < _AT
    values = {"hr10": hit.mean(axis=0), "ndcg10": (hit / np.log2(rank + 2.0)).mean(axis=0)}
    return {
        f"{name}_interval": bootstrap_interval(np.arange(len(value)), partial(mean, value))
        for name, value in values.items()
    }
