"""What a component may hand back; anything else counts as its failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.services import Hits
from pipelines.feed.stages import Component
from pipelines.feed.table import Candidates


class BadResultError(ValueError):
    """A component returned something else than it declares."""


def context_of(component: Component, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parts of the query's context as `provides` declares them.

    Raises:
        BadResultError: other names or other types, here and below.
    """
    _check_names(component, found)
    for name, kind in component.provides.items():
        if not isinstance(found[name], kind):
            raise BadResultError(f"{name} is a {type(found[name]).__name__}, declared {kind}")
    return found


def columns_of(
    component: Component, columns: Mapping[str, NDArray], num_posts: int
) -> Mapping[str, NDArray]:
    """Columns as `provides` declares them, one row a post."""
    _check_names(component, columns)
    for name, dtype in component.provides.items():
        _check_array(name, columns[name], dtype, num_posts)
    return columns


def verdicts(keep: NDArray[np.bool_], num_posts: int) -> NDArray[np.bool_]:
    """A verdict for each post. bool [C]."""
    _check_array("keep", keep, np.bool_, num_posts)
    if keep.ndim != 1:
        raise BadResultError(f"keep has shape {list(keep.shape)}, expected [{num_posts}]")
    return keep


def rows_of(posts: Candidates, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of `posts`, none twice. int64 [K]."""
    _check_array("rows", rows, np.int64, len(rows))
    if len(rows) and (rows.min() < 0 or rows.max() >= len(posts)):
        raise BadResultError(f"rows reach from {rows.min()} to {rows.max()}, of {len(posts)} posts")
    if np.bincount(rows).max(initial=0) > 1:
        raise BadResultError("a row is chosen twice")
    return rows


def table_of(source: Component, hits: Hits) -> Candidates:
    """A source's posts with their rank (1 = best) and value as columns."""
    num_posts = len(hits.post_id)
    _check_array("post_id", hits.post_id, np.int64, num_posts)
    ids = np.sort(hits.post_id)  # sixfold faster than np.unique
    if (ids[1:] == ids[:-1]).any():
        raise BadResultError("a post was brought twice")
    rank, value = source.provides
    columns = {rank: np.arange(1, num_posts + 1), value: np.asarray(hits.value, np.float64)}
    return Candidates({"post_id": hits.post_id, **columns_of(source, columns, num_posts)})


def _check_names(component: Component, found: Mapping[str, Any]) -> None:
    if found.keys() != component.provides.keys():
        raise BadResultError(
            f"returned {sorted(found)}, but declares that it provides {sorted(component.provides)}"
        )


def _check_array(name: str, values: NDArray, dtype: Any, num_posts: int) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != dtype:
        got = getattr(values, "dtype", type(values).__name__)
        raise BadResultError(f"{name} is {got}, expected {np.dtype(dtype)}")
    if values.ndim == 0 or len(values) != num_posts:
        raise BadResultError(f"{name} has shape {list(values.shape)}, expected {num_posts} rows")
