"""What needs no learning: printed beside every claim of a model.

A ranking baseline gives each row of a log a score from strictly earlier rows alone
(`RANKING`). A retrieval baseline is fitted on a log and gives every post of the corpus a score
per viewer (`Retriever`); `top_posts` turns the scores into pages without seen posts, the same
way for all. New ones slot in as a function of the first or a class of the second kind.
"""

from train.baselines.blend import Blend
from train.baselines.neighbours import ItemNeighbours
from train.baselines.ranking import (
    COUNTS,
    PRIOR,
    PROBABILITIES,
    RANKING,
    Floats,
    earlier,
    overall_rate,
    user_rate,
)
from train.baselines.retrieval import (
    LIKES,
    Ease,
    Ids,
    Popular,
    Retriever,
    Transitions,
    liked_pairs,
    top_posts,
)

__all__ = [
    "COUNTS",
    "LIKES",
    "PRIOR",
    "PROBABILITIES",
    "RANKING",
    "Blend",
    "Ease",
    "Floats",
    "Ids",
    "ItemNeighbours",
    "Popular",
    "Retriever",
    "Transitions",
    "earlier",
    "liked_pairs",
    "overall_rate",
    "top_posts",
    "user_rate",
]
