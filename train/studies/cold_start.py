"""What is said of viewers with hardly a past, and of posts that training never met.

New viewers: models and baselines on the visits before which a viewer had fewer than a handful of
events. Unseen posts: a ranker that reads semantic ids beside one that does not, all else equal,
on the test rows whose post is nowhere in the training split. Codes from behaviour know no such
post: `num_rows_with_codes` says how many of the rows have any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import PositiveInt

from configs import Config
from pipelines.data.encode import EncodeConfig, over_actors
from pipelines.data.encode import encode as encode_texts
from pipelines.facts import Facts
from pipelines.features import FeatureSpec
from pipelines.intervals import bootstrap_interval
from pipelines.schema import ACTION_NAMES
from train.compare import compare_ranking, mean_of, minus, with_spread
from train.evaluate import evaluate_retrieval, predict
from train.index import index_posts
from train.learners import Learning, RankerLearning, RetrievalLearning
from train.loop import TrainConfig
from train.metrics import auc_of_weights
from train.models.layers import TransformerConfig
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig
from train.models.text_towers import Towers
from train.rows import Past, Rows, flatten, read_examples
from train.semantic_ids import SemanticIds, make
from train.studies import ActionName
from train.studies.seeds import Results, each_data_set, fit_seeds, load_run, prepared, stories

Mask = NDArray[np.bool_]
_FEWEST = 20  # rows without which an AUC says nothing


class ColdData(Config):
    """One data set, and what is asked of it."""

    config: str  # a file of configs/data/
    source: Literal["text", "behaviour"]  # of the semantic ids
    ranked: ActionName = "click"  # the action that ranking is to tell
    relevant: ActionName = "click"  # a found post was right if this was done


class ColdStart(Config):
    """Which data, who is new, and the models that are trained."""

    data: tuple[ColdData, ...] = (
        ColdData(config="configs/data/kuairand.yaml", source="behaviour"),
        ColdData(config="configs/data/deskdrop.yaml", source="text", ranked="favorite"),
    )
    num_events: PositiveInt = 5  # a viewer with fewer before a visit is new
    semantic_ids: SemanticIds = SemanticIds()  # but for their source
    encode: EncodeConfig = EncodeConfig()  # of texts that have no vectors yet
    out: str = "artifacts/runs"  # where runs are kept
    history_len: PositiveInt = 32
    emb_size: PositiveInt = 64
    num_layers: PositiveInt = 1
    num_epochs: PositiveInt = 1
    batch_size: PositiveInt = 256


def cold_start(settings: ColdStart, seeds: Sequence[int]) -> Results:
    """Train the models, once per seed, and look at the cold rows of the test split.

    Returns:
        data set -> codes, of how many posts; new_viewers -> ranking and retrieval as
        `compare_ranking` (AUC) and `compare_retrieval` give them; posts -> "unseen" and "seen"
        -> rows, and AUC of a ranker with and without codes, their difference and its 95 %
        interval over viewers. All are means over the seeds; and "runs" -> how each went. Of a data
        set that is not there "left_out", why.
    """
    by_config = {asked.config: asked for asked in settings.data}

    def of(config: str) -> Results:
        asked, data = by_config[config], prepared(config)
        if asked.source == "text":
            encode_texts(data, settings.encode, over_actors)
        ids = settings.semantic_ids.model_copy(update={"source": asked.source})
        made = make(data, ids)
        runs = {
            name: fit_seeds(run, data, seeds) for name, run in _runs(data, ids, settings).items()
        }
        results = {"codes": made["posts"], **_measure(data, runs, asked, settings)}
        return {data.name: results | {"runs": stories([r for each in runs.values() for r in each])}}

    return each_data_set(by_config, of)


def _runs(data: Path, ids: SemanticIds, settings: ColdStart) -> dict[str, TrainConfig]:
    """Rankers with and without codes, and the towers, which go by ids alone."""
    shape = TransformerConfig(num_layers=settings.num_layers)
    plain = FeatureSpec(history_len=settings.history_len)
    coded = plain.model_copy(update={"num_code_levels": ids.num_levels})
    D = settings.emb_size
    learning: dict[str, Learning] = {
        "without_codes": RankerLearning(
            model=RankerConfig(emb_size=D, transformer=shape, features=plain)
        ),
        f"with_codes-{ids.source}-{ids.num_codes}": RankerLearning(
            model=RankerConfig(emb_size=D, transformer=shape, features=coded)
        ),
        "towers": RetrievalLearning(
            model=RetrievalConfig(emb_size=D, transformer=shape, features=plain)
        ),
    }
    return {
        name.partition("-")[0]: TrainConfig(
            name=f"cold-{data.name}-{name}",
            out=settings.out,
            learning=kind,
            num_epochs=settings.num_epochs,
            batch_size=settings.batch_size,
        )
        for name, kind in learning.items()
    }


def _measure(
    data: Path, runs: dict[str, list[Path]], asked: ColdData, settings: ColdStart
) -> Results:
    """The cold rows of one data set, with the models of all seeds."""
    before, test = read_examples(data, "train", "validate"), read_examples(data, "test")
    examples = pa.concat_tables([before, test])
    log, facts = flatten(examples), Facts.load(data)
    of_test = log.example >= len(before)
    said: dict[str, list[NDArray[np.float32]]] = {"with_codes": [], "without_codes": []}
    for name, predictions in said.items():
        for run in runs[name]:
            ranker = load_run(run, data)
            assert isinstance(ranker, Ranker)
            predictions.append(predict(ranker, test, facts))
    posts, searched = pq.read_table(data / "posts.parquet"), []
    for run in runs["towers"]:
        towers = load_run(run, data)
        assert isinstance(towers, Towers)
        searched.append((towers, index_posts(towers, posts, facts)))
    met = np.unique(Past.of(read_examples(data, "train")).post_id)
    rows = flatten(test)
    unseen = ~np.isin(rows.post_id, met)
    coded = facts.codes[facts.post_row(rows.post_id)].any(axis=1)
    new = pc.list_value_length(test["history_post_id"]).to_numpy() < settings.num_events
    action = ACTION_NAMES.index(asked.ranked)
    return {
        "new_viewers": {
            "num_visits": int(new.sum()),
            "num_viewers": len(np.unique(test["user_id"].to_numpy()[new])),
            "ranking": _ranking(log, of_test, new[rows.example], said["without_codes"], action),
            "retrieval": evaluate_retrieval(searched, facts, before, test, asked.relevant, new),
        },
        "posts": {
            name: {"num_rows_with_codes": int((coded & kept).sum())}
            | codes_on_off(
                rows.take(kept),
                action,
                *([p[kept, action] for p in each] for each in said.values()),
            )
            for name, kept in (("unseen", unseen), ("seen", ~unseen))
        },
    }


def _ranking(
    log: Rows, of_test: Mask, kept: Mask, predicted: Sequence[NDArray[np.float32]], action: int
) -> Results:
    """AUC of one action on some of the test rows, beside the baselines."""
    chosen = of_test.copy()
    chosen[of_test] = kept
    name = ACTION_NAMES[action]
    asked = replace(log, observed=log.observed & (1 << action))  # other actions are not
    compared = compare_ranking(asked, chosen, [p[kept] for p in predicted], {})
    if name not in compared["auc"]:
        return {"num_rows": 0}
    return {**compared["rows"][name], "auc": compared["auc"][name]}


def codes_on_off(
    rows: Rows,
    action: int,
    with_codes: Sequence[NDArray[np.float32]],
    without: Sequence[NDArray[np.float32]],
) -> Results:
    """AUC of two models' predictions on the same rows, and their difference.

    Args:
        rows: what was shown. [n].
        action: the one that is told.
        with_codes: predictions of each run of the one. [n].
        without: of the other. [n].

    Returns:
        num_rows, num_positives, num_posts; and, where enough is there for an AUC, with_codes,
        without_codes, means over the runs with their spread; difference and interval, 95 % over
        viewers.
    """
    seen = rows.seen(action)
    label, user = rows.label(action)[seen], rows.user_id[seen]
    results: Results = {
        "num_rows": len(label),
        "num_positives": int(label.sum()),
        "num_posts": len(np.unique(rows.post_id[seen])),
    }
    if len(label) < _FEWEST or label.all() or not label.any():
        return results
    on, off = (
        [auc_of_weights(label, run[seen].astype(np.float64)) for run in runs]
        for runs in (with_codes, without)
    )
    difference = minus(mean_of(on), mean_of(off))
    return {
        **results,
        **with_spread("with_codes", [run(None) for run in on]),
        **with_spread("without_codes", [run(None) for run in off]),
        "difference": difference(None),
        "interval": bootstrap_interval(user, difference),
    }
