"""Which of two videos shown in one session a viewer clicked: KuaiRand, in the order of time.

Weights over what was known of a video before (its topic, length, and how often it, its author and
its topic were clicked) are learned from pairs of the training days, of what the days before them
say, and tell those of the test days, of what all training days say. A session ends where nothing
was shown for half an hour.

Popularity has four forms: how often a video was shown, how often clicked, its click rate drawn to
the overall one, and drawn to its author's. All know what the weights know; the strongest on the
training pairs is the rival.
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
from train.bundle import load
from train.evaluate import predict
from train.models.ranker import Ranker
from train.preference.real.shown import (
    ShownPairs,
    accuracies,
    advantages,
    learn_from,
    pairs_within,
    strongest,
)
from train.preference.settings import StudyConfig
from train.preference.space import fingerprint
from train.rows import flatten, read_examples

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]

SESSION_MS = 30 * 60 * 1_000
# The days of configs/data/kuairand.yaml; weights are learned on those from `learn_from` on, of
# rates counted before.
DAYS = {"learn_from": "2022-05-02", "learn_until": "2022-05-06", "test_from": "2022-05-07"}
MOST = 20  # pairs of a session
NUM_TOPICS, PRIOR = 30, 20.0  # PRIOR: impressions at the overall rate, added to every count
CLICK = ACTION_NAMES.index("click")


def measure(config: StudyConfig) -> tuple[dict[str, Any], str]:
    """Accuracies on the sessions of the test days; with a bundle, its ranker's too.

    Returns:
        Them, and the fingerprint of what they are of.

    Raises:
        InputError: the log cannot be read.
    """
    log, ranker = read_log(), None
    columns = [log[name].to_numpy() for name in ("user_id", "post_id", "shown_at_ms", "click")]
    if config.bundle is not None:
        ranker = ranker_clicks(Path(config.bundle), Path(config.kuairand))
        columns.append(ranker.sort("user_id", "post_id", "shown_at_ms")["ranker"].to_numpy())
    return of_log(log, ranker), fingerprint(*columns)


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
    before, known = day < DAYS["learn_from"], day < DAYS["learn_until"]
    asked = day >= DAYS["test_from"]
    train, test = (_pairs(log, rows) for rows in (known & ~before, asked))
    features, counts = _features(log, before, before), _popularity(log, before)
    rival = strongest(train, counts)
    weights = learn_from(features, train)
    counts = _popularity(log, known)
    ours = _features(log, known, before) @ weights
    scores = {**counts, "bradley_terry": ours}
    if ranker is not None:
        scores["ranker"] = log["ranker"].fill_null(np.nan).to_numpy().astype(np.float64)
        told = np.isfinite(scores["ranker"])
        test = _of(test, told[test.first] & told[test.second])
    majority = bool(train.prefers_first.mean() >= 0.5)
    return {
        "train_pairs": len(train),
        "test_pairs": len(test),
        "test_people": len(np.unique(test.person)),
        "strongest_popularity": rival,
        "accuracy": accuracies(test, scores, majority),
        "advantage": advantages(
            test, ours, {name: counts[name] for name in ("times_shown", rival)}, majority
        ),
    }


def _features(log: pl.DataFrame, counted: Rows, before: Rows) -> Floats:
    """What is known of each row's video: [R, topics + 4].

    Args:
        log: of all days.
        counted: rows of which rates are counted. [R].
        before: rows whose most frequent topics are told apart. [R].
    """
    duration = np.log1p(log["duration_s"].fill_null(0).to_numpy().astype(np.float64))
    topic = log["topic"].fill_null(0).to_numpy()
    names, count = np.unique(topic[before], return_counts=True)
    top = names[np.argsort(-count, kind="stable")][:NUM_TOPICS]
    own = (topic[:, None] == top).astype(np.float64)
    rates = [_rate(log, name, counted) for name in ("post_id", "author_id", "topic")]
    return np.column_stack([own, duration, *rates])


def _popularity(log: pl.DataFrame, counted: Rows) -> dict[str, Floats]:
    """Each form of it, of each row's video. [R] each."""
    of_video = log.filter(counted).group_by("post_id").agg(pl.col("click").sum(), pl.len())
    joined = log.select("post_id").join(of_video, on="post_id", how="left", maintain_order="left")
    clicks, shown = (joined[n].fill_null(0).to_numpy().astype(float) for n in ("click", "len"))
    author = _rate(log, "author_id", counted)
    return {
        "times_shown": shown,
        "times_clicked": clicks,
        "video_rate": _rate(log, "post_id", counted),
        "video_rate_drawn_to_its_author": (clicks + PRIOR * author) / (shown + PRIOR),
    }


def ranker_clicks(bundle: Path, data: Path) -> pl.DataFrame:
    """What a bundle's ranker predicts on the test split of the data it was trained on.

    Raises:
        InputError: the data are not the bundle's.
    """
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


def _pairs(log: pl.DataFrame, rows: Rows) -> ShownPairs:
    """Pairs of these rows, within a session, of one clicked and one not."""
    at = np.flatnonzero(rows)
    session, person = (log[name].to_numpy()[at] for name in ("session", "user_id"))
    clicked = log["click"].to_numpy()[at].astype(np.float64)
    made = pairs_within(session.astype(np.int64), clicked, person, MOST)
    return ShownPairs(at[made.first], at[made.second], made.prefers_first, made.person)


def _of(pairs: ShownPairs, kept: Rows) -> ShownPairs:
    return ShownPairs(
        pairs.first[kept], pairs.second[kept], pairs.prefers_first[kept], pairs.person[kept]
    )


def _rate(log: pl.DataFrame, name: str, rows: Rows) -> Floats:
    """Clicks over impressions of each row's post, author or topic in these rows. [R]."""
    overall = float(log["click"].to_numpy()[rows].mean())
    counted = log.filter(rows).group_by(name).agg(pl.col("click").sum(), pl.len())
    smooth = (pl.col("click") + PRIOR * overall) / (pl.col("len") + PRIOR)
    rates = counted.select(name, rate=smooth)
    found = log.select(name).join(rates, on=name, how="left", maintain_order="left")
    return found["rate"].fill_null(overall).to_numpy()
