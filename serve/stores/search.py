"""Posts by the words of their texts, ranked by BM25; posts may be added at any time.

Axes: n texts, V different words, P postings (a word and a text that holds it), Q words of a query.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.encoding import expand
from pipelines.feed.services import Hits
from pipelines.feed.words import Words
from serve.stores.lookup import positions
from serve.stores.tiers import with_tier

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """Some texts, inverted; each holds at least one word.

    Attributes:
        post_id: sorted. int64 [n].
        length: words of each text, as often as they occur. int64 [n].
        word: the different words as numbers, sorted. int64 [V].
        start: where the postings of each word begin, and the end of the last. int64 [V + 1].
        row: text of each posting. int64 [P].
        times: how often the word is there. int64 [P].
    """

    post_id: Ids
    length: Ids
    word: Ids
    start: Ids
    row: Ids
    times: Ids

    @classmethod
    def of(cls, post_id: Ids, words: Words) -> Texts:
        """Invert the texts of posts [n], ids sorted; those without words are left out."""
        length = np.diff(words.start)
        has = length > 0
        row = np.repeat(np.cumsum(has) - 1, length)
        return cls._inverted(post_id[has], length[has], words.number, row, np.ones_like(row))

    @classmethod
    def _inverted(cls, post_id: Ids, length: Ids, word: Ids, row: Ids, times: Ids) -> Texts:
        """From a word, a text and a number of times each, in any order."""
        order = np.lexsort((row, word))
        word, row, times = word[order], row[order], times[order]
        first = np.flatnonzero(
            np.append(True, (np.diff(word) > 0) | (np.diff(row) > 0))[: len(row)]
        )
        times = np.add.reduceat(times, first) if len(first) else times
        word, row = word[first], row[first]
        starts = np.flatnonzero(np.append(True, np.diff(word) > 0)[: len(word)])
        return cls(post_id, length, word[starts], np.append(starts, len(word)), row, times)

    def __len__(self) -> int:
        return len(self.post_id)

    def merged(self, other: Texts) -> Texts:
        """These texts and others, of posts that are not here."""
        post_id = np.concatenate([self.post_id, other.post_id])
        order = np.argsort(post_id)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return Texts._inverted(
            post_id[order],
            np.concatenate([self.length, other.length])[order],
            np.concatenate([np.repeat(t.word, np.diff(t.start)) for t in (self, other)]),
            place[np.concatenate([self.row, other.row + len(self)])],
            np.concatenate([self.times, other.times]),
        )

    def without(self, post_id: Ids) -> Texts:
        """These texts but for those of some posts."""
        kept = ~np.isin(self.post_id, post_id)
        row_now = np.cumsum(kept) - 1
        at = kept[self.row]
        word = np.repeat(self.word, np.diff(self.start))[at]
        return Texts._inverted(
            self.post_id[kept], self.length[kept], word, row_now[self.row[at]], self.times[at]
        )

    def postings(self, words: Ids) -> tuple[Ids, Ids]:
        """Where the postings of each of `words` [Q] begin, and how many they are. [Q] twice."""
        place, known = positions(self.word, words)
        start, end = (np.where(known, self.start[at], 0) for at in (place, place + 1))
        return start, end - start


class WordIndex:
    """Texts of posts, searched by words. Any thread may call anything at any time.

    A text scores Σ over the different words of the query of

        idf · tf (k1 + 1) / (tf + k1 (1 - b + b · length / mean length)),
        idf = log(1 + (N - n + 1/2) / (n + 1/2)),

    tf how often the word is in the text, n how many of all N texts hold it. So with
    k1 = 1.2 and b = 0.75 in Robertson and Zaragoza, "The Probabilistic Relevance Framework"
    (2009), section 3; the 1 in the logarithm, which keeps it above 0, is Lucene's. Words are
    those of `pipelines.feed.words`. Texts without words count for nothing.
    """

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        """Start with no posts."""
        self._k1, self._b = k1, b
        self._tiers: tuple[Texts, ...] = ()
        self._writing = threading.Lock()

    def add(self, posts: pa.Table) -> int:
        """Add posts: columns `post_id` and `text`, null = none; returns how many are new.

        A post that is there already stays as it is; of one that comes twice the first counts.
        """
        post_id = posts["post_id"].to_numpy()
        post_id, first = np.unique(post_id, return_index=True)
        with self._writing:
            known = np.zeros(len(post_id), np.bool_)
            for tier in self._tiers:
                known |= positions(tier.post_id, post_id)[1]
            texts = posts["text"].cast(pa.string()).combine_chunks()
            words = Words.of(texts.take(pa.array(first[~known])))
            new = Texts.of(post_id[~known], words)
            if len(new):
                self._tiers = with_tier(self._tiers, new, Texts.merged)
            return len(new)

    def forget(self, post_id: Ids) -> None:
        """Let go of posts [n]; takes time in proportion to the parts that hold any."""
        with self._writing:
            parts = [
                tier.without(post_id) if np.isin(tier.post_id, post_id).any() else tier
                for tier in self._tiers
            ]
            self._tiers = tuple(part for part in parts if len(part))

    def __len__(self) -> int:
        return sum(map(len, self._tiers))

    def search(self, text: str, num_posts: int) -> Hits:
        """Posts that hold a word of `text`, best first; equally good ones by id."""
        found = [(tier.post_id[scores > 0], scores[scores > 0]) for tier, scores in self._all(text)]
        post_id = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in found)])
        score = np.concatenate([np.empty(0), *(scores for _, scores in found)])
        if len(score) > num_posts:
            least = np.partition(score, -num_posts)[-num_posts]
            post_id, score = post_id[score >= least], score[score >= least]
        order = np.lexsort((post_id, -score))[:num_posts]
        return Hits(post_id[order], score[order])

    def match(self, text: str, post_id: Ids) -> Floats:
        """The score of each of some posts, as a share of Σ idf over the words of `text`.

        That is what a text of mean length gets that says each of them once, whether or not there
        is one. A share is at most 1: saying a word more often makes no better match.
        float64 [C] in [0, 1].
        """
        tiers = self._tiers
        most = self._idf(tiers, _words(text)).sum()
        score = np.zeros(len(post_id))
        for tier, scores in self._all(text, tiers):
            place, known = positions(tier.post_id, post_id)
            score[known] = scores[place[known]]
        return np.minimum(score / most, 1.0) if most else score

    def _all(
        self, text: str, tiers: tuple[Texts, ...] | None = None
    ) -> Iterator[tuple[Texts, Floats]]:
        """Each part, with the score of all of its texts. float64 [n]."""
        tiers, words = self._tiers if tiers is None else tiers, _words(text)
        idf = self._idf(tiers, words)
        mean = sum(int(t.length.sum()) for t in tiers) / max(sum(map(len, tiers)), 1)
        for tier in tiers:
            start, num = tier.postings(words)
            which, nth = expand(num)
            at = start[which] + nth
            row, times = tier.row[at], tier.times[at]
            longer = 1 - self._b + self._b * tier.length[row] / mean
            score = idf[which] * times * (self._k1 + 1) / (times + self._k1 * longer)
            yield tier, np.bincount(row, score, len(tier)).astype(np.float64)

    def _idf(self, tiers: tuple[Texts, ...], words: Ids) -> Floats:
        num_texts = sum(map(len, tiers))
        holding = sum((tier.postings(words)[1] for tier in tiers), np.zeros(len(words), np.int64))
        return np.log(1 + (num_texts - holding + 0.5) / (holding + 0.5))


def _words(text: str) -> Ids:
    """The different words of a text, as numbers. int64 [Q]."""
    return np.unique(Words.of(pa.array([text])).number)
