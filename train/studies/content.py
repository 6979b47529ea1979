"""What the text of posts is good for, in four steps, each held against the one before.

1. frozen: cosine of frozen text vectors to the mean of what the viewer liked; nothing is learned.
2. projected: a learned linear map of each side, and nothing else.
3. states: transformers over frozen text vectors, towers and ranker, without any id.
4. ids_and_text: the full models, ids, context and rates with the text beside them.

Finding posts is measured over the full corpus, and ranking by how well those liked are told from
the others among what was viewed; both on a test split later than all training, beside baselines.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from configs import Config
from pipelines.data.encode import EncodeConfig, encode, over_actors
from pipelines.facts import Facts
from pipelines.features import FeatureSpec, history_inputs
from pipelines.schema import ACTION_NAMES
from train.baselines import RANKING
from train.compare import CUTOFFS
from train.content_bundle import frozen
from train.evaluate import baseline_pages, model_pages, predict
from train.index import index_posts
from train.learners import Learning, RankerLearning, RetrievalLearning
from train.loop import TrainConfig
from train.metrics import auc, ndcg_at_k, recall_at_k
from train.models.layers import TransformerConfig
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig
from train.models.text_towers import Towers, make_towers
from train.models.tokens import tensors
from train.optim import OptimConfig
from train.queries import Queries
from train.rows import Past, Rows, flatten, read_examples
from train.studies import ActionName
from train.studies.seeds import (
    Results,
    each_data_set,
    fit_seeds,
    load_run,
    mean_and_spread,
    stories,
)
from train.studies.seeds import prepared as prepared_data

Learned = Literal["projected", "states", "ids_and_text"]  # steps that are; the first is "frozen"
_TEXT_ALONE = dict.fromkeys(("ids", "context", "rates", "user_features"), False)


class Content(Config):
    """Which data, and how long its models learn."""

    # Data set -> epochs at most, of which the best by validation loss is kept.
    data: dict[str, PositiveInt] = Field(
        default={"configs/data/deskdrop.yaml": 2, "configs/data/movielens.yaml": 4}
    )
    steps: tuple[Learned, ...] = ("projected", "states", "ids_and_text")  # in this order
    relevant: ActionName = "click"  # a found post was right if this was done
    liked: ActionName = "favorite"  # what ranking is to tell
    encode: EncodeConfig = EncodeConfig()
    out: str = "artifacts/runs"  # where runs are kept
    history_len: PositiveInt = 32
    emb_size: PositiveInt = 64  # of the transformers
    num_layers: PositiveInt = 1
    projected_size: PositiveInt = 256  # with text of 384 numbers, 197 thousand weights
    batch_size: PositiveInt = 128
    projected_lr: PositiveFloat = 1e-3
    states_lr: PositiveFloat = 2e-3
    full_lr: PositiveFloat = 4e-3  # of the full models' matrices
    warmup_steps: PositiveInt = 50

    @field_validator("steps")
    @classmethod
    def _in_order(cls, steps: tuple[Learned, ...]) -> tuple[Learned, ...]:
        if list(steps) != [step for step in get_args(Learned) if step in steps]:
            raise ValueError(f"{list(steps)}: each once, and as in {list(get_args(Learned))}")
        return steps


def content(settings: Content, seeds: Sequence[int]) -> Results:
    """Run the four steps on every data set.

    Returns:
        data set -> num_queries, num_ranked and, for each measure (recall@10 …, auc), "values":
        baseline or step -> mean over seeds, with NAME_spread; "gain": step -> what it adds to the
        step before, with its spread; "seeds_with_gain": step -> in how many seeds that is above 0;
        and "runs" -> how each went. Of a data set that is not there "left_out", why.
    """

    def of(config: str) -> Results:
        data = prepared_data(config)
        encode(data, settings.encode, over_actors)  # what is encoded already is in its cache
        return {data.name: _of_data(data, settings.data[config], settings, seeds)}

    return each_data_set(settings.data, of)


def _of_data(data: Path, num_epochs: int, settings: Content, seeds: Sequence[int]) -> Results:
    task = Task.of(data, settings)
    size = task.facts.content.shape[1]
    still = task.found(frozen_towers := make_towers(frozen(size, settings.history_len)))
    still |= {"auc": task.auc(task.cosine(frozen_towers))}
    paths = {
        name: fit_seeds(run.model_copy(update={"num_epochs": num_epochs}), data, seeds)
        for name, run in runs_of(data.name, size, settings).items()
        if name.rpartition("-")[0] in settings.steps
    }
    per_seed = []
    for at, _ in enumerate(seeds):
        values = {measure: {"frozen": value} for measure, value in still.items()}
        for step in settings.steps:
            towers = load_run(paths[f"{step}-towers"][at], data)
            assert isinstance(towers, Towers)
            for measure, value in task.found(towers).items():
                values[measure][step] = value
            score = task.cosine(towers)
            if f"{step}-ranker" in paths:
                ranker = load_run(paths[f"{step}-ranker"][at], data)
                assert isinstance(ranker, Ranker)
                score = task.ranked(ranker)
            values["auc"][step] = task.auc(score)
        per_seed.append(values)
    return {
        "num_queries": len(task.queries.example),
        "num_ranked": int(task.rows.sum()),
        **{measure: held_against(task.baselines[measure], per_seed, measure) for measure in still},
        "runs": stories([run for folders in paths.values() for run in folders]),
    }


def held_against(baselines: Results, per_seed: Sequence[Results], measure: str) -> Results:
    """One measure of all steps over the seeds, and what each adds."""
    values = [seed[measure] for seed in per_seed]
    pairs = list(itertools.pairwise(values[0]))
    gains = [{step: seed[step] - seed[before] for before, step in pairs} for seed in values]
    return {
        "values": {**baselines, **mean_and_spread(values)},
        "gain": mean_and_spread(gains),
        "seeds_with_gain": {step: sum(gain[step] > 0 for gain in gains) for step in gains[0]},
    }


@dataclass(frozen=True)
class Task:
    """The test split of one data set, what is right in it, and what the baselines say.

    Attributes:
        rows: of the candidates of `test`, those whose `liked` was observed. [n].
        label: whether it was done. [rows].
        baselines: measure -> baseline -> value.
    """

    facts: Facts
    posts: pa.Table
    test: pa.Table
    queries: Queries
    corpus: NDArray[np.int64]
    candidates: Rows
    action: int
    rows: NDArray[np.bool_]
    label: NDArray[np.bool_]
    baselines: Results

    @classmethod
    def of(cls, data: Path, settings: Content) -> Task:
        """That of prepared data with vectors of text."""
        before, test = read_examples(data, "train", "validate"), read_examples(data, "test")
        both = pa.concat_tables([before, test])
        posts = pq.read_table(data / "posts.parquet").sort_by("post_id")
        corpus = posts["post_id"].to_numpy()
        relevant, action = (ACTION_NAMES.index(a) for a in (settings.relevant, settings.liked))
        queries = Queries.of(test, Past.of(both), corpus, relevant)
        baselines: Results = {}
        for name, page in baseline_pages(before, test, corpus, queries).items():
            for measure, value in _measures(queries, page).items():
                baselines.setdefault(measure, {})[name] = value
        log, candidates = flatten(both), flatten(test)
        of_test, rows = log.example >= len(before), candidates.seen(action)
        label = candidates.label(action)[rows]
        baselines["auc"] = {
            name: auc(label, score(log, action)[of_test][rows]) for name, score in RANKING.items()
        }
        facts = Facts.load(data)
        return cls(facts, posts, test, queries, corpus, candidates, action, rows, label, baselines)

    def found(self, towers: Towers) -> dict[str, float]:
        """How much of what was right is among the nearest posts of the corpus."""
        index = index_posts(towers, self.posts, self.facts)
        return _measures(
            self.queries,
            model_pages(towers, index, self.facts, self.corpus, self.test, self.queries),
        )

    @torch.inference_mode()
    def cosine(self, towers: Towers) -> NDArray[np.float32]:
        """Nearness of each candidate to its viewer as of the visit. [n]."""
        user = towers.user(tensors(history_inputs(self.test, towers.config.features, self.facts)))
        index = index_posts(towers, self.posts, self.facts)
        posts = index.vectors.reconstruct_n(0, len(self.corpus))
        at = np.searchsorted(self.corpus, self.candidates.post_id)
        return (user.numpy()[self.candidates.example] * posts[at]).sum(axis=1)

    def ranked(self, ranker: Ranker) -> NDArray[np.float32]:
        """What the ranker says of `liked` for each candidate. [n]."""
        return predict(ranker, self.test, self.facts)[:, self.action]

    def auc(self, score: NDArray[np.float32]) -> float:
        """Of the rows that tell, from scores of all candidates [n]."""
        return auc(self.label, score[self.rows])


def _measures(queries: Queries, page: NDArray[np.int64]) -> dict[str, float]:
    hits = queries.hits(page)
    num_relevant = np.bincount(queries.relevant[0], minlength=len(queries.example))
    found = {f"recall@{k}": float(recall_at_k(hits, num_relevant, k).mean()) for k in CUTOFFS}
    return {**found, "ndcg@10": float(ndcg_at_k(hits, num_relevant, 10).mean())}


def runs_of(data: str, size: int, settings: Content) -> dict[str, TrainConfig]:
    """What is trained on a data set, by step and model."""
    D = settings.emb_size
    full = FeatureSpec(history_len=settings.history_len, content_size=size)
    alone = full.model_copy(update=_TEXT_ALONE)
    shape = TransformerConfig(num_layers=settings.num_layers)
    slow, fast, full_rate = (
        OptimConfig(lr=lr, warmup_steps=settings.warmup_steps)
        for lr in (settings.projected_lr, settings.states_lr, settings.full_lr)
    )
    projected = RetrievalConfig(emb_size=settings.projected_size, features=alone, text="projected")
    models: dict[str, tuple[Learning, OptimConfig]] = {
        "projected-towers": (RetrievalLearning(model=projected), slow)
    }
    for step, spec, optim in (("states", alone, fast), ("ids_and_text", full, full_rate)):
        towers = RetrievalConfig(
            emb_size=D, transformer=shape, features=spec, post_context=spec.context
        )
        ranker = RankerConfig(emb_size=D, transformer=shape, features=spec)
        models[f"{step}-towers"] = RetrievalLearning(model=towers), optim
        models[f"{step}-ranker"] = RankerLearning(model=ranker), optim
    return {
        name: TrainConfig(
            name=f"content-{data}-{name}",
            out=settings.out,
            learning=learning,
            optim=optim,
            batch_size=settings.batch_size,
        )
        for name, (learning, optim) in models.items()
    }
