"""Rows of the log become model inputs: the same functions train and serve.

Axes: B examples, S history slots, C candidates, A actions, n hashes of one id.
Padding is id 0, on the right; hash 0 means "no such thing".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PositiveInt

from configs import Config
from pipelines.schema import ACTIONS, DWELL_TIME, EXAMPLES, MAX_ACTIONS

Inputs = dict[str, NDArray]

# One salt per kind of id, so that post 7 and author 7 fall into unrelated rows.
_SALT = {"user": 1, "post": 2, "author": 3}


class FeatureSpec(Config):
    """How ids become rows of embedding tables, and how much of the past is looked at."""

    history_len: PositiveInt = 32  # newest events kept, S
    num_user_hashes: PositiveInt = 2
    num_post_hashes: PositiveInt = 2
    num_author_hashes: PositiveInt = 2
    user_vocab: int = Field(default=32_768, ge=2)  # rows of the table, row 0 = padding
    post_vocab: int = Field(default=32_768, ge=2)
    author_vocab: int = Field(default=32_768, ge=2)
    num_surfaces: PositiveInt = 16  # 0 = unknown
    num_actions: int = Field(default=len(ACTIONS), ge=len(ACTIONS), le=MAX_ACTIONS)
    dwell_cap_s: float = Field(default=30.0, gt=0)  # longer stays count as this long

    def hashes(self, kind: str, ids: ArrayLike) -> NDArray[np.int64]:
        """Table rows of `ids` of one kind ("user", "post", "author"). int64 [..., n]."""
        num_hashes = getattr(self, f"num_{kind}_hashes")
        return hash_ids(ids, num_hashes, getattr(self, f"{kind}_vocab"), _SALT[kind])


@dataclass(frozen=True)
class History:
    """What one viewer has done, oldest first; all arrays are [n] and n may be 0.

    Attributes:
        user_id: the viewer.
        post_id, author_id: int64, 0 = unknown author.
        did: int64 masks over ACTIONS.
        surface: int16, 0 = unknown.
        dwell_s: float32, NaN = not measured.
        at_ms: int64, 0 = unknown.
    """

    user_id: int
    post_id: NDArray[np.int64]
    author_id: NDArray[np.int64]
    did: NDArray[np.int64]
    surface: NDArray[np.int16]
    dwell_s: NDArray[np.float32]
    at_ms: NDArray[np.int64]

    @classmethod
    def empty(cls, user_id: int) -> History:
        """The history of a viewer nothing is known of."""
        ids, none = np.empty(0, np.int64), np.empty(0, np.float32)
        return cls(user_id, ids, ids, ids, ids.astype(np.int16), none, ids)


def hash_ids(ids: ArrayLike, num_hashes: int, vocab: int, salt: int) -> NDArray[np.int64]:
    """Map ids to `num_hashes` independent rows of a table each.

    Args:
        ids: int64 [...], 0 = padding.
        num_hashes: rows per id, n; two ids that share one rarely share all.
        vocab: rows of the table. Row 0 is kept for padding.
        salt: makes the hashes of different kinds of id unrelated.

    Returns:
        int64 [..., n] in [1, vocab), and 0 wherever the id is 0. The same on every
        machine and in every version: trained tables depend on it.
    """
    flat = np.asarray(ids, dtype=np.int64)
    seeds = (np.arange(1, num_hashes + 1) + 1_000 * salt).astype(np.uint64)
    with np.errstate(over="ignore"):  # wrapping is the point
        mixed = flat.astype(np.uint64)[..., None] + seeds * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    rows = (mixed % np.uint64(vocab - 1)).astype(np.int64) + 1
    return np.where(flat[..., None] == 0, 0, rows)


def multi_hot(masks: NDArray[np.int64], num_actions: int) -> NDArray[np.float32]:
    """Unpack action masks. int64 [...] -> float32 [..., A] of zeros and ones."""
    return ((masks[..., None] >> np.arange(num_actions)) & 1).astype(np.float32)


def pad(column: pa.ListArray | pa.ChunkedArray, width: int, newest: bool = False) -> NDArray:
    """Lists of any length -> one array [B, width], zeros on the right.

    Args:
        column: lists without nulls inside.
        width: entries kept per list.
        newest: of longer lists keep the last entries rather than the first.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    kept = np.minimum(lengths, width)
    starts = np.cumsum(lengths) - lengths + (lengths - kept if newest else 0)
    row = np.repeat(np.arange(len(kept)), kept)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(kept) - kept, kept)
    out = np.zeros((len(kept), width), values.dtype)
    out[row, slot] = values[np.repeat(starts, kept) + slot]
    return out


def history_inputs(rows: pa.Table, spec: FeatureSpec) -> Inputs:
    """The viewer's side of the model, from rows with the history columns of EXAMPLES.

    Returns:
        user_hashes int64 [B, n]; history_post_hashes, history_author_hashes int64
        [B, S, n]; history_actions float32 [B, S, A], where the dwell_time column holds
        min(dwell, cap) / cap; history_product_surface int64 [B, S].
    """

    def column(name: str) -> NDArray:
        return pad(rows[name], spec.history_len, newest=True)

    actions = multi_hot(column("history_did"), spec.num_actions)
    actions[..., DWELL_TIME] = _dwell_share(column("history_dwell_s"), spec)
    return {
        "user_hashes": spec.hashes("user", rows["user_id"].to_numpy()),
        "history_post_hashes": spec.hashes("post", column("history_post_id")),
        "history_author_hashes": spec.hashes("author", column("history_author_id")),
        "history_actions": actions,
        "history_product_surface": _surfaces(column("history_surface"), spec),
    }


def candidate_inputs(
    post_id: NDArray[np.int64],
    author_id: NDArray[np.int64],
    surface: NDArray[np.int16],
    spec: FeatureSpec,
) -> Inputs:
    """The posts' side of the model; all arguments [B, C], id 0 = padding.

    Returns:
        candidate_post_hashes, candidate_author_hashes int64 [B, C, n];
        candidate_product_surface int64 [B, C].
    """
    return {
        "candidate_post_hashes": spec.hashes("post", post_id),
        "candidate_author_hashes": spec.hashes("author", author_id),
        "candidate_product_surface": _surfaces(surface, spec),
    }


def example_inputs(rows: pa.Table, spec: FeatureSpec) -> Inputs:
    """Both sides of the model for rows of EXAMPLES; C is the longest candidate list."""
    num_candidates = max(1, _longest(rows["post_id"]))
    post_id, author_id, surface = (
        pad(rows[name], num_candidates) for name in ("post_id", "author_id", "surface")
    )
    return {**history_inputs(rows, spec), **candidate_inputs(post_id, author_id, surface, spec)}


def example_targets(rows: pa.Table, spec: FeatureSpec) -> Inputs:
    """What came of each candidate, for rows of EXAMPLES.

    Returns:
        labels float32 [B, C, A]: 1 = done; the dwell_time column holds seconds.
        label_mask float32 [B, C, A]: 1 = observed, 0 = padding or not in this log.
    """
    num_candidates = max(1, _longest(rows["post_id"]))
    labels = multi_hot(pad(rows["did"], num_candidates), spec.num_actions)
    labels[..., DWELL_TIME] = np.nan_to_num(pad(rows["dwell_s"], num_candidates))
    mask = multi_hot(pad(rows["observed"], num_candidates), spec.num_actions)
    return {"labels": labels, "label_mask": mask}


def history_rows(histories: Sequence[History]) -> pa.Table:
    """Histories as rows with the history columns of EXAMPLES, for `history_inputs`."""
    lengths = [len(history.post_id) for history in histories]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())

    def lists(field: str) -> pa.ListArray:
        name = f"history_{field}"
        values = np.concatenate([getattr(h, field) for h in histories])
        return pa.ListArray.from_arrays(
            offsets, pa.array(values, EXAMPLES.field(name).type.value_type)
        )

    columns: Mapping[str, pa.Array] = {
        "user_id": pa.array([history.user_id for history in histories], pa.int64()),
        **{
            f"history_{field}": lists(field)
            for field in ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms")
        },
    }
    return pa.table(columns)


def _longest(column: pa.ChunkedArray) -> int:
    lengths = column.combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    return int(lengths.max(initial=0))


def _surfaces(surface: NDArray, spec: FeatureSpec) -> NDArray[np.int64]:
    known = (surface >= 0) & (surface < spec.num_surfaces)
    return np.where(known, surface, 0).astype(np.int64)


def _dwell_share(dwell_s: NDArray, spec: FeatureSpec) -> NDArray[np.float32]:
    return np.clip(np.nan_to_num(dwell_s), 0, spec.dwell_cap_s) / np.float32(spec.dwell_cap_s)
