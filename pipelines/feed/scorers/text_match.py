from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class TextMatch(Scorer):
    """Adds `worth` times how well a post matches the text searched for.

    The match is the mean of that in words, 1 = the post says each of them, and of that in
    meaning, a cosine of which what is below 0 counts 0, with the weights `words` and `meaning`.
    Where the meaning of text or post is unknown it is that in words alone.
    """

    needs = ("post_id",)
    provides: ClassVar = {
        "words_match": np.float64,  # in [0, 1]
        "meaning_match": np.float64,  # a cosine, NaN = unknown
        "text_match_worth": np.float64,
    }
    fails = "open"  # the order is then that of a timeline
    timeout_ms: PositiveInt = 1000
    worth: NonNegativeFloat = 30.0  # of a full match, beside a post's predicted value
    words: PositiveFloat = 1.0
    meaning: NonNegativeFloat = 1.0

    def enabled(self, query: FeedQuery) -> bool:
        """Where something is searched for."""
        return bool(query.text)

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask how well all posts match, by whichever source they came."""
        found = await services.match(query.text, posts.post_id)
        words, meaning = found["words"], found["meaning"]
        weight = np.where(np.isnan(meaning), 0.0, self.meaning)
        both = self.words * words + weight * np.maximum(np.nan_to_num(meaning), 0)
        match = both / (self.words + weight)
        return {
            "words_match": words,
            "meaning_match": meaning,
            "text_match_worth": self.worth * match,
        }

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Name both parts, and what they add."""
        words, meaning = posts["words_match"][row], posts["meaning_match"][row]
        parts = f"words {words:.2f}"
        if not np.isnan(meaning):
            parts += f", meaning {meaning:.2f}"
        return f"matches the search ({parts}) +{posts['text_match_worth'][row]:.2f}"
