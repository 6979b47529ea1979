"""MIND-small: five stakeholders over news, from impressions and the articles' categories.

An article is one of 17 categories, one of 14 subcategories, and four marks of quality: lengths of
title and abstract over their 95th percentile, entities over ten (each at most 1), and whether its
subcategory is among the fourteen. `reader` wants what is clicked, `publisher` categories that much
is written in, `advertiser` and `journalist` some by name, `civic_diversity` those that little is
shown of.

Get MINDsmall_train.zip from https://msnews.github.io/ (Microsoft's research licence: not to be
passed on).
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.data.reader import InputError
from train.downloads import member
from train.preference.space import Space, unit_max

Floats = NDArray[np.float64]

FETCH = "fetch MINDsmall_train.zip from https://msnews.github.io/"
ARCHIVE = "MINDsmall_train.zip"
NUM_CATEGORIES, NUM_SUBCATEGORIES, FEWEST = 17, 14, 5  # FEWEST: impressions of an article
QUALITY = ("title_length", "abstract_length", "entities", "subcategory_is_top")
_ADVERTISED = (
    *("foodanddrink", "autos", "travel", "lifestyle"),
    *("music", "entertainment", "movies", "tv"),
)
_AVOIDED = (("news",), ("newscrime", "newspolitics"))  # categories, subcategories
_REPORTED = ("newsworld", "newspolitics", "newsus", "newsscienceandtechnology", "financenews")
_LIGHT = ("kids", "video", "tv", "music", "entertainment")
_NEWS = ("id", "category", "subcategory", "title", "abstract", "url", "entities", "entities_below")


@dataclass(frozen=True)
class _News:
    """Articles of the pool, N of them."""

    category: NDArray
    subcategory: NDArray
    quality: Floats  # [N, 3], the fourth comes with the subcategories
    shown: Floats
    clicked: Floats


def read(folder: Path) -> Space:
    """The pool and its five stakeholders.

    Raises:
        MissingInputError, InputError: files that are not there or cannot be read.
    """
    shown, clicked = _impressions(member(folder, ARCHIVE, "behaviors.tsv", FETCH))
    content = member(folder, ARCHIVE, "news.tsv", FETCH)
    try:
        news = _news(content, shown, clicked)
    except (pl.exceptions.PolarsError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"MIND news: cannot be read ({first}); {FETCH}") from error
    return space(news)


def space(news: _News) -> Space:
    """Features and weights."""
    categories = _most(news.category, NUM_CATEGORIES)
    subcategories = _most(news.subcategory, NUM_SUBCATEGORIES)
    one, two = (
        (values[:, None] == np.array(names)[None]).astype(np.float64)
        for values, names in ((news.category, categories), (news.subcategory, subcategories))
    )
    top = two.any(axis=1, keepdims=True).astype(np.float64)
    features = np.concatenate([one, two, news.quality, top], axis=1)
    names = (*categories, *subcategories, *QUALITY)
    weights = _weights(features, names, len(categories), len(subcategories), news)
    story = {"articles": len(features), "impressions": int(news.shown.sum())}
    return Space.of("mind", features, one.argmax(axis=1), weights, names, story)


def _weights(
    features: Floats, names: tuple[str, ...], num_one: int, num_two: int, news: _News
) -> dict[str, Floats]:
    groups = features[:, : num_one + num_two]
    shown, clicked = (groups.T @ of for of in (news.shown, news.clicked))
    reader = np.append(unit_max((clicked + 1) / (shown + 10)), (0.2, 0.2, 0.3, 0.0))
    written = groups[:, :num_one].sum(axis=0)
    share = shown[:num_one] / max(1.0, shown[:num_one].sum())
    active = share > 0

    def of_categories(values: Floats) -> Floats:
        return np.concatenate([values, np.zeros(features.shape[1] - num_one)])

    category, sub = np.array(names[:num_one]), np.array(names[num_one : num_one + num_two])
    advertiser = np.concatenate(
        [
            np.isin(category, _ADVERTISED) * 1.0 - np.isin(category, _AVOIDED[0]),
            np.isin(sub, _ADVERTISED) * 1.0 - np.isin(sub, _AVOIDED[1]),
            np.zeros(len(QUALITY)),
        ]
    )
    journalist = np.concatenate(
        [
            -0.5 * np.isin(category, _LIGHT),
            np.isin(sub, _REPORTED) * 1.0 - 0.5 * np.isin(sub, _LIGHT),
            (0.5, 0.5, 0.5, 0.0),
        ]
    )
    civic = np.where(active, 1 / max(1, active.sum()) - share, 0)
    return {
        "reader": reader,
        "publisher": of_categories(unit_max(written)),
        "advertiser": advertiser,
        "journalist": journalist,
        "civic_diversity": of_categories(unit_max(civic)),
    }


def _impressions(content: bytes) -> tuple[Counter[str], Counter[str]]:
    """How often each article was shown and clicked."""
    shown, clicked = Counter[str](), Counter[str]()
    for line in content.decode().splitlines():
        for word in line.rsplit("\t", 1)[-1].split():
            name, _, label = word.rpartition("-")
            shown[name] += 1
            clicked[name] += label == "1"
    return shown, clicked


def _news(content: bytes, shown: Counter[str], clicked: Counter[str]) -> _News:
    table = pl.read_csv(
        io.BytesIO(content),
        separator="\t",
        has_header=False,
        quote_char=None,
        schema=dict.fromkeys(_NEWS, pl.String),
    )
    table = table.filter(pl.col("id").is_in([n for n, num in shown.items() if num >= FEWEST]))
    table = table.sort("id")
    if not len(table):
        raise ValueError(f"no article of {FEWEST} impressions")

    def lengths(name: str) -> Floats:
        words = table[name].fill_null("").str.split(" ").list.len().to_numpy().astype(np.float64)
        return np.minimum(1, words / max(1.0, np.quantile(words, 0.95)))

    entities = np.array([len(json.loads(text or "[]")) for text in table["entities"]])
    ids = table["id"].to_list()
    return _News(
        category=table["category"].to_numpy(),
        subcategory=table["subcategory"].to_numpy(),
        quality=np.stack(
            [lengths("title"), lengths("abstract"), np.minimum(1, entities / 10)], axis=1
        ),
        shown=np.array([shown[name] for name in ids], np.float64),
        clicked=np.array([clicked[name] for name in ids], np.float64),
    )


def _most(values: NDArray, num: int) -> tuple[str, ...]:
    """The most frequent, those of equal counts by name."""
    names, count = np.unique(values, return_counts=True)
    return tuple(str(name) for name in names[np.lexsort((names, -count))][:num])
