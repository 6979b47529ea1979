"""Whether a ranker behaves as people do: asked of its outputs alone, each with a control.

* behaviour: predicted against observed rates, by action and by how viewer and post fit;
* counterfactuals: a block, mute, follow or like of an author never met, against a placebo;
* flips: another viewer's history in place of one's own turns the order of two home topics;
* probes: viewers of one home topic lie together in the towers' space, more than by chance.

Home topics are read off histories, as any log has them. Axes: V viewers, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.encoding import multi_hot
from pipelines.schema import ACTION_NAMES, ACTIONS
from train.preference.counterfactuals import (
    Case,
    Event,
    Posts,
    Predict,
    cases,
    falls,
    scores,
    with_event,
)
from train.preference.proportions import wilson
from train.rows import Past, flatten

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_BAR = 0.3  # what the block rate must exceed its placebo's by
LIKED = ("favorite", "reply", "repost", "share", "follow_author", "click")
_TRIED = dict.fromkeys(("block_author", "mute_author", "not_interested"), -1)
_TRIED |= dict.fromkeys(("follow_author", "favorite"), 1)
PLACEBO = "profile_click"  # on an unrelated author's post: something done, but nothing said
_FEWEST_ROWS, _LEAST_RATE, _NEAR = 100, 0.05, 0.15  # of the published behavioural test
_FEWEST_LIKES, _MOST_PAIRS = 3, 200


def worth(observed: Sequence[str], act: str | None = None) -> Floats:
    """What a prediction counts for: 1 for each learned positive action but the act itself. [A].

    Whoever has followed an author cannot do so again, which says nothing against the follow.

    Probabilities of the negative ones are left out: a block that raises the chance of another
    block must not be hidden in a mean, nor help the test.
    """
    return np.array(
        [float(name in LIKED and name in observed and name != act) for name in ACTION_NAMES]
    )


def behaviour(predicted: NDArray[np.floating], examples: pa.Table, posts: Posts) -> dict[str, Any]:
    """How far predicted rates are from observed ones, in groups of like rows.

    Groups are post topics times whether the topic is the viewer's home topic; of each action that
    a group does at least 5 % of the time the error is |predicted - observed|.

    Args:
        predicted: for the rows of `train.rows.flatten(examples)`. [rows, A].
        examples: visits.
        posts: for topics.

    Returns:
        cells: how many; within_0.15: share; mean_error; and mean_error_of_rate, the same of the
        one rate that all rows have.
    """
    rows = flatten(examples)
    home = home_topics(examples, posts)[rows.example]
    topic = posts.topic_of(rows.post_id)
    group = topic * 2 + ((topic == home) & (topic > 0))
    done = multi_hot(rows.did, predicted.shape[1]).astype(np.float64)
    seen = multi_hot(rows.observed, predicted.shape[1]).astype(bool)
    errors, plain = [], []
    for action, of in enumerate(ACTIONS):
        if of.continuous or not seen[:, action].any():
            continue
        rate = done[seen[:, action], action].mean()
        for each in np.unique(group):
            mine = (group == each) & seen[:, action]
            if mine.sum() < _FEWEST_ROWS or done[mine, action].mean() < _LEAST_RATE:
                continue
            true = done[mine, action].mean()
            errors.append(abs(float(predicted[mine, action].mean()) - true))
            plain.append(abs(rate - true))
    return {
        "cells": len(errors),
        "within_0.15": float(np.mean(np.array(errors) <= _NEAR)) if errors else None,
        "mean_error": float(np.mean(errors)) if errors else None,
        "mean_error_of_rate": float(np.mean(plain)) if plain else None,
    }


def counterfactuals(
    predict: Predict, made: Sequence[Case], observed: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """How often an act moves the author's other posts the way that it should.

    Controls: `placebo`, PLACEBO on an unrelated author's post in the same place of the history;
    `other_author`, the same act on the unrelated author, which asks whether the model knows whom
    it is about. An event of any kind also says that the author's post was seen and not liked:
    `beyond_seen` compares with the same post seen and nothing done, in place of no event.

    Returns:
        action -> share moved (down for a negative act, up for a follow) with interval, that of
        each control, and the differences; only actions that the ranker has learned.
    """
    plain = [with_event(case, None) for case in made]
    seen = [with_event(case, Event(case.met, case.author_id, None)) for case in made]

    def moved(
        action: str, direction: int, unrelated: bool, than: Sequence[dict[str, Any]] = plain
    ) -> NDArray[np.bool_]:
        rows = []
        for case in made:
            post, author = case.unrelated if unrelated else (case.met, case.author_id)
            rows.append(with_event(case, Event(post, author, action)))
        before, after = (scores(predict, each, worth(observed, action)) for each in (than, rows))
        return falls(before, after) if direction < 0 else falls(after, before)

    found = {}
    for action, direction in _TRIED.items():
        if action not in observed:
            continue
        act = moved(action, direction, unrelated=False)
        placebo = moved(PLACEBO, direction, unrelated=True)
        other = moved(action, direction, unrelated=True)
        beyond = moved(action, direction, unrelated=False, than=seen)
        found[action] = {
            "moved": wilson(act).as_dict(),
            "beyond_seen": wilson(beyond).as_dict(),
            "placebo": wilson(placebo).as_dict(),
            "other_author": wilson(other).as_dict(),
            "less_placebo": float(act.mean() - placebo.mean()),
            "less_other_author": float(act.mean() - other.mean()),
        }
    return found


def home_topics(examples: pa.Table, posts: Posts) -> Ints:
    """The topic of most liked posts of each history; 0 = too few to say. [V]."""
    liked = sum(1 << ACTION_NAMES.index(name) for name in LIKED)
    found = np.zeros(len(examples), np.int64)
    for at, (past, did) in enumerate(
        zip(
            examples["history_post_id"].to_pylist(),
            examples["history_did"].to_pylist(),
            strict=True,
        )
    ):
        mine = posts.topic_of(np.array(past, np.int64)[(np.array(did, np.int64) & liked) != 0])
        names, count = np.unique(mine[mine > 0], return_counts=True)
        if count.sum() >= _FEWEST_LIKES:
            found[at] = names[count.argmax()]
    return found


def flips(
    predict: Predict, examples: pa.Table, posts: Posts, observed: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Whether another's history turns the order of the two viewers' home topics.

    Of viewers a and b of different home topics, the newest posts of each topic are scored for a;
    then for a with b's history. The control gives a the history of another viewer of a's own
    topic.

    Returns:
        flipped and control: shares of the pairs in which a's own history puts a's topic first;
        own_first: how often it does.
    """
    rng, home = np.random.default_rng(seed), home_topics(examples, posts)
    known = np.flatnonzero(home > 0)
    _, first = np.unique(examples["user_id"].to_numpy()[known], return_index=True)
    viewers = rng.permutation(known[first])
    value = worth(observed)
    rows, swapped, control = [], [], []
    for a in viewers[:_MOST_PAIRS]:
        others = viewers[home[viewers] != home[a]]
        alike = viewers[(home[viewers] == home[a]) & (viewers != a)]
        if not len(others) or not len(alike):
            continue
        b, c = rng.choice(others), rng.choice(alike)
        own, theirs, like = (examples.slice(at, 1).to_pylist()[0] for at in (a, b, c))
        for topic in (home[a], home[b]):
            asked = _of_topic(own, posts, int(topic))
            rows.append(asked)
            swapped.append(asked | {k: v for k, v in theirs.items() if k.startswith("history_")})
            control.append(asked | {k: v for k, v in like.items() if k.startswith("history_")})
    if not rows:
        return {"flipped": None, "control": None, "own_first": None}
    gap, other, same = (
        np.subtract(*scores(predict, each, value).reshape(-1, 2).T)
        for each in (rows, swapped, control)
    )
    right = gap > 0
    return {
        "flipped": wilson(other[right] < 0).as_dict(),
        "control": wilson(same[right] < 0).as_dict(),
        "own_first": wilson(right).as_dict(),
    }


def _of_topic(row: Mapping[str, Any], posts: Posts, topic: int) -> dict[str, Any]:
    """The visit with a topic's five newest posts as its candidates."""
    mine = np.flatnonzero((posts.topic == topic) & (posts.at_ms < row["at_ms"]))
    newest = mine[np.argsort(-posts.at_ms[mine], kind="stable")[:5]]
    if not len(newest):
        newest = np.flatnonzero(posts.topic == topic)[:5]
    num = len(newest)
    return dict(row) | {
        "post_id": posts.post_id[newest].tolist(),
        "author_id": posts.author_id[newest].tolist(),
        "surface": [(row["surface"] or [0])[0]] * num,
        "shown_at_ms": [row["at_ms"]] * num,
        "did": [0] * num,
        "observed": [0] * num,
        "dwell_s": [float("nan")] * num,
    }


def silhouette(vectors: NDArray[np.floating], labels: Ints) -> float:
    """Mean silhouette by cosine distance (Rousseeuw 1987); NaN with fewer than two groups.

    Args:
        vectors: [n, D].
        labels: groups; members of a group of one are left out. [n].
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    distance = 1 - unit @ unit.T
    names, of = np.unique(labels, return_inverse=True)
    member = np.eye(len(names))[of]
    size = member.sum(axis=0)
    total = distance @ member  # [n, groups]
    several = size[of] > 1
    if len(names) < 2 or not several.any():
        return float("nan")
    inside = total[np.arange(len(of)), of] / np.maximum(size[of] - 1, 1)
    outside = np.where(member > 0, np.inf, total / size).min(axis=1)
    value = (outside - inside) / np.maximum(np.maximum(outside, inside), 1e-12)
    return float(value[several].mean())


def probe(vectors: NDArray[np.floating], labels: Ints, seed: int = 0) -> dict[str, float]:
    """Silhouette by label, and by the same labels dealt anew: what chance gives."""
    dealt = np.random.default_rng(seed).permutation(labels)
    return {
        "silhouette": silhouette(vectors, labels),
        "by_chance": silhouette(vectors, dealt),
        "num": len(labels),
    }


def verification(
    predict: Predict,
    observed: Sequence[str],
    examples: pa.Table,
    past: Past,
    posts: Posts,
    num_viewers: int,
    seed: int = 0,
) -> dict[str, Any]:
    """All tests of outputs, and the verdict on blocks.

    Args:
        predict: the model.
        observed: actions that it has learned.
        examples: visits that it has not learned from.
        past: what all viewers were shown, also of other splits.
        posts: that candidates are drawn from.
        num_viewers: at most so many are asked what a block would change.
        seed: of the draws.

    Returns:
        viewers; counterfactuals, behaviour and flips as their functions give them;
        block_less_placebo, its bar, and `met`; None where no block was learned.

    Raises:
        ValueError: no viewer of these visits meets an author for the first time.
    """
    made = cases(examples, past, posts, num_viewers, seed)
    if not made:
        raise ValueError("no visit shows a post of an author that its viewer has not met before")
    acts = counterfactuals(predict, made, observed)
    less = acts["block_author"]["less_placebo"] if "block_author" in acts else None
    return {
        "viewers": len(made),
        "counterfactuals": acts,
        "block_less_placebo": less,
        "bar": BLOCK_BAR,
        "met": None if less is None else less >= BLOCK_BAR,
        "behaviour": behaviour(predict(examples), examples, posts),
        "flips": flips(predict, examples, posts, observed, seed),
    }
