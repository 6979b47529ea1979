"""Search by words: BM25 as written down, however the posts came in."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.stores.search import WordIndex

VOCABULARY = ["rain", "cat", "sun", "street", "ray", "data"]
TEXTS = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=8).map(" ".join), max_size=20)
QUERIES = st.lists(st.sampled_from([*VOCABULARY, "unheard"]), min_size=1, max_size=4).map(" ".join)


def table(texts: list[str | None], first: int = 1) -> pa.Table:
    """Posts numbered from `first`."""
    ids = pa.array(range(first, first + len(texts)), pa.int64())
    return pa.table({"post_id": ids, "text": pa.array(texts, pa.string())})


def index(*parts: pa.Table, **settings: float) -> WordIndex:
    """An index of these posts, added one part after another."""
    made = WordIndex(**settings)
    for part in parts:
        made.add(part)
    return made


def closed_form(texts: list[str], query: str, k1: float = 1.2, b: float = 0.75) -> dict[int, float]:
    """Post -> BM25, by the formula, one text after another."""
    split = {n: text.split() for n, text in enumerate(texts, start=1) if text.split()}
    mean = sum(map(len, split.values())) / max(len(split), 1)
    scores = dict.fromkeys(split, 0.0)
    for word in set(query.split()):
        holding = sum(word in words for words in split.values())
        idf = math.log(1 + (len(split) - holding + 0.5) / (holding + 0.5))
        for post_id, words in split.items():
            tf = words.count(word)
            longer = 1 - b + b * len(words) / mean
            scores[post_id] += idf * tf * (k1 + 1) / (tf + k1 * longer)
    return {post_id: score for post_id, score in scores.items() if score}


@given(texts=TEXTS, query=QUERIES)
def test_scores_are_those_of_the_formula(texts, query):
    """BM25 to 1e-12 for every post that holds a word, no other post, best first."""
    hits = index(table(texts)).search(query, 100)
    expected = closed_form(texts, query)

    assert set(hits.post_id.tolist()) == set(expected)
    for post_id, value in zip(hits.post_id.tolist(), hits.value.tolist(), strict=True):
        assert value == pytest.approx(expected[post_id], rel=1e-12, abs=1e-12)
    assert all(a >= b for a, b in pairwise(hits.value))


@given(texts=TEXTS, query=QUERIES, data=st.data())
def test_posts_come_in_parts_in_any_order(texts, query, data):
    """Added one by one, in parts or twice, the same posts give the very same answers."""
    at_once, order = index(table(texts)), data.draw(st.permutations(range(len(texts))))
    rows = table(texts)
    parts, done = [], 0
    while done < len(texts):
        size = data.draw(st.integers(1, 4))
        parts.append(rows.take(pa.array(order[done : done + size])))
        done += size
    in_parts = index(*parts, *parts[:2])
    one, other = (made.search(query, 7) for made in (at_once, in_parts))

    assert len(in_parts) == len(at_once)
    assert one.post_id.tolist() == other.post_id.tolist()
    np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
    ids = np.arange(30)
    np.testing.assert_allclose(
        at_once.match(query, ids), in_parts.match(query, ids), rtol=1e-12, atol=1e-15
    )


@given(texts=TEXTS, word=st.sampled_from(VOCABULARY), others=st.integers(1, 20))
def test_unrelated_posts_change_no_order_by_one_word(texts, word, others):
    """Without regard to length, posts that lack the word scale all scores alike."""
    before = index(table(texts), b=0.0)
    after = index(table(texts), table(["elsewhere"] * others, first=1000), b=0.0)
    one, other = (made.search(word, 50) for made in (before, after))

    assert one.post_id.tolist() == other.post_id.tolist()
    if len(one.value):
        np.testing.assert_allclose(other.value / one.value, other.value[0] / one.value[0])
        assert other.value[0] > one.value[0]  # the word has become rarer


@given(texts=TEXTS, query=QUERIES, others=st.integers(1, 20))
def test_unrelated_posts_are_never_found(texts, query, others):
    """What holds none of the words is not among the hits, and matches by 0."""
    made = index(table(texts), table(["elsewhere again"] * others, first=1000))
    added = np.arange(1000, 1000 + others)

    assert not np.isin(made.search(query, 100).post_id, added).any()
    assert not made.match(query, added).any()


@given(texts=TEXTS, query=QUERIES)
def test_a_match_is_a_share_in_the_order_of_scores(texts, query):
    """In [0, 1], the score over the sum of the words' idf, cut at 1; posts not there get 0."""
    made = index(table(texts))
    hits = made.search(query, 100)
    shares = made.match(query, hits.post_id)
    split = [set(text.split()) for text in texts if text.split()]
    holding = [sum(word in words for words in split) for word in set(query.split())]
    most = sum(math.log(1 + (len(split) - n + 0.5) / (n + 0.5)) for n in holding)

    np.testing.assert_allclose(shares, np.minimum(hits.value / most, 1), rtol=1e-12)
    assert made.match(query, np.array([777, 888])).tolist() == [0, 0]


def test_each_word_once_is_a_full_match():
    """In a text of mean length; saying one of them again, or in a shorter text, adds nothing."""
    made = index(table(["rain cat", "rain sun", "cat sun", "rain cat cat", "rain"]), b=0.0)
    ids = np.array([1, 4, 5])
    full, again, half = made.match("cat rain", ids).tolist()
    assert full == again == pytest.approx(1)
    assert 0 < half < 0.6


def test_a_word_once_in_every_post_counts_still():
    """No score is negative or zero, however common a word is."""
    assert (index(table(["rain"] * 5)).search("rain", 9).value > 0).all()


def test_what_is_no_word_finds_nothing():
    """Punctuation, posts without text, an empty index: empty answers, no errors."""
    made = index(table(["Rain!", None, "", "..."]))
    assert len(made) == 1
    assert made.search("#RAIN", 9).post_id.tolist() == [1]
    for text in ("", "   ", "?!"):
        assert len(made.search(text, 9).post_id) == 0
        assert made.match(text, np.array([1])).tolist() == [0]
    assert len(WordIndex().search("rain", 9).post_id) == 0
    assert WordIndex().match("rain", np.array([1])).tolist() == [0]


def test_a_post_that_is_there_stays_as_it_is():
    """The first text of a post counts, whether it comes again later or in the same table."""
    made = index(table(["rain"]), table(["sun"]))
    assert len(made.search("sun", 9).post_id) == 0
    twice = pa.concat_tables([table(["cat"], first=5), table(["ray"], first=5)])
    assert made.add(twice) == 1
    assert made.search("cat ray", 9).post_id.tolist() == [5]


def test_equal_posts_are_cut_by_id():
    """Of equally good posts those with the smaller ids are given out."""
    made = index(table(["rain"] * 30), table(["rain rain"], first=90))
    assert made.search("rain", 4).post_id.tolist() == [90, 1, 2, 3]
