"""What needs no learning: printed beside every claim of a model.

A ranking baseline gives each row of a log a score from strictly earlier rows alone
(`RANKING`). A retrieval baseline is fitted on a log and gives every post of the corpus a score
per viewer (`Retriever`); `top_posts` turns the scores into pages without seen posts, the same
way for all. New ones slot in as a function of the first or a class of the second kind.
"""

from pipelines.schema import DAY_MS
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
from train.rows import Past

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
    "fit_retrievers",
    "liked_pairs",
    "overall_rate",
    "top_posts",
    "user_rate",
]


def fit_retrievers(past: Past, corpus: Ids, with_clock: bool = True) -> dict[str, Retriever]:
    """Every retrieval baseline, fitted on `past`.

    Args:
        past: what may be learned from.
        corpus: sorted ids of all posts. int64 [P].
        with_clock: whether times of `past` are of a clock; without, nothing is known of last days.
    """
    recent: dict[str, Retriever] = {}
    if with_clock:
        week_ms = past.at_ms.max(initial=0) - 7 * DAY_MS
        recent["popular_7_days"] = Popular.fit(past, corpus, since_ms=week_ms)
    blend = Blend.fit(past, corpus)
    return {
        "popular": Popular.fit(past, corpus),
        **recent,
        "transitions": Transitions.fit(past, corpus),
        "ease": blend.ease,
        "item_knn": ItemNeighbours.fit(past, corpus),
        "blend": blend,
    }
