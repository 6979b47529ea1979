"""What the numbers say to what people complain of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.diagnostics.rates import Floats, Needed, wilson
from pipelines.diagnostics.tally import Reach, Tally


@dataclass(frozen=True)
class Answer:
    """A complaint, and what is known of it; `numbers` are those that the answer names."""

    complaint: str
    answer: str
    numbers: Mapping[str, float]


def followers_see(reach: Reach | None, needed: Needed) -> Answer:
    """Whether an author's followers get the posts."""
    complaint = "my followers don't see my posts"
    if reach is None:
        return Answer(complaint, "Unknown: the bundle has no follows.", {})
    if reach.profiles < needed.min_events:
        return Answer(
            complaint,
            f"Unknown: {reach.profiles} of the author's {reach.followers} followers have events "
            f"in the log; {needed.min_events} are needed.",
            {"followers": reach.followers, "followers_in_log": reach.profiles},
        )
    share = reach.reached / reach.profiles
    low, high = (float(end) for end in wilson(reach.reached, reach.profiles))
    numbers = {
        "followers": float(reach.followers),
        "followers_in_log": float(reach.profiles),
        "followers_reached": float(reach.reached),
        "share_of_followers": share,
        "share_of_followers_low": low,
        "share_of_followers_high": high,
        "showings": float(reach.shown),
        "showings_to_followers": float(reach.in_network),
    }
    text = (
        f"{reach.reached} of {reach.profiles} followers who used the feed were shown a post of the "
        f"author ({share:.0%}, 95 % interval {low:.0%} to {high:.0%})"
    )
    if reach.shown and reach.base_shown:
        mine, base = reach.in_network / reach.shown, reach.base_in_network / reach.base_shown
        numbers |= {"share_of_showings": mine, "base_share_of_showings": base}
        text += f"; {mine:.0%} of the author's showings went to followers, {base:.0%} over all"
    return Answer(complaint, f"{text}.", numbers)


def small_are_throttled(one: Tally, others: Tally) -> Answer:
    """Whether an author's posts are shown less than others', and small accounts' in general.

    Args:
        one: the author's counts (N = 1).
        others: those of authors of the bundle.
    """
    complaint = "small accounts get throttled"
    mine, theirs = (_per_post(tally) for tally in (one, others))
    followers = others.account.followers
    numbers = {"showings_per_post": float(mine[0]), "median": float(np.median(theirs))}
    text = (
        f"{mine[0]:.3g} showings per post; the middle of {len(theirs)} authors of the bundle has "
        f"{np.median(theirs):.3g}"
    )
    if np.isnan(followers).all() or len(np.unique(followers)) < 2:
        size = "num_posts"
        kind, sizes = "posts", others.account.num_posts
    else:
        size, kind, sizes = "followers", "followers", followers
    tied = rank_correlation(sizes, theirs)
    if np.isnan(tied):
        return Answer(complaint, f"{text}.", numbers)
    numbers |= {f"rank_correlation_with_{size}": tied, "authors": float(len(theirs))}
    text += (
        f". Showings per post go with the number of {kind} by a rank correlation of {tied:.2f} "
        "(1 = the larger the more, 0 = size says nothing)"
    )
    if kind == "posts":
        text += "; how many follow them is not known"
    return Answer(complaint, f"{text}. It does not say why.", numbers)


def rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's correlation, equal values sharing their mean rank; NaN for constants."""
    ranks = [_ranks(values) for values in (x, y)]
    if len(x) < 2 or any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    x, y = (rank - rank.mean() for rank in ranks)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _ranks(values: Floats) -> Floats:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def _per_post(tally: Tally) -> Floats:
    return tally.shown / np.maximum(tally.account.num_posts, 1)
