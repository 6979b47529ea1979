"""Which of two videos shown in one session a viewer clicked: KuaiRand, in the order of time.

Weights over what was known of a video before (its topic, length, and how often it, its author and
its topic were clicked before the days learned from) are learned from pairs of the training days
and tell those of the test days. A session ends where nothing was shown for half an hour.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.data.reader import InputError, make_reader
from pipelines.facts import Facts
from pipelines.prepared import read_manifest
from pipelines.schema import ACTION_NAMES
from train.preference.real.shown import ShownPairs, accuracies, learn_from, pairs_within

Floats = NDArray[np.float64]

SESSION_MS = 30 * 60 * 1_000
# The days of configs/data/kuairand.yaml: rates are counted before `learn_from`.
DAYS = {"learn_from": "2022-05-02", "learn_until": "2022-05-06", "test_from": "2022-05-07"}
MOST = 20  # pairs of a session
NUM_TOPICS, PRIOR = 30, 20.0  # PRIOR: impressions at the overall rate, added to every count
CLICK = ACTION_NAMES.index("click")


def measure(config: Any) -> dict[str, Any]:
    """Accuracies on the sessions of the test days; with a bundle, its ranker's too.

    Raises:
        InputError: the log cannot be read.
    """
    log = read_log()
    ranker = None
    if config.bundle is not None:
        ranker = ranker_clicks(Path(config.bundle), Path(config.kuairand))
    return of_log(log, ranker)


def read_log() -> pl.DataFrame:
    """The bundled log without its duplicates: who was shown what, when, and whether they clicked.

    Returns:
        user_id, post_id, author_id, topic, duration_s, shown_at_ms, log_date, click; oldest first.
    """
    reader = make_reader({"name": "kuairand"})
    parts: dict[str, list[pa.Table]] = {"events": [], "posts": []}
    for fragment in reader.fragments():
        if fragment.table in parts:
            parts[fragment.table] += [batch.table for batch in reader.read(fragment)]
    events, posts = (pl.DataFrame(pa.concat_tables(parts[name])) for name in ("events", "posts"))
    events = events.unique(maintain_order=True)
    events = events.select("user_id", "post_id", "shown_at_ms", "log_date", "click")
    posts = posts.select(
        "post_id", "author_id", "duration_s", topic=pl.col("topic_ids").list.first()
    )
    return events.join(posts, on="post_id", how="left").sort("shown_at_ms", "user_id")


def of_log(log: pl.DataFrame, ranker: pl.DataFrame | None = None) -> dict[str, Any]:
    """Learn from the days before, and tell the test days' pairs.

    Args:
        log: as `read_log` gives it.
        ranker: user_id, post_id, shown_at_ms and `ranker`, the predicted chance of a click.
    """
    gap = (pl.col("shown_at_ms").diff() > SESSION_MS) | (pl.col("user_id").diff() != 0)
    log = log.sort("user_id", "shown_at_ms", maintain_order=True)
    log = log.with_columns(session=gap.fill_null(True).cum_sum())
    if ranker is not None:
        log = log.join(ranker, on=("user_id", "post_id", "shown_at_ms"), how="left")
    day = log["log_date"].cast(pl.String).to_numpy()
    before = day < DAYS["learn_from"]
    learned_on = ~before & (day < DAYS["learn_until"])
    asked = day >= DAYS["test_from"]
    rates = {name: _rate(log, name, before) for name in ("post_id", "author_id", "topic")}
    duration = np.log1p(log["duration_s"].fill_null(0).to_numpy().astype(np.float64))
    topic = log["topic"].fill_null(0).to_numpy()
    names, count = np.unique(topic[before], return_counts=True)
    top = names[np.argsort(-count, kind="stable")][:NUM_TOPICS]
    own = (topic[:, None] == top).astype(np.float64)
    features = np.column_stack([own, duration, *rates.values()])
    train, test = (_pairs(log, rows) for rows in (learned_on, asked))
    weights = learn_from(features, train)
    post_id = log["post_id"].to_numpy()
    shown = np.bincount(post_id[before], minlength=int(post_id.max()) + 1)
    scores = {
        "popularity": shown[post_id].astype(np.float64),
        "video_rate": rates["post_id"],
        "bradley_terry": features @ weights,
    }
    if ranker is not None:
        scores["ranker"] = log["ranker"].fill_null(np.nan).to_numpy().astype(np.float64)
        known = np.isfinite(scores["ranker"])
        test = _of(test, known[test.first] & known[test.second])
    majority = bool(train.prefers_first.mean() >= 0.5)
    return {
        "train_pairs": len(train),
        "test_pairs": len(test),
        "test_people": len(np.unique(test.person)),
        "accuracy": accuracies(test, scores, majority),
    }


def ranker_clicks(bundle: Path, data: Path) -> pl.DataFrame:
    """What a bundle's ranker predicts on the test split of the data it was trained on.

    Raises:
        InputError: the data are not the bundle's.
    """
    from train.bundle import load
    from train.evaluate import predict
    from train.models.ranker import Ranker
    from train.rows import flatten, read_examples

    loaded, manifest = load(str(bundle)), read_manifest(data)
    if manifest["fingerprint"] != loaded.card["data_fingerprint"]:
        raise InputError(f"{bundle}: not trained on {data}; give its own data as kuairand=")
    model = loaded.load_ranker()
    if not isinstance(model, Ranker):
        raise InputError(f"{bundle}: its ranker predicts no clicks")
    examples = read_examples(data, "test")
    rows = flatten(examples)
    return pl.DataFrame(
        {
            "user_id": rows.user_id,
            "post_id": rows.post_id,
            "shown_at_ms": rows.shown_at_ms,
            "ranker": predict(model, examples, Facts.load(data))[:, CLICK].astype(np.float64),
        }
    ).unique(["user_id", "post_id", "shown_at_ms"])


def _pairs(log: pl.DataFrame, rows: NDArray[np.bool_]) -> ShownPairs:
    """Pairs of these rows, within a session, of one clicked and one not."""
    at = np.flatnonzero(rows)
    session, person = (log[name].to_numpy()[at] for name in ("session", "user_id"))
    clicked = log["click"].to_numpy()[at].astype(np.float64)
    made = pairs_within(session.astype(np.int64), clicked, person, MOST)
    return ShownPairs(at[made.first], at[made.second], made.prefers_first, made.person)


def _of(pairs: ShownPairs, kept: NDArray[np.bool_]) -> ShownPairs:
    return ShownPairs(
        pairs.first[kept], pairs.second[kept], pairs.prefers_first[kept], pairs.person[kept]
    )


def _rate(log: pl.DataFrame, name: str, before: NDArray[np.bool_]) -> Floats:
    """Clicks over impressions of each row's post, author or topic in the rows before. [R]."""
    overall = float(log["click"].to_numpy()[before].mean())
    counted = log.filter(before).group_by(name).agg(pl.col("click").sum(), pl.len())
    smooth = (pl.col("click") + PRIOR * overall) / (pl.col("len") + PRIOR)
    rates = counted.select(name, rate=smooth)
    found = log.select(name).join(rates, on=name, how="left", maintain_order="left")
    return found["rate"].fill_null(overall).to_numpy()
