"""Whether a field at or below zero says that a viewer will dislike a post."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.interference.measures import paired, summary
from train.interference.rankers import KERNEL, TOP, cosine, field, nearest
from train.interference.ratings import DISLIKED, LIKED, NEUTRAL, Floats, Ratings
from train.interference.spaces import factors, unit
from train.interference.split import Split
from train.interference.study import Feedback, StudyConfig, World
from train.interference.tables import interval
from train.metrics import auc
from train.models.fractal.config import FieldConfig
from train.report_tables import Lines, table

ITEM_MEAN = "item mean"
_PRIOR = 5.0  # ratings that the overall mean counts for in a post's
_WAVES = 64
FIELD, SIGNED = f"field, {_WAVES} random waves", "signed field"


@dataclass(frozen=True)
class Later:
    """Each viewer's newest ratings, likes and dislikes, beside what came before.

    Attributes:
        split: candidates are the later posts, padded with post 0; hit = liked.
        known: where candidates are no padding. bool [V, C].
        seen: where they are posts that were rated before, by anyone. bool [V, C].
        both: the split whose history holds dislikes too, with negative amplitudes.
        means: of the ratings before, per post, drawn towards the overall mean. float64 [P].
    """

    split: Split
    known: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    both: Split
    means: Floats


SETTINGS = ("split", "factors", "feedback", "feedback_sets")


def results(world: World) -> dict[str, Any]:
    """Set -> AUC of later likes over later dislikes, per ranker."""
    config = world.config
    return {
        "sets": {
            name: _of_set(ratings, config)
            for name, ratings in world.here(config.feedback_sets).items()
        },
        "share": config.feedback.share,
    }


def _of_set(ratings: Ratings, config: StudyConfig) -> dict[str, Any]:
    later = newest(ratings, config.feedback, config.split.seed)
    split, both = later.split, later.both
    learned = factors(ratings, split.train, config.factors)
    vectors = unit(learned.item)
    waves = FieldConfig(num_waves=_WAVES)
    fields = {
        FIELD: field(vectors, split, waves).total(),
        "field, principal waves": field(vectors, split, FieldConfig(waves="pca")).total(),
    }
    kernels = field(vectors, both, KERNEL.model_copy(update={"signed": True}))
    signed = field(vectors, both, waves.model_copy(update={"signed": True}))
    assert kernels.disliked is not None
    assert signed.disliked is not None
    weights = kernels.weights()[:, None]
    scores = {
        ITEM_MEAN: later.means[split.candidates],
        "the viewer's own factors": np.einsum(
            "vf,vcf->vc", learned.user[split.viewer], learned.item[split.candidates]
        ),
        "cosine": cosine(vectors, split),
        f"nearest {TOP}": nearest(vectors, split, TOP),
        "kernels": field(vectors, split, KERNEL).total(),
        "signed kernels": ((kernels.by_scale - kernels.disliked) * weights).sum(2),
        **fields,
        SIGNED: ((signed.by_scale - signed.disliked) * signed.weights()[:, None]).sum(2),
    }
    by_viewer = {name: _auc(later, of, later.seen) for name, of in scores.items()}
    everything = {name: _auc(later, of, later.known) for name, of in scores.items()}
    return {
        "viewers": len(split.viewer),
        "likes": _counts(later, split.hit),
        "dislikes": _counts(later, ~split.hit),
        "auc": summary(by_viewer),
        "auc_of_all": summary(everything),
        "differences": paired(
            {
                f"{name} − {ITEM_MEAN}": by_viewer[name] - by_viewer[ITEM_MEAN]
                for name in scores
                if name != ITEM_MEAN
            }
            | {f"{name} − cosine": by_viewer[name] - by_viewer["cosine"] for name in fields}
        ),
        "below_zero": {name: _below(later, of) for name, of in fields.items()},
    }


def newest(ratings: Ratings, config: Feedback, seed: int) -> Later:
    """Hold out the newest share of each viewer's ratings, of viewers with both signs in it."""
    rows, start = ratings.rows_of(np.ones(len(ratings.user), bool))
    value = ratings.value
    chosen = []
    for viewer in range(ratings.num_users):
        own = rows[start[viewer] : start[viewer + 1]]
        cut = len(own) - int(np.ceil(config.share * len(own)))
        before, after = own[:cut], own[cut:]
        enough = (value[before] >= LIKED).sum() >= config.least_history
        if enough and (value[after] >= LIKED).any() and (value[after] <= DISLIKED).any():
            chosen.append((viewer, before, after))
    if not chosen:
        raise ValueError("no viewer has later likes and dislikes, and likes enough before")
    order = np.random.default_rng(seed).permutation(len(chosen))[: config.num_viewers]
    chosen = [chosen[at] for at in np.sort(order)]
    train = np.ones(len(value), bool)
    train[np.concatenate([after for _, _, after in chosen])] = False
    tested = [a[(value[a] >= LIKED) | (value[a] <= DISLIKED)] for _, _, a in chosen]
    most = max(map(len, tested))
    candidates = np.zeros((len(chosen), most), np.int64)
    known, hit = (np.zeros(candidates.shape, bool) for _ in range(2))
    for at, of in enumerate(tested):
        candidates[at, : len(of)] = ratings.item[of]
        known[at, : len(of)] = True
        hit[at, : len(of)] = value[of] >= LIKED
    popularity = np.bincount(ratings.item[train], minlength=ratings.num_items)
    split, both = (
        Split(
            train,
            np.array([viewer for viewer, _, _ in chosen]),
            *_sources(ratings, [b[keep(value[b])] for _, b, _ in chosen]),
            candidates,
            hit,
            popularity,
            np.zeros(ratings.num_items, bool),
        )
        for keep in (lambda v: v >= LIKED, lambda v: v != NEUTRAL)
    )
    total = np.bincount(ratings.item[train], value[train], ratings.num_items)
    means = (total + _PRIOR * value[train].mean()) / (popularity + _PRIOR)
    return Later(split, known, known & (popularity[candidates] > 0), both, means)


def _sources(ratings: Ratings, rows: list[NDArray]) -> tuple[NDArray, Floats]:
    """Histories of some rows, and their stars above neutral. [V, n] each."""
    history = np.full((len(rows), max(map(len, rows))), -1)
    amplitude = np.zeros(history.shape)
    for at, of in enumerate(rows):
        history[at, : len(of)] = ratings.item[of]
        amplitude[at, : len(of)] = ratings.value[of] - NEUTRAL
    return history, amplitude


def _auc(later: Later, scores: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Of each viewer, over candidates that count; NaN without both signs among them. [V]."""
    rows = zip(counted, later.split.hit, scores, strict=True)
    return np.array([auc(hit[where], of[where]) for where, hit, of in rows])


def _counts(later: Later, chosen: NDArray[np.bool_]) -> dict[str, int]:
    return {
        "all": int((later.known & chosen).sum()),
        "rated_before": int((later.seen & chosen).sum()),
    }


def _below(later: Later, total: Floats) -> dict[str, Any]:
    """How much of what is below zero was disliked, and of all."""
    disliked = ~later.split.hit[later.known]
    below = total[later.known] < 0
    return {
        "share": float(below.mean()),
        "disliked": float(disliked[below].mean()) if below.any() else float("nan"),
        "disliked_of_all": float(disliked.mean()),
        "num": int(below.sum()),
    }


def section(part: Mapping[str, Any]) -> Lines:
    """H3."""
    lines = [
        "## H3: does destructive interference foresee dislikes?",
        "",
        f"The newest {part['share']:.0%} of each viewer's ratings, likes (4 stars and up, likes of "
        "KuaiRand-27K, clicks of KuaiRand) against dislikes (2 stars and down, hates of "
        "KuaiRand-27K, showings without a click of KuaiRand): the chance that a like outscores a "
        "dislike of the same viewer, mean over viewers ± standard error, among posts that were "
        "rated before; the last column is of all. Where nearly all disliked posts are new to the "
        "set, as in this cut of KuaiRand-27K, that one says which posts are known, nothing else. "
        "The item mean knows nothing of the viewer. `signed` ones subtract the field of what was "
        "disliked. "
        "Suppression multiplies what is below zero by a positive factor, so it changes no AUC. "
        "95 % intervals; **bold** is clear of zero after Holm's correction.",
        "",
    ]
    for name, of in part["sets"].items():
        likes, dislikes = of["likes"], of["dislikes"]
        head = f"{of['auc'][ITEM_MEAN]['num']} of {of['viewers']} viewers"
        rows = [
            (
                ranker,
                f"{value['mean']:.3f} ± {value['error']:.3f}",
                interval(of["differences"][f"{ranker} − {ITEM_MEAN}"])
                if ranker != ITEM_MEAN
                else "–",
                f"{of['auc_of_all'][ranker]['mean']:.3f}",
            )
            for ranker, value in of["auc"].items()
        ]
        lines += [
            f"### {name}",
            "",
            f"{likes['rated_before']:,} of {likes['all']:,} likes and {dislikes['rated_before']:,} "
            f"of {dislikes['all']:,} dislikes are of posts that were rated before.",
            "",
            *table((head, "AUC", f"less {ITEM_MEAN}", "AUC of all"), rows),
        ]
        for ranker, below in of["below_zero"].items():
            lines.append(
                f"- {ranker}: {below['num']:,} later posts ({below['share']:.2%}) are below zero"
                + (
                    f"; {below['disliked']:.1%} of them were disliked, "
                    f"{below['disliked_of_all']:.1%} of all."
                    if below["num"]
                    else "."
                )
            )
        lines.append("")
    return lines
