"""Gradient-boosted trees on counts and profiles: the baseline that learns, without a network.

One model an action on a few dozen numbers a row, all known before the row was shown: smoothed
as-of rates of the viewer, post, author, topic and of the viewer with each of the latter, what
the viewer's profile and the post's table say, surface and hour. lightgbm comes with the `dev`
extra; everything else works without it.

Axes: n rows of the log, F features, A actions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from rich.progress import track

from pipelines.schema import ACTION_NAMES, DAY_MS, DWELL_TIME, SPLITS
from train.baselines import PRIOR, Floats, Ids, earlier, overall_rate
from train.rows import Past, Rows, flatten, read_examples

HOUR_MS = 3_600_000
MISSING = "lightgbm is not installed; it comes with pip install '.[dev]'"
_COMMON = 0.01  # share of showings from which on an action has rates of pairs, too
_DWELL_CAP_S = 60.0  # in mean dwell times, so that one forgotten screen counts no more
_WATCHED_CAP = 3.0  # likewise, in lengths of the video


@dataclass(frozen=True)
class TreeSettings:
    """lightgbm's parameters by its own names; chosen on KuaiRand's validation day."""

    learning_rate: float = 0.05
    num_leaves: int = 15
    min_data_in_leaf: int = 200
    lambda_l2: float = 5.0
    feature_fraction: float = 0.5
    bagging_fraction: float = 0.8
    bagging_freq: int = 1
    max_bin: int = 127
    seed: int = 0
    num_rounds: int = 1000  # at most
    patience: int = 50  # rounds without a better validation loss after which it stops


def is_installed() -> bool:
    """Whether `predict` can work here."""
    return importlib.util.find_spec("lightgbm") is not None


def predict(
    data: Path, settings: TreeSettings = TreeSettings(), actions: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Fit on the training rows, stop by the validation rows, predict the test rows.

    One thread and a seed: the same data give the same numbers.

    Args:
        data: prepared data set.
        settings: of every action's model.
        actions: which are predicted; None = all that the log shows.

    Returns:
        Probabilities in the order of `flatten` of the test examples. float64 [n, A]; NaN for an
        action that was not asked for, or of which training or validation rows show nothing, or
        only one outcome.

    Raises:
        ImportError: lightgbm is not installed.
    """
    log, split, table = _features(data)
    train, validate, test = (split == at for at in range(len(SPLITS)))
    names = list(table)
    matrix = np.stack([table[name].astype(np.float32) for name in names], axis=1)
    predicted = np.full((test.sum(), len(ACTION_NAMES)), np.nan)
    for action in track(
        _observed(log) if actions is None else actions, description="Boosted trees"
    ):
        label, seen = log.label(action), log.seen(action)
        fit, held_out = train & seen, validate & seen
        if any(len(np.unique(label[part])) < 2 for part in (fit, held_out)):
            continue
        model = fitted(
            (matrix[fit], label[fit]),
            (matrix[held_out], label[held_out]),
            names,
            settings,
            ["topic"],
        )
        predicted[:, action] = model(matrix[test])
    return predicted


def fitted(
    learn: tuple[NDArray, NDArray],
    stop: tuple[NDArray, NDArray],
    names: Sequence[str],
    settings: TreeSettings,
    categories: Sequence[str] = (),
) -> Callable[[NDArray], Floats]:
    """Trees fitted on one set of rows, and stopped by another; one thread and a seed.

    Args:
        learn: features [n, F] and labels [n].
        stop: of the rows that say when to stop.
        names: of the features.
        settings: of the trees.
        categories: features whose numbers are names.

    Returns:
        Features -> probabilities.

    Raises:
        ImportError: lightgbm is not installed.
    """
    import lightgbm

    params: dict[str, Any] = asdict(settings)
    num_rounds, patience = params.pop("num_rounds"), params.pop("patience")
    params |= {"objective": "binary", "verbose": -1}
    params |= {"num_threads": 1, "deterministic": True, "force_row_wise": True}
    data = lightgbm.Dataset(
        *learn, feature_name=list(names), categorical_feature=list(categories), params=params
    )
    held_out = lightgbm.Dataset(*stop, reference=data, params=params)
    model = lightgbm.train(
        params,
        data,
        num_rounds,
        valid_sets=[held_out],
        callbacks=[lightgbm.early_stopping(patience, verbose=False)],
    )
    return lambda rows: np.asarray(
        model.predict(rows, num_iteration=model.best_iteration), np.float64
    )


def _observed(log: Rows) -> list[int]:
    return [a for a in range(len(ACTION_NAMES)) if a != DWELL_TIME and log.seen(a).any()]


def _features(data: Path) -> tuple[Rows, Ids, dict[str, NDArray]]:
    """All rows, their splits as indices into SPLITS, and feature -> value of each row."""
    parts = [read_examples(data, split) for split in SPLITS]
    examples = pa.concat_tables(parts)
    log = flatten(examples)
    ends = np.cumsum([len(part) for part in parts])
    split = np.searchsorted(ends, log.example, side="right").astype(np.int64)
    posts = _at(pl.read_parquet(data / "posts.parquet"), "post_id", log.post_id)
    accounts = pl.read_parquet(data / "users.parquet")
    facts = attributes(accounts["attributes"])
    users = _at(accounts.with_columns(**facts), "user_id", log.user_id)
    topic = np.unique(posts["topic_ids"].list.first().fill_null(0), return_inverse=True)[1]
    duration = _floats(posts["duration_s"])
    table: dict[str, NDArray] = {
        "surface": log.surface,
        "hour": log.shown_at_ms // HOUR_MS % 24,
        "topic": topic,
        "num_topics": _floats(posts["topic_ids"].list.len()),
        "duration_s": duration,
        "age_days": (log.shown_at_ms - _floats(posts["created_at_ms"])) / DAY_MS,
        **{name: _floats(users[name]) for name in ("num_followers", "num_following", *facts)},
        "since_last_s": _since_last(log),
        **_before_log(Past.of(examples), log),
        **as_of(log, topic, duration),
    }
    return log, split, table


def as_of(log: Rows, topic: Ids, duration_s: Floats) -> dict[str, Floats]:
    """What strictly earlier rows of the same viewer, post, ... say. Feature -> [n].

    Args:
        log: all rows.
        topic: main topic of each row's post, 0 = none. int64 [n].
        duration_s: length of its video, NaN = unknown. [n].
    """
    actions = _observed(log)
    overall = {action: overall_rate(log, action) for action in actions}
    common = [a for a in actions if log.label(a).mean() >= _COMMON]
    user, post, author = log.user_id, log.post_id, log.author_id
    found = {f"all_{ACTION_NAMES[action]}": rate for action, rate in overall.items()}
    for name, key, of in (
        ("user", user, actions),
        ("post", post, actions),
        ("author", author, actions),
        ("topic", topic, actions),
        ("user_author", _pair(user, author), common),
        ("user_topic", _pair(user, topic), common),
        ("user_surface", _pair(user, log.surface), common),
    ):
        rates = _rates(log, key, {action: overall[action] for action in of})
        rates |= _stays(log, key, duration_s)
        found |= {f"{name}_{what}": value for what, value in rates.items()}
    return found


def _rates(log: Rows, key: Ids, overall: Mapping[int, Floats]) -> dict[str, Floats]:
    """Showings and smoothed rates of each action over earlier rows with the same key."""
    amounts = [f(a) for a in overall for f in (log.label, log.seen)]
    shown, *sums = earlier(key, log.shown_at_ms, np.ones(len(log)), *amounts)
    rates = {
        ACTION_NAMES[action]: (done + PRIOR * overall[action]) / (seen + PRIOR)
        for action, done, seen in zip(overall, sums[::2], sums[1::2], strict=True)
    }
    return {"num_shown": shown, **rates}


def _stays(log: Rows, key: Ids, duration_s: Floats) -> dict[str, Floats]:
    """Mean seconds and mean share of the video watched over earlier rows with the same key."""
    known = ~np.isnan(log.dwell_s)
    stay = np.where(known, np.minimum(log.dwell_s, _DWELL_CAP_S), 0.0)
    share = np.minimum(log.dwell_s / np.where(duration_s > 0, duration_s, np.nan), _WATCHED_CAP)
    amounts = (known, stay, ~np.isnan(share), np.nan_to_num(share))
    num_stays, stays, num_shares, shares = earlier(key, log.shown_at_ms, *amounts)
    return {
        "dwell_s": stays / np.maximum(num_stays, 1),
        "watched": shares / np.maximum(num_shares, 1),
    }


def _since_last(log: Rows) -> Floats:
    """Seconds since the viewer was shown anything, NaN at the first. [n]."""
    order = np.lexsort((log.shown_at_ms, log.user_id))
    gap = np.diff(log.shown_at_ms[order], prepend=0) / 1000.0
    gap[np.diff(log.user_id[order], prepend=-1) != 0] = np.nan
    out = np.empty(len(log))
    out[order] = gap
    return out


def _before_log(past: Past, log: Rows) -> dict[str, Ids]:
    """How often the viewer took each action before the log began. Feature -> int64 [n]."""
    before = past.at_ms == 0
    users, row = np.unique(log.user_id, return_inverse=True)
    found = {}
    for action, name in enumerate(ACTION_NAMES):
        done = before & ((past.did >> action) & 1 == 1)
        if done.any():
            at = np.searchsorted(users, past.user_id[done])
            found[f"before_{name}"] = np.bincount(at, minlength=len(users))[row]
    return found


def attributes(lists: pl.Series) -> dict[str, pl.Series]:
    """Profile facts `name=value` as numbers, NaN = not said. Feature -> one value an account.

    Values that are not all numbers are numbered in their order. Facts that fewer than one
    account in a hundred has are left out.
    """
    facts = pl.DataFrame({"row": np.arange(len(lists)), "fact": lists}).explode("fact")
    parts = pl.col("fact").str.splitn("=", 2)
    facts = facts.drop_nulls().select(
        "row", parts.struct[0].alias("name"), parts.struct[1].alias("value")
    )
    found = {}
    for (name,), part in sorted(facts.partition_by("name", as_dict=True).items()):
        if len(part) * 100 < len(lists):
            continue
        number = part["value"].cast(pl.Float64, strict=False)
        if number.null_count():
            number = part["value"].rank("dense").cast(pl.Float64)
        values = np.full(len(lists), np.nan)
        values[part["row"].to_numpy()] = number.to_numpy()
        found[f"fact_{name}"] = pl.Series(values)
    return found


def _at(table: pl.DataFrame, key: str, ids: Ids) -> pl.DataFrame:
    """The row of each id, nulls where it has none."""
    return pl.DataFrame({key: ids}).join(table, on=key, how="left", maintain_order="left")


def _floats(column: pl.Series) -> Floats:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _pair(one: Ids, other: NDArray) -> Ids:
    """A number for each pair of values. int64 [n]."""
    _, first = np.unique(one, return_inverse=True)
    values, second = np.unique(other, return_inverse=True)
    return first * len(values) + second
