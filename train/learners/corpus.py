"""The posts that a viewer is placed among: all of a data set's, in the order of their ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.facts import Facts, find
from pipelines.features import FeatureSpec, Inputs, post_inputs


@dataclass(frozen=True)
class Corpus:
    """All posts.

    Attributes:
        post_id: sorted. int64 [N].
        author_id: 0 = unknown. int64 [N].
    """

    post_id: NDArray[np.int64]
    author_id: NDArray[np.int64]

    @classmethod
    def load(cls, data: Path) -> Corpus:
        """The posts of prepared data."""
        posts = pq.read_table(data / "posts.parquet", columns=["post_id", "author_id"])
        posts = posts.sort_by("post_id")
        return cls(posts["post_id"].to_numpy(), pc.fill_null(posts["author_id"], 0).to_numpy())

    def __len__(self) -> int:
        return len(self.post_id)

    def row(self, post_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place of each post in the corpus, -1 = not in it. Shape of `post_id`."""
        return find(post_id, self.post_id)

    def inputs(
        self, spec: FeatureSpec, facts: Facts, rows: NDArray[np.int64] | slice = slice(None)
    ) -> Inputs:
        """What the post tower reads of some posts, as `features.post_inputs`. [rows, ...] each."""
        return post_inputs(self.post_id[rows], self.author_id[rows], spec, facts)
