"""Words and phrases are found where a reader would say they stand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.feed.words import Words

LETTERS = st.lists(st.sampled_from("abc"), max_size=6)


def mentions(text: str | None, *keywords: str) -> bool:
    """Whether one text holds one of the keywords."""
    return bool(Words.of(pa.array([text], pa.string())).mention(Words.of(pa.array(keywords)))[0])


@pytest.mark.parametrize(
    ("text", "keyword", "held"),
    [
        ("Rain again", "rain", True),
        ("rain", "Rain again", False),
        ("training", "rain", False),
        ("so much #Rain!", "rain", True),
        ("Don't stop", "don't", True),
        ("dont stop", "don't", False),
        ("the end is near", "end is", True),
        ("the end. Is near", "END IS", True),
        ("is end", "end is", False),
        ("ÉTÉ", "été", True),
        ("e\u0301te\u0301", "été", True),
        ("ＦＵＬＬ", "full", True),
        ("今日は雨です", "雨", True),
        ("今日は雨です", "雨で", True),
        ("今日は雨です", "雨は", False),
        ("so nice 🌧️🌧️", "🌧", True),
        ("so nice", "🌧", False),
        (None, "rain", False),
        ("rain", "!?", False),
        ("?!", "!?", False),
        ("", "", False),
    ],
)
def test_a_phrase_is_whole_words_in_a_row(text, keyword, held):
    """Case, width, accents' spelling and punctuation do not matter; parts of words do not count."""
    assert mentions(text, keyword) == held


@given(st.lists(LETTERS, max_size=5), st.lists(LETTERS, max_size=4), st.data())
def test_many_texts_at_once_are_as_each_alone(texts, phrases, data):
    """A phrase never reaches from one text into the next, in any order of texts."""
    words = Words.of(pa.array([" ".join(text) for text in texts], pa.string()))
    keywords = Words.of(pa.array([" ".join(phrase) for phrase in phrases], pa.string()))
    rows = np.array(data.draw(st.lists(st.sampled_from(range(len(texts))))) if texts else [], int)
    expected = [
        any(
            phrase and phrase == texts[row][at : at + len(phrase)]
            for phrase in phrases
            for at in range(len(texts[row]))
        )
        for row in rows
    ]
    assert words.take(rows).mention(keywords).tolist() == expected
