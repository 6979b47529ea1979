"""Embedding tables that start from what follows what, instead of from noise.

Axes: N posts of the corpus, D width.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.baselines.retrieval import follows
from train.models.retrieval import TwoTower

_WINDOW, _DECAY = 10, 0.8  # how far apart two events may be, and what each place between costs
_SCALE = 0.2  # standard deviation of the rows


def start_from_transitions(
    towers: TwoTower, post_id: NDArray[np.int64], sequences: NDArray[np.int64]
) -> None:
    """Fill the post table of untrained towers from a factorisation of transitions.

    M[i, j] = max(0, log (T[i, j] · sum T / (sum_j T[i, j] · sum_i T[i, j]))), T the decayed counts
    of j after i (positive pointwise mutual information; its low-rank factors are what word2vec
    finds: Levy and Goldberg, NeurIPS 2014). Of M ≈ U V^T a post's first hash row gets its row of
    U, what it says of the next post, its second that of V, after what it comes: both the history
    and the post tower read both. Rows that several posts share get their mean.

    Args:
        towers: with at least two hashes a post.
        post_id: the corpus, sorted. int64 [N].
        sequences: corpus row of each positive event, oldest first, -1 between viewers. int64 [n].

    Raises:
        ValueError: the towers have one hash a post.
    """
    spec, D = towers.config.features, towers.config.emb_size
    if not spec.ids:
        raise ValueError("warm_start: there is no table to start, features.ids is false")
    if spec.num_post_hashes < 2:
        raise ValueError("warm_start: needs features.num_post_hashes of 2 or more")
    mutual = _mutual_information(sequences, len(post_id))
    rank = min(D, *mutual.shape)
    U, S, V = torch.svd_lowrank(mutual, q=min(D + 8, *mutual.shape), niter=4)
    rows = torch.from_numpy(spec.hashes("post", post_id))
    table = towers.tables.get_parameter("post.weight")
    weight = torch.zeros_like(table)
    shared = torch.zeros(len(weight), 1)
    for column, factor in enumerate((U, V)):
        factor = factor[:, :rank] * S[:rank].sqrt()
        factor = factor * (_SCALE / factor.std().clamp(min=1e-9))
        weight[:, :rank].index_add_(0, rows[:, column], factor)
        shared.index_add_(0, rows[:, column], torch.ones(len(rows), 1))
    filled = shared[:, 0] > 0
    with torch.no_grad():
        table[filled] = (weight / shared.clamp(min=1))[filled]


def positives_in_order(rows: pa.Table, bit: int) -> NDArray[np.int64]:
    """Posts of the events with this action, -1 after each viewer's. int64 [n].

    Args:
        rows: sequences, one row a viewer.
        bit: of the action in `did`.
    """
    posts = rows["history_post_id"].combine_chunks()
    did = rows["history_did"].combine_chunks().flatten().to_numpy()
    ends = np.cumsum(posts.value_lengths().to_numpy(zero_copy_only=False))
    values = np.where(did & bit != 0, posts.flatten().to_numpy(), 0)
    values = np.insert(values, ends, -1)
    return values[values != 0]


def _mutual_information(sequences: NDArray[np.int64], num_posts: int) -> Tensor:
    """M as above, sparse. [N, N]."""
    viewer = np.cumsum(sequences < 0, dtype=np.int64)
    key, count = follows(viewer, sequences, num_posts, _WINDOW, _DECAY)
    first, second = key // num_posts, key % num_posts
    of_first, of_second = (np.bincount(k, count, num_posts) for k in (first, second))
    mutual = np.log(count * count.sum() / (of_first[first] * of_second[second]))
    kept = mutual > 0
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([first, second])[:, kept]),
        torch.from_numpy(mutual[kept].astype(np.float32)),
        (num_posts, num_posts),
        check_invariants=True,
    ).coalesce()
