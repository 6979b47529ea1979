"""What it does to finding posts that towers read prefix embeddings instead of the encoder's.

The same towers twice, from text alone and with ids beside it: `off` over the encoder's vectors,
`on` over those of a prefix head that was fitted to the same posts. Full corpus, test split later
than all training, beside baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from configs import Config, check
from pipelines.data.encode import encode, over_actors
from train.learners import RetrievalLearning
from train.loop import TrainConfig
from train.models.retrieval import TwoTower
from train.models.text_towers import TextTowers
from train.prefix.posts import PostsRun, fit_posts
from train.studies.content import Content, Task, held_against, runs_of
from train.studies.seeds import (
    Results,
    each_data_set,
    fit_seeds,
    load_run,
    stories,
)
from train.studies.seeds import prepared as prepared_data

TOWERS = ("states", "ids_and_text")  # steps of the study of content


class PrefixTowers(Config):
    """Which data, which heads; towers are those of the study of content."""

    # Data set -> what differs from the settings of a head on its posts.
    heads: dict[str, dict[str, Any]] = Field(
        default={"configs/data/deskdrop.yaml": {"clusters": 20}, "configs/data/movielens.yaml": {}}
    )
    content: Content = Content()


def prefix_towers(settings: PrefixTowers, seeds: Sequence[int]) -> Results:
    """Train the towers with and without prefix embeddings on every data set.

    Returns:
        data set -> num_queries, head (its labels and measures on held-out posts), runs, and by
        step and measure (recall@10 …): "values", "gain" of `on` over `off`, "seeds_with_gain".
        Of a data set that is not there "left_out", why.
    """

    def of(config: str) -> Results:
        data = prepared_data(config)
        encode(data, settings.content.encode, over_actors)
        return {data.name: _of_data(config, data, settings, seeds)}

    return each_data_set(settings.heads, of)


def _of_data(config: str, data: Path, settings: PrefixTowers, seeds: Sequence[int]) -> Results:
    content = settings.content
    task = Task.of(data, content)
    made = {"name": f"prefix-{data.name}", "data": str(data), "out": content.out}
    head = fit_posts(check(settings.heads[config] | made, PostsRun, place=f"heads.{config}"))
    off = runs_of(data.name, task.facts.content.shape[1], content)
    results: Results = {"num_queries": len(task.queries.example)}
    folders: list[Path] = []
    for step in TOWERS:
        run = off[f"{step}-towers"].model_copy(update={"num_epochs": content.data[config]})
        both = {"off": run, "on": _reading(run, head)}
        trained = {name: fit_seeds(one, data, seeds) for name, one in both.items()}
        per_seed = []
        for at, _ in enumerate(seeds):
            values: dict[str, dict[str, float]] = {}
            for name, runs in trained.items():
                towers = load_run(runs[at], data)
                assert isinstance(towers, TwoTower | TextTowers)
                for measure, value in task.found(towers).items():
                    values.setdefault(measure, {})[name] = value
            per_seed.append(values)
        results[step] = {
            measure: held_against(task.baselines[measure], per_seed, measure)
            for measure in per_seed[0]
        }
        folders += [folder for runs in trained.values() for folder in runs]
    return results | {"head": stories([head]), "runs": stories(folders)}


def _reading(run: TrainConfig, head: Path) -> TrainConfig:
    """The run with prefix embeddings."""
    learning = run.learning
    assert isinstance(learning, RetrievalLearning)
    learning = learning.model_copy(update={"prefix": str(head.resolve())})
    return run.model_copy(update={"name": f"{run.name}-prefix", "learning": learning})
