"""One round of a served feed: what its pages earned, read from the log of events.

Which arm a page was of follows from the viewer's id, as in serving; the log need not tell.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import yaml

from configs import load
from pipelines.data.reader import MissingInputError
from pipelines.feed.discover import FeedConfig, discover
from pipelines.feed.experiments import Experiment
from pipelines.feed.replay import of_feed
from pipelines.feed.variants import Variants
from pipelines.schema import EVENTS
from pipelines.whole import save_text
from train.online.arms import Floats, OnlineConfig, State

_COLUMN = {"dwell_time": "dwell_s"}  # of an action, where it is not its name


def pages(events: str, state: State, config: OnlineConfig) -> tuple[pl.DataFrame, int]:
    """What each page of the timeline earned in the round; other feeds have no experiment of ours.

    A page of which the log does not tell every rewarded action is left out: not told is not the
    same as not done.

    Args:
        events: folder of Parquet files of schema.EVENTS with outcomes, as
            `pipelines.data.outcomes` writes them.
        state: of the round.
        config: of the controller.

    Returns:
        request_id, user_id, shown_at_ms of the last post, reward; and how many pages of the round
        were left out.

    Raises:
        MissingInputError: no such files.
        ValueError: a row of the round without a request_id, or a file without a column.
    """
    files = sorted(Path(events).glob("*.parquet"))
    if not files:
        raise MissingInputError(
            f"{events}: no Parquet file; `python -m pipelines.data.outcomes` writes what was "
            "served with what came of it"
        )
    worth = {_COLUMN.get(name, name): weight for name, weight in config.reward.items()}
    rows = pl.scan_parquet(files).filter(pl.col("shown_at_ms") >= state.since_ms)
    columns = rows.collect_schema().names()
    if lacking := [name for name in ("request_id", *worth) if name not in columns]:
        raise ValueError(f"{events}: no column {lacking[0]} of {EVENTS.name}")
    earned = pl.sum_horizontal(
        [pl.col(name).cast(pl.Float64) * weight for name, weight in worth.items()],
        ignore_nulls=False,
    )
    per_page = (
        rows.filter(of_feed() | pl.col("request_id").is_null())
        .group_by("request_id", "user_id")
        .agg(
            pl.col("shown_at_ms").max(),
            earned.sum().alias("reward"),
            earned.is_not_null().all().alias("told"),
        )
        .sort("shown_at_ms", "request_id")
        .collect()
    )
    if per_page["request_id"].null_count():
        raise ValueError(f"{events}: rows without a request_id; which page were they on?")
    told = per_page.filter("told").drop("told")
    return told, len(per_page) - len(told)


def rewards(found: pl.DataFrame, experiment: Experiment, name: str) -> dict[int, Floats]:
    """Rewards of pages by the place of their viewer's arm."""
    arms = list(experiment.arms)
    at = [arms.index(experiment.arm_of(name, user)) for user in found["user_id"].to_list()]
    by_arm = found.with_columns(pl.Series("arm", at, pl.Int64)).partition_by("arm", as_dict=True)
    return {int(arm): part["reward"].to_numpy() for (arm,), part in by_arm.items()}


def write_feed(feed: str, state: State, config: OnlineConfig, out: Path) -> None:
    """Write `feed` with the round's experiment, as a feed.yaml of its own.

    Raises:
        ConfigError: the feed lacks the setting, another experiment changes it too, or one of the
            values is not allowed.
    """
    experiments = {config.name: state.experiment(config)}
    before = load(feed, FeedConfig)
    whole = before.model_copy(update={"experiments": {**before.experiments, **experiments}})
    Variants(whole, discover())  # composes every arm, which checks it
    values = whole.model_dump(mode="json", exclude_unset=True) | {
        "experiments": {k: v.model_dump(mode="json") for k, v in whole.experiments.items()}
    }
    text = yaml.safe_dump(values, sort_keys=False)
    save_text(out, f"# Made by `python -m train.online`: {feed} with a round of its own.\n{text}")
