"""Texts as sequences of words, to find words and phrases in many texts at once."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.encoding import expand

# Scripts that put no blanks between words: each character counts as a word, and so does a symbol
# such as an emoji.
_ALONE = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{So}])"
_BETWEEN = r"[^\p{L}\p{M}\p{N}\p{So}_]+"
_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, and its bits look random


@dataclass(frozen=True)
class Words:
    """Texts, each a sequence of words; a word is a number that follows from its letters.

    Attributes:
        number: the words of all texts, one text after the other. int64 [w].
        start: where each text begins, and the end of the last. int64 [n + 1].
    """

    number: NDArray[np.int64]
    start: NDArray[np.int64]

    @classmethod
    def of(cls, texts: pa.Array) -> Words:
        """Split `texts` [n], null = no words.

        Case, width and other compatible forms of a letter count as one; marks such as # and @
        are left out, so "#Rain" is the word "rain".
        """
        plain = pc.utf8_lower(pc.utf8_normalize(pc.fill_null(texts, ""), form="NFKC"))
        spaced = pc.replace_substring_regex(plain, pattern=_ALONE, replacement=r" \1 ")
        spaced = pc.replace_substring_regex(spaced, pattern=_BETWEEN, replacement=" ")
        lists = pc.split_pattern(pc.utf8_trim_whitespace(spaced), " ")
        words = lists.flatten().dictionary_encode()
        vocabulary = np.array([_number(word) for word in words.dictionary.to_pylist()], np.int64)
        number = vocabulary[words.indices.to_numpy(zero_copy_only=False)]
        ends = np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))
        empty = number == 0  # between two blanks, and all there is to a text without words
        skipped = np.concatenate([[0], np.cumsum(empty)])
        start = np.concatenate([[0], ends]).astype(np.int64)
        return cls(number[~empty], start - skipped[start])

    def __len__(self) -> int:
        return len(self.start) - 1

    def take(self, rows: NDArray[np.int64]) -> Words:
        """The given texts, in the order given."""
        length = self.start[rows + 1] - self.start[rows]
        which, slot = expand(length)
        number = self.number[self.start[rows][which] + slot]
        return Words(number, np.concatenate([[0], np.cumsum(length)]))

    def digest(self) -> NDArray[np.int64]:
        """A number for each text: equal where the words and their order are; 0 = no words. [n]."""
        length = np.diff(self.start)
        _, slot = expand(length)
        with np.errstate(over="ignore"):  # wrapping is the point
            mixed = self.number.astype(np.uint64) + (slot + 1).astype(np.uint64) * _STEP
            mixed = (mixed ^ (mixed >> np.uint64(31))) * _STEP
            mixed ^= mixed >> np.uint64(29)
            total = np.zeros(len(self), np.uint64)
            some = length > 0
            total[some] = np.add.reduceat(mixed, self.start[:-1][some]) if some.any() else 0
        return np.where(some, total | np.uint64(1), 0).astype(np.int64)

    def mention(self, phrases: Words) -> NDArray[np.bool_]:
        """Whether each text holds the words of one of `phrases` in a row. bool [n].

        A phrase without words is never held.
        """
        text = np.repeat(np.arange(len(self)), np.diff(self.start))
        found = np.zeros(len(self), np.bool_)
        for begin, end in zip(phrases.start, phrases.start[1:], strict=False):
            at = np.flatnonzero(self.number == phrases.number[begin]) if end > begin else text[:0]
            for step in range(1, end - begin):
                at = at[at + step < len(text)]
                same = self.number[at + step] == phrases.number[begin + step]
                at = at[same & (text[at + step] == text[at])]
            found[text[at]] = True
        return found


def _number(word: str) -> int:
    """At least 1, the same on every machine; 0 for no word."""
    if not word:
        return 0
    digest = blake2b(word.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (2**63 - 1) + 1
