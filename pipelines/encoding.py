"""Rows of the log as arrays: padding, action sets, hashes, buckets. Padding is id 0."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

HOUR_MS = 3_600_000


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
    row, slot = expand(kept)
    out = np.zeros((len(kept), width), values.dtype)
    out[row, slot] = values[starts[row] + slot]
    return out


def expand(lengths: NDArray) -> tuple[NDArray, NDArray]:
    """Lists [L] laid end to end: which list each of their entries is of, and its place in it."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def multi_hot(masks: NDArray[np.int64], num_actions: int) -> NDArray[np.float32]:
    """Unpack action masks. int64 [...] -> float32 [..., A] of zeros and ones."""
    return ((masks[..., None] >> np.arange(num_actions)) & 1).astype(np.float32)


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


def hour_bucket(at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hour of the UTC day, 1 to 24; 0 = unknown time."""
    return np.where(at_ms > 0, at_ms // HOUR_MS % 24 + 1, 0)


def log_bucket(amount: NDArray, per_doubling: float, num_buckets: int) -> NDArray[np.int64]:
    """1 + floor(per_doubling log2(1 + amount)), at most num_buckets - 1; 0 = none or negative."""
    known = np.isfinite(amount) & (amount >= 0)
    scaled = per_doubling * np.log2(1 + np.where(known, amount, 0))
    return np.where(known, np.minimum(1 + scaled.astype(np.int64), num_buckets - 1), 0)
