"""What a bundle knows of posts and viewers: the data job's tables, with popularity counted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.facts import CODE_IDS, CODES, CONTENT, CONTENT_IDS, RATES
from pipelines.schema import ACTION_NAMES, DAY_MS, SPLITS
from train.rows import Rows, flatten, read_examples

POPULAR_BY = ("click", "favorite", "dwell")  # popularity is the smoothed rate of the first observed
_PRIOR_SHOWN = 20.0  # impressions that the overall rate counts for


def observed_actions(data: Path, actions: Sequence[str]) -> list[str]:
    """Actions that training could learn: those its split shows as done or not done."""
    mask = int(np.bitwise_or.reduce(flatten(read_examples(data, "train")).observed, initial=0))
    return [name for bit, name in enumerate(actions) if mask >> bit & 1]


def popularity(post_id: NDArray[np.int64], rows: Rows) -> NDArray[np.float64]:
    """How often a showing of each post led to the first observed action of `POPULAR_BY`.

    Of few showings it is drawn towards the overall rate.

    Args:
        post_id: sorted, all that `rows` name. [N].
        rows: what was shown.
    """
    action = _popular_by(rows)
    at = np.searchsorted(post_id, rows.post_id)
    shown = np.bincount(at, weights=rows.seen(action), minlength=len(post_id))
    done = np.bincount(at, weights=rows.label(action), minlength=len(post_id))
    overall = done.sum() / max(shown.sum(), 1.0)
    return (done + overall * _PRIOR_SHOWN) / (shown + _PRIOR_SHOWN)


def _popular_by(rows: Rows) -> int:
    """Index of the action whose rate is popularity.

    Raises:
        ValueError: the log observes none of POPULAR_BY.
    """
    for name in POPULAR_BY:
        if rows.seen(ACTION_NAMES.index(name)).any():
            return ACTION_NAMES.index(name)
    raise ValueError(f"popularity needs one of {', '.join(POPULAR_BY)} in the log; it has none")


def _write_rates(rates: Path, folder: Path, as_of_ms: int) -> None:
    """Of each id's counts keep those that hold at `as_of_ms` or later: none asks for earlier.

    A log's clock starts there, in the middle of a bucket whose counts hold from its end on. Posts'
    counts are kept from a day before: what rises is told by the day that ends now.
    """
    folder.mkdir()
    for file in sorted(rates.glob("*.parquet")):
        table = pq.read_table(file)  # sorted by id, then time
        ids, from_ms = table["id"].to_numpy(), table["from_ms"].to_numpy()
        last = np.diff(ids, append=-1) != 0
        oldest_ms = as_of_ms - DAY_MS if file.stem == "post" else as_of_ms
        pq.write_table(
            table.filter(last | (np.append(from_ms[1:], 0) > oldest_ms)), folder / file.name
        )


def write_tables(data: Path, folder: Path) -> int:
    """Copy the side tables, count popularity; returns when the newest event was shown, in ms."""
    for name in ("users", "follows"):
        shutil.copyfile(data / f"{name}.parquet", folder / f"{name}.parquet")
    for name in (CONTENT, CONTENT_IDS, CODES, CODE_IDS):
        if (data / name).exists():
            shutil.copyfile(data / name, folder / name)
    pq.write_table(pq.read_table(data / "profiles"), folder / "profiles.parquet")
    rows = flatten(read_examples(data, *SPLITS))
    as_of_ms = int(rows.shown_at_ms.max())
    _write_rates(data / RATES, folder / RATES, as_of_ms)
    posts = pq.read_table(data / "posts.parquet").sort_by("post_id")
    ids = posts["post_id"].to_numpy()
    num_shown = np.bincount(np.searchsorted(ids, rows.post_id), minlength=len(ids))
    posts = posts.append_column("popularity", pa.array(popularity(ids, rows)))
    posts = posts.append_column("num_shown", pa.array(num_shown))
    pq.write_table(posts, folder / "posts.parquet")
    return as_of_ms
