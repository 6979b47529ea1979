"""Finds the posts nearest to a viewer: a FAISS index over the post tower's vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipelines.facts import Facts
from pipelines.features import post_inputs
from train.models.text_towers import Towers
from train.models.tokens import tensors

EXACT_BELOW = 100_000  # posts; under this, comparing with all is cheaper than a network hop
_HNSW_LINKS, _EF_BUILD, _EF_SEARCH = 32, 200, 128
_POSTS_AT_ONCE = 65_536  # through the post tower
_VECTORS, _IDS = "posts.faiss", "post_ids.npy"
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PostIndex:
    """Vectors of all posts and whose they are.

    Attributes:
        post_id: int64 [N], in the order of the vectors.
        vectors: the FAISS index, inner product.
    """

    post_id: NDArray[np.int64]
    vectors: Any

    @classmethod
    def build(cls, post_id: NDArray[np.int64], vectors: NDArray[np.float32]) -> PostIndex:
        """Exact search under `EXACT_BELOW` posts, HNSW from there.

        Args:
            post_id: [N].
            vectors: [N, D].
        """
        if len(post_id) < EXACT_BELOW:
            index: Any = faiss.IndexFlatIP(vectors.shape[1])
        else:
            index = faiss.IndexHNSWFlat(vectors.shape[1], _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = _EF_BUILD
            index.hnsw.efSearch = _EF_SEARCH
        index.add(np.ascontiguousarray(vectors))
        return cls(post_id, index)

    def search(
        self, query: NDArray[np.float32], num_posts: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Posts with the largest inner products, best first.

        Args:
            query: [B, D].
            num_posts: how many; fewer come back where the index holds fewer.

        Returns:
            Post ids int64 [B, k] and similarities float32 [B, k]; id 0 and similarity
            -inf fill a row where HNSW found fewer than k.
        """
        row, similarity = self.nearest(query, num_posts)
        return np.where(row >= 0, self.post_id[row], 0), similarity

    def nearest(
        self,
        query: NDArray[np.float32],
        num_posts: int,
        among: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `search`, with the place of each post in `post_id`, -1 = none. [B, k] twice.

        Args:
            query: [B, D].
            num_posts: as for `search`.
            among: one bit for each post, the lowest of a byte first: those to look at; None = all.
        """
        k = min(num_posts, len(self.post_id))
        how = None
        if among is not None:
            library: Any = faiss  # whose stubs lack these classes
            chosen = library.IDSelectorBitmap(len(among), library.swig_ptr(among))
            how = library.SearchParameters(sel=chosen)
            if isinstance(self.vectors, faiss.IndexHNSWFlat):
                how = library.SearchParametersHNSW(sel=chosen, efSearch=max(_EF_SEARCH, k))
        similarity, row = self.vectors.search(np.ascontiguousarray(query), k, params=how)
        return row, np.where(row >= 0, similarity, -np.inf).astype(np.float32)

    def stored(self) -> NDArray[np.float32]:
        """The vectors themselves, not a copy: valid while this index lives. [N, D]."""
        flat: Any = faiss.downcast_index(getattr(self.vectors, "storage", self.vectors))
        shape = len(self.post_id), flat.d
        return faiss.rev_swig_ptr(flat.get_xb(), shape[0] * shape[1]).reshape(shape)

    def extended(self, post_id: NDArray[np.int64], vectors: NDArray[np.float32]) -> PostIndex:
        """An index of these and more posts; takes time and memory for both."""
        together = np.concatenate([self.post_id, post_id])
        if len(self.post_id) < EXACT_BELOW <= len(together):
            return PostIndex.build(together, np.concatenate([self.stored(), vectors]))
        index = faiss.clone_index(self.vectors)
        index.add(np.ascontiguousarray(vectors))
        return PostIndex(together, index)

    def save(self, folder: Path) -> None:
        """Write the index to `folder`, which must exist."""
        faiss.write_index(self.vectors, str(folder / _VECTORS))
        np.save(folder / _IDS, self.post_id)

    @classmethod
    def load(cls, folder: Path, which: Callable[[Ids], Mask] | None = None) -> PostIndex:
        """Read what `save` wrote: of the posts for which `which` is true, None = of all.

        The file is mapped then, not read, and the index made anew: above `EXACT_BELOW` posts that
        takes minutes a million.

        Raises:
            ValueError: there are no such posts.
        """
        post_id, file = np.load(folder / _IDS), str(folder / _VECTORS)
        if which is None:
            return cls(post_id, faiss.read_index(file))
        rows = np.flatnonzero(which(post_id))
        if not len(rows):
            raise ValueError(
                f"{folder}: none of its {len(post_id)} posts is in this part; take fewer parts"
            )
        whole = cls(post_id, faiss.read_index(file, faiss.IO_FLAG_MMAP_IFC))
        return cls.build(post_id[rows], whole.stored()[rows])


def index_posts(towers: Towers, posts: pa.Table, facts: Facts) -> PostIndex:
    """Run every post of schema.POSTS through its tower."""
    return PostIndex.build(posts["post_id"].to_numpy(), place_posts(towers, posts, facts))


def place_posts(towers: Towers, posts: pa.Table, facts: Facts) -> NDArray[np.float32]:
    """Vectors of posts of schema.POSTS, of which `facts` know more. [N, D]."""
    post_id = posts["post_id"].to_numpy()
    author_id = pc.fill_null(posts["author_id"], 0).to_numpy()
    spec = towers.config.post_features
    vectors = []
    with torch.inference_mode():
        for first in range(0, len(post_id), _POSTS_AT_ONCE):
            part = slice(first, first + _POSTS_AT_ONCE)
            inputs = post_inputs(post_id[part], author_id[part], spec, facts)
            vectors.append(towers.posts(tensors(inputs)))
    return torch.cat(vectors).numpy()
