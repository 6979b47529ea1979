"""Posts by the prefixes of their embeddings: one FAISS index a prefix, all over one stored vector.

A vector is two parts, coarse then fine, each of one length for all posts (`SeparatedHead`), so
its first numbers are the coarse embedding itself. Of two vectors the similarity is
a · coarse + (1 - a) · fine, cosines both, with a = 1 - zoom / 2: at zoom 0 the first part alone, at
zoom 1 the cosine of whole vectors whose parts weigh the same. One inner product with a weighted
query gives any of them, so the index over whole vectors serves every zoom.

Axes: N posts, E width of the text encoder, W width of a vector, n texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.facts import Facts
from train.index import Ids, Mask, PostIndex
from train.models.prefix import SeparatedHead

PREFIX = "prefix"  # name of the part of a bundle: config, weights, folder of indexes
_TEXTS_AT_ONCE = 8_192  # through the head
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class PrefixIndex:
    """Posts that have a text, by the first block of their vectors and by all of it.

    Attributes:
        coarse: index of the first block.
        full: of whole vectors, the same posts in the same order.
    """

    coarse: PostIndex
    full: PostIndex

    @property
    def coarse_size(self) -> int:
        """Numbers of the first block."""
        return self.coarse.vectors.d

    @classmethod
    def build(cls, post_id: NDArray[np.int64], vectors: Vectors, coarse_size: int) -> PrefixIndex:
        """Index vectors [N, W] of posts [N], at least one."""
        first = np.ascontiguousarray(vectors[:, :coarse_size])
        return cls(PostIndex.build(post_id, first), PostIndex.build(post_id, vectors))

    def save(self, folder: Path) -> None:
        """Write both, each into a folder named for its width."""
        for index in (self.coarse, self.full):
            place = folder / str(index.vectors.d)
            place.mkdir(parents=True)
            index.save(place)

    @classmethod
    def load(cls, folder: Path, which: Callable[[Ids], Mask] | None = None) -> PrefixIndex:
        """Read what `save` wrote; `which` as for `PostIndex.load`."""
        sizes = sorted(int(place.name) for place in folder.iterdir())
        return cls(*(PostIndex.load(folder / str(size), which) for size in sizes))


def index_texts(head: SeparatedHead, facts: Facts) -> PrefixIndex:
    """Prefix vectors of the posts that have a text.

    Raises:
        ValueError: none has.
    """
    has = facts.content[:-1].any(axis=1)
    if not has.any():
        raise ValueError("no post has a vector of text, so none has a prefix vector")
    vectors = embed(head, facts.content[:-1][has])
    return PrefixIndex.build(facts.post_id[has], vectors, head.config.part_sizes[0])


def embed(head: SeparatedHead, content: Vectors) -> Vectors:
    """Vectors of texts from those of the encoder. [n, E] -> [n, W]."""
    with torch.inference_mode():
        parts = [
            head.embed(torch.from_numpy(content[first : first + _TEXTS_AT_ONCE]))
            for first in range(0, max(len(content), 1), _TEXTS_AT_ONCE)
        ]
    return torch.cat(parts).numpy()


def of_content(head: SeparatedHead, content: Vectors) -> Vectors:
    """Whole vectors at length 1 whose parts weigh the same, as in a search by all of them.

    [n, E] -> [n, W]; zeros, a post without a text, stay zeros.
    """
    has = content.any(axis=1, keepdims=True)
    parts = split(embed(head, content), head.config.part_sizes[0])
    return unit(np.concatenate(parts, axis=1)) * has


def split(vectors: Vectors, coarse_size: int) -> tuple[Vectors, Vectors]:
    """Both parts at length 1. [..., W] -> [..., coarse_size] and the rest."""
    coarse, fine = np.split(vectors, [coarse_size], axis=-1)
    return unit(coarse), unit(fine)


def unit(vectors: Vectors) -> Vectors:
    """Rows at length 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, np.float32(1e-12))
