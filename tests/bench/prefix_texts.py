"""Vectors for the bench of prefixes: real ones, and as many more as are asked for.

More than there are real ones are made of them: a mean of two posts of one coarse topic, weighed by
chance, and a little noise, again at length 1. Neighbourhoods are then denser than those of real
texts and have no finer structure than two texts' mean; a report says how many are real.

Axes: n texts, E width of the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.prefix.posts import Labelled, PostsRun

Vectors = NDArray[np.float32]
_TOPICS, _PER_TOPIC, _SIZE = 20, 250, 384  # of what is made up
_NOISE = 0.3  # length of the noise beside a mixture of length 1


@dataclass(frozen=True)
class Texts:
    """Vectors of texts, their coarse labels, and where they are from."""

    content: Vectors
    label: NDArray[np.int64]
    origin: str

    @classmethod
    def of_posts(cls, data: Path) -> Texts:
        """Those of prepared data, as `train.prefix.posts` reads them."""
        posts = Labelled.of(data, PostsRun())
        return cls(posts.content, posts.labels[:, 0], f"posts of {data.name}")

    @classmethod
    def of_file(cls, file: Path) -> Texts:
        """From an .npz with `content` [n, E] and `label` [n], of any encoded texts."""
        with np.load(file) as held:
            content, label = held["content"].astype(np.float32), held["label"]
        content /= np.linalg.norm(content, axis=1, keepdims=True)
        return cls(content, np.unique(label, return_inverse=True)[1], f"texts of {file.stem}")

    @classmethod
    def made_up(cls, rng: np.random.Generator) -> Texts:
        """A stand-in of topics, kinds in topics, and texts in kinds: no real text at all."""
        num = _TOPICS * _PER_TOPIC
        topic = np.arange(num) // _PER_TOPIC
        kind = np.arange(num) // 25
        vectors = (
            rng.normal(size=(_TOPICS, _SIZE))[topic]
            + rng.normal(size=(num // 25, _SIZE))[kind]
            + rng.normal(size=(num, _SIZE))
        ).astype(np.float32)
        return cls(_unit(vectors), topic, "made up: 20 topics of 10 kinds of 25 texts")

    def grown(self, num: int, rng: np.random.Generator) -> Vectors:
        """`num` vectors: as many of these as fit, in random order, and mixtures. [num, E]."""
        own = rng.permutation(len(self.content))[:num]
        made = [self.content[own]]
        order = np.argsort(self.label, kind="stable")
        first = np.searchsorted(self.label[order], self.label)
        size = np.bincount(self.label)[self.label]
        left = num - len(own)
        while left > 0:
            a = rng.integers(len(self.content), size=min(left, 50_000))
            b = order[first[a] + (rng.random(len(a)) * size[a]).astype(np.int64)]
            share = rng.random((len(a), 1), np.float32)
            noise = rng.standard_normal((len(a), self.content.shape[1]), np.float32)
            noise *= _NOISE / np.sqrt(noise.shape[1])
            made.append(_unit(share * self.content[a] + (1 - share) * self.content[b] + noise))
            left -= len(a)
        return np.concatenate(made)


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
