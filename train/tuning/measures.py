"""How good pages are that a blend makes of logged visits, as far as the log and the models tell.

What came of a post is known where the log shows it. Of all others it is what the ranker predicts,
times the action's calibration: done over predicted, on the logged posts of the visits tuned on.

Axes: C candidates of a request, A actions, R requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.encoding import multi_hot
from pipelines.feed.replay import topic_entropy
from pipelines.feed.table import Candidates
from pipelines.schema import ACTIONS, DWELL_TIME
from train.metrics import ndcg_at_k
from train.preference.stakeholders.synthetic import ACTION_NAMES as NAMES
from train.preference.stakeholders.synthetic import ALPHA, action_weights

Floats = NDArray[np.float64]

TOP = 10  # posts of a page that are looked at
STAKEHOLDERS = {  # action -> weight of each, as train.preference has them
    name: dict(zip(NAMES, action_weights(alpha).tolist(), strict=True))
    for name, alpha in ALPHA.items()
}
_NEGATIVE = [at for at, action in enumerate(ACTIONS) if action.weight < 0]


@dataclass(frozen=True)
class Outcomes:
    """What is known of a request's candidates.

    Attributes:
        relevant: done what makes a post right. bool [C].
        num_relevant: of all posts of the visit, candidates or not.
        done: 1 = done, seconds of dwell; NaN = the log does not tell. float64 [C, A].
        predicted: by the ranker; NaN where nothing is. float64 [C, A].
    """

    relevant: NDArray[np.bool_]
    num_relevant: int
    done: Floats
    predicted: Floats


def outcomes(
    post_id: NDArray[np.int64],
    predicted: Floats,
    shown: tuple[NDArray, NDArray, NDArray, NDArray],
    action: int,
    dwell_cap_s: float,
) -> Outcomes:
    """Look candidates up among the posts shown.

    Args:
        post_id: candidates. [C].
        predicted: [C, A].
        shown: post_id, did, observed and dwell_s of the posts shown, as in `visits.Visit`.
        action: that makes a post right.
        dwell_cap_s: longer stays count as this long, as the ranker predicts them.
    """
    ids, did, observed, dwell_s = shown
    order = np.argsort(ids)
    place = np.searchsorted(ids, post_id, sorter=order)
    row = order[np.minimum(place, len(ids) - 1)]
    logged = ids[row] == post_id
    num_actions = predicted.shape[1]
    done = multi_hot(did[row], num_actions).astype(np.float64)
    done[multi_hot(observed[row], num_actions) == 0] = np.nan
    done[:, DWELL_TIME] = np.minimum(dwell_s[row], dwell_cap_s)  # NaN = not measured
    done[~logged] = np.nan
    of_visit = (did >> action) & 1 == 1
    return Outcomes(logged & of_visit[row], int(of_visit.sum()), done, predicted)


def calibration(known: Sequence[Outcomes]) -> Floats:
    """Done over predicted of each action, over all logged posts, one of each added. [A].

    The one keeps it finite, and near 1 where next to nothing is known.
    """
    done, predicted = np.ones((2, known[0].done.shape[1]))
    for each in known:
        both = np.isfinite(each.done) & np.isfinite(each.predicted)
        done += np.where(both, each.done, 0).sum(axis=0)
        predicted += np.where(both, each.predicted, 0).sum(axis=0)
    return done / predicted


@dataclass(frozen=True)
class Judge:
    """Measures pages of one request.

    Attributes:
        post_id: candidates. int64 [C].
        relevant, num_relevant: as in `Outcomes`.
        worth: by the bundle's own weights, whatever a trial's are. float64 [C].
        negative: learned negative actions expected of each. float64 [C].
        wanted: by each of STAKEHOLDERS of what is expected of each; an action that was not
            learned counts for nothing. float64 [C, K].
    """

    post_id: NDArray[np.int64]
    relevant: NDArray[np.bool_]
    num_relevant: int
    worth: Floats
    negative: Floats
    wanted: Floats

    @classmethod
    def of(
        cls,
        post_id: NDArray[np.int64],
        known: Outcomes,
        scale: Floats,
        weights: Floats,
        learned: NDArray[np.bool_],
    ) -> Judge:
        """Fill in what the log does not tell.

        Args:
            post_id: [C].
            known: of them.
            scale: as of `calibration`.
            weights: of the bundle. [A].
            learned: actions that the ranker learned; of others it predicts noise. bool [A].
        """
        expected = np.where(np.isfinite(known.done), known.done, known.predicted * scale)
        expected = np.nan_to_num(expected)  # of a viewer of whom nothing is predicted
        worth = expected @ weights
        negative = expected[:, [at for at in _NEGATIVE if learned[at]]].sum(axis=1)
        wanted = expected @ _stakeholder_weights(expected.shape[1], learned)
        return cls(post_id, known.relevant, known.num_relevant, worth, negative, wanted)

    def measure(self, page: Candidates) -> dict[str, float]:
        """What the first ten posts of a page are like; NaN = nothing to tell it by.

        ndcg_10 counts relevant posts; value_10, negative_10 and what stakeholders want of them
        (user_10, platform_10, society_10) are means over ten places, empty ones worth nothing;
        authors_10 is the share of different authors among the known ones, topics_10 the entropy
        of first topics in bits.
        """
        order = np.argsort(self.post_id)
        row = order[np.searchsorted(self.post_id, page.post_id[:TOP], sorter=order)]
        hits = np.zeros((1, TOP), np.bool_)
        hits[0, : len(row)] = self.relevant[row]
        author_id = page["author_id"][:TOP] if "author_id" in page else row[:0]
        known = author_id[author_id > 0]
        topics = page["topic_ids"][:TOP, :1] if "topic_ids" in page else row[:0]
        return {
            "ndcg_10": float(ndcg_at_k(hits, np.array([self.num_relevant]), TOP)[0]),
            "value_10": float(self.worth[row].sum() / TOP),
            "authors_10": len(np.unique(known)) / len(known) if len(known) else float("nan"),
            "topics_10": topic_entropy(topics),
            "negative_10": float(self.negative[row].sum() / TOP),
            **{
                f"{name}_10": float(total / TOP)
                for name, total in zip(STAKEHOLDERS, self.wanted[row].sum(axis=0), strict=True)
            },
        }


def _stakeholder_weights(num_actions: int, learned: NDArray[np.bool_]) -> Floats:
    """Weights of each stakeholder, 0 for actions that were not learned. [A, K]."""
    made = np.zeros((num_actions, len(STAKEHOLDERS)))
    for column, weights in enumerate(STAKEHOLDERS.values()):
        for at, action in enumerate(ACTIONS):
            made[at, column] = weights.get(action.name, 0.0) * bool(learned[at])
    return made


def means(per_request: dict[str, Floats]) -> dict[str, float]:
    """Over the requests that can tell; NaN where none can. [R] each -> one each."""
    return {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        for name, values in per_request.items()
    }
