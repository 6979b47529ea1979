"""Texts with labels at several levels, coarse to fine, and how studies divide them.

Axes: N texts, L levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from configs import Config

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledTexts:
    """One set of texts.

    Attributes:
        name: of the set.
        text: N of them.
        labels: from 0 without a gap, one column a level, coarse first. int64 [N, L].
        names: of each level's labels.
        test: which texts the public split keeps for testing, bool [N]; None = it has no split.
    """

    name: str
    text: list[str]
    labels: NDArray[np.int64]
    names: tuple[tuple[str, ...], ...]
    test: NDArray[np.bool_] | None

    @classmethod
    def of(
        cls,
        name: str,
        text: Sequence[str],
        levels: Sequence[Sequence[str]],
        test: NDArray[np.bool_] | None,
    ) -> LabelledTexts:
        """From the names of labels: one sequence of N for each level, coarse first."""
        columns, names = [], []
        for level in levels:
            known, column = np.unique(np.asarray(level, dtype=str), return_inverse=True)
            columns.append(column.astype(np.int64))
            names.append(tuple(map(str, known)))
        return cls(name, list(text), np.stack(columns, axis=1), tuple(names), test)

    def take(self, rows: Rows) -> LabelledTexts:
        """Only those texts, in that order; labels keep their numbers."""
        text = [self.text[row] for row in rows]
        test = None if self.test is None else self.test[rows]
        return replace(self, text=text, labels=self.labels[rows], test=test)


class Sizes(Config):
    """How many texts of a set are used."""

    num_train: PositiveInt = 10_000  # per seed, validation included
    num_test: PositiveInt = 4_500  # the same for all seeds where the public split keeps some
    # Of larger sets only so many of each side are ever looked at, so that fewer are encoded.
    most_train: PositiveInt = 15_000
    seed: NonNegativeInt = 0  # draws them


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to test on, of which the first few are the smaller pools.

    Attributes:
        train: validation included, which whatever trains takes out by itself.
        test: in random order, so that its first 500 are a fair pool too.
    """

    train: Rows
    test: Rows


def shortened(texts: LabelledTexts, sizes: Sizes) -> LabelledTexts:
    """The part of a set that any seed may use: of exact copies one, a test text if any.

    Copies would be their own nearest neighbours, and some of them have two labels.
    """
    order = np.random.default_rng(sizes.seed).permutation(len(texts.text))
    if texts.test is not None:
        order = np.concatenate([order[texts.test[order]], order[~texts.test[order]]])
    _, first = np.unique([texts.text[row] for row in order], return_index=True)
    order = order[np.sort(first)]
    if texts.test is None:
        return texts.take(np.sort(order[: sizes.most_train + sizes.num_test]))
    test, train = order[texts.test[order]], order[~texts.test[order]]
    return texts.take(np.sort(np.concatenate([test[: sizes.num_test], train[: sizes.most_train]])))


def draw(test: NDArray[np.bool_] | None, num: int, sizes: Sizes, seed: int) -> Split:
    """Divide a set anew: a public test split stays apart, else one is drawn.

    Args:
        test: the public split, bool [num]; None = there is none.
        num: texts in the set.
        sizes: how many of them are used.
        seed: of the draw.
    """
    order = np.random.default_rng(seed).permutation(num)
    if test is None:
        held, rest = order[: sizes.num_test], order[sizes.num_test :]
    else:
        held, rest = order[test[order]], order[~test[order]]
    return Split(rest[: sizes.num_train], held[: sizes.num_test])


def grouped(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
    """The group, counted in the order of `groups`, that each of the `names` is in. [names]."""
    of = {inner: at for at, members in enumerate(groups.values()) for inner in members}
    return np.array([of[name] for name in names], np.int64)


def random_groups(num_fine: int, num_groups: int, seed: int) -> NDArray[np.int64]:
    """A random partition of fine labels into groups of equal size, give or take one. [num_fine]."""
    group = np.arange(num_fine) % num_groups
    return np.random.default_rng(seed).permutation(group)


def held_out_fine(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Fine labels to leave out of training: a share of those of each coarse label, at least one.

    Args:
        labels: coarse and fine, [N, 2].
        share: of the fine labels of each coarse one that has several.
        seed: draws them.

    Returns:
        Sorted fine labels. A coarse label with a single fine one loses none.
    """
    rng = np.random.default_rng(seed)
    out: list[int] = []
    for coarse in np.unique(labels[:, 0]):
        fine = np.unique(labels[labels[:, 0] == coarse, 1])
        num = max(1, round(share * len(fine))) if len(fine) > 1 else 0
        out += rng.permutation(fine)[:num].tolist()
    return np.sort(np.array(out, np.int64))


def noisy(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Labels [n] of which a share is replaced by another label, drawn uniformly."""
    rng = np.random.default_rng(seed)
    num_labels = int(labels.max()) + 1
    wrong = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, num_labels, len(wrong))) % num_labels
    return noisy


def entropy(labels: NDArray[np.int64]) -> float:
    """H of labels [n], in bits."""
    p = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(p * np.log2(p)).sum())


def conditional_entropy(coarse: NDArray[np.int64], fine: NDArray[np.int64]) -> float:
    """H(fine | coarse) of labels [n], in bits."""
    pair = coarse * (int(fine.max()) + 1) + fine
    return entropy(pair) - entropy(coarse)
