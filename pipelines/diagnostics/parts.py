"""The measured parts of the composites: what each counts, its formula, and from when it is known.

A part lies between 0 and 1, and more is more of what its name says. There are two scales. Beside
the base rate: 0.5 = as the log over all. Percentile: 0.5 = the middle of the bundle's authors or
posts. To add one, append to PARTS and name it in a composite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipelines.diagnostics.measures import (
    Measured,
    beyond_topic,
    cited,
    counted,
    follows_won,
    of_account,
    of_graph,
    rate,
    spread,
    worth,
)
from pipelines.diagnostics.rates import Floats, Needed, percentile
from pipelines.diagnostics.tally import LATELY_H, LONG_S, QUICK_S, WINDOW_H, Base, Tally

Window = Literal["log", "profiles", "lately", "bundle"]


@dataclass(frozen=True)
class Part:
    """How one part comes about.

    Attributes:
        about: what it is, in a few plain words.
        formula: how it follows from the inputs, in the words of the answer.
        window: "log" = all that the bundle counts; "profiles" = each viewer's newest events;
            "lately" = of those, the last WINDOW_H hours; "bundle" = its posts and follows.
        counted: what `sample` counts.
        scale: "base" = beside the base rate, "percentile" = among the bundle's.
        of: whose numbers they are, where a post is asked about.
        sampled: of a part on the percentile scale: whether it is estimated from a sample of
            `counted`, and not known in full.
        absent: why it is unknown where a sample is not the reason.
        measure: the numbers.
    """

    name: str
    about: str
    formula: str
    window: Window
    counted: str
    scale: Literal["base", "percentile"]
    of: Literal["subject", "author"]
    absent: str
    measure: Callable[[Tally, Base, Needed], Measured]
    sampled: bool = True


def measure(tally: Tally, base: Base, needed: Needed) -> dict[str, Measured]:
    """All parts by name; of those on the percentile scale the number that is to be placed.

    What has too small a sample is NaN, whatever was counted.
    """
    found = {}
    for part in PARTS:
        one = part.measure(tally, base, needed)
        known = one.sample >= one.minimum
        value, low, high = (np.where(known, v, np.nan) for v in (one.value, one.low, one.high))
        found[part.name] = replace(one, value=value, low=low, high=high)
    return found


def place(
    measured: Mapping[str, Measured], among: Mapping[str, Floats], needed: Needed
) -> dict[str, Measured]:
    """The same with the parts on the percentile scale placed `among` others: name -> sorted.

    Of fewer than `needed.min_compared` others there are no percentiles.
    """
    placed = dict(measured)
    for part in PARTS:
        if part.scale == "percentile":
            one, others = measured[part.name], among[part.name]
            enough = len(others) >= needed.min_compared
            at = percentile(one.value, others if enough else others[:0])
            sample = one.sample if part.sampled else np.full(len(at), float(len(others)))
            inputs = {**one.inputs, "among": float(len(others))}
            placed[part.name] = replace(
                one, value=at, low=at, high=at, sample=sample, inputs=inputs
            )
    return placed


_V = "V / (V + V0), V = sum of weight x (act + 20 b) / (shown + 20), V0 = sum of weight x b"
_R = "r (1 - b) / (r (1 - b) + b (1 - r)), r = ({done} + 20 b) / ({shown} + 20), b = base_rate"
_P = "share of the bundle's {of} with a lower {what}, those with an equal one counted half"

PARTS: tuple[Part, ...] = (
    Part(
        name="worth",
        about="what viewers did for it, weighed as the ranker weighs it",
        formula=f"{_V}, b = base rate of the act in the log",
        window="log",
        counted="showings",
        scale="base",
        of="subject",
        absent="the log shows no act of positive weight",
        measure=lambda t, b, n: worth(t, b, n, b.weights(1)),
    ),
    Part(
        name="long_stays",
        about=f"viewers who stayed longer than {LONG_S:g} s",
        formula=_R.format(done="stayed", shown="stays"),
        window="profiles",
        counted="showings whose length was measured",
        scale="base",
        of="subject",
        absent="the profiles hold no stay that long, or no measured stay",
        measure=lambda t, b, n: rate(
            t.long, t.stays, b.rate("long", "stays"), n, ("stayed", "stays")
        ),
    ),
    Part(
        name="beyond_topic",
        about="what viewers did for it, beside other posts on the same topics",
        formula=f"{_V}, b = rate of the act for other posts on the same first topic",
        window="log",
        counted="showings of posts whose topic has others",
        scale="base",
        of="subject",
        absent="its posts have no topic, or no other posts of the topic were shown",
        measure=beyond_topic,
    ),
    Part(
        name="originality",
        about="posts whose text no other post has",
        formula=_P.format(of="posts or authors", what="share of original texts"),
        window="bundle",
        counted="posts or authors compared with",
        scale="percentile",
        of="subject",
        absent="its posts have no text",
        measure=lambda t, b, n: counted(
            t.originality, np.zeros(len(t.shown)), 0.0, original=t.originality, texts=t.num_texts
        ),
        sampled=False,
    ),
    Part(
        name="followers",
        about="how many follow the author",
        formula=_P.format(of="authors", what="number of followers"),
        window="bundle",
        counted="authors compared with",
        scale="percentile",
        of="author",
        absent="the bundle has no follows",
        measure=of_graph("followers"),
        sampled=False,
    ),
    Part(
        name="centrality",
        about="how much those who follow the author are followed themselves",
        formula=_P.format(of="authors", what="PageRank in the graph of follows (damping 0.85)"),
        window="bundle",
        counted="authors compared with",
        scale="percentile",
        of="author",
        absent="the bundle has no follows",
        measure=of_graph("centrality"),
        sampled=False,
    ),
    Part(
        name="cited",
        about="how often others reply to, repeat or quote the author's posts",
        formula=_P.format(of="authors", what="number of such posts by others per own post"),
        window="bundle",
        counted="posts of the author",
        scale="percentile",
        of="author",
        absent="no post of the bundle points at another",
        measure=cited,
    ),
    Part(
        name="follows_won",
        about="viewers who followed the author after one of the author's posts",
        formula=_R.format(done="follow_author", shown="shown"),
        window="log",
        counted="showings of the author's posts",
        scale="base",
        of="author",
        absent="the log shows no follow",
        measure=follows_won,
    ),
    Part(
        name="regularity",
        about="how evenly the author's posts are spaced in time",
        formula=_P.format(of="authors", what="m / (m + s), m and s mean and deviation of the gaps"),
        window="bundle",
        counted="dated posts of the author",
        scale="percentile",
        of="author",
        absent="the author's posts have no times, or all the same",
        measure=of_account("regularity", "num_dated"),
    ),
    Part(
        name="coherence",
        about="how much the author keeps to a topic",
        formula=_P.format(of="authors", what="chance that two of the author's posts share a topic"),
        window="bundle",
        counted="posts of the author with a topic",
        scale="percentile",
        of="author",
        absent="the author's posts have no topics",
        measure=of_account("coherence", "num_topical"),
    ),
    Part(
        name="regret",
        about="viewers who hid, blocked, muted or reported, weighed as the ranker weighs it",
        formula=f"{_V}, b = base rate of the act in the log, weights without their sign",
        window="log",
        counted="showings",
        scale="base",
        of="subject",
        absent="the log shows no act of negative weight",
        measure=lambda t, b, n: worth(t, b, n, b.weights(-1)),
    ),
    Part(
        name="quick_exits",
        about=f"viewers who left within {QUICK_S:g} s",
        formula=_R.format(done="left", shown="stays"),
        window="profiles",
        counted="showings whose length was measured",
        scale="base",
        of="subject",
        absent="the profiles hold no stay that short, or no measured stay",
        measure=lambda t, b, n: rate(
            t.quick, t.stays, b.rate("quick", "stays"), n, ("left", "stays")
        ),
    ),
    Part(
        name="spread",
        about="acts that carry it to others: replies, reposts, quotes and shares",
        formula=f"{_V}, b = base rate of the act in the log, each act weighing 1",
        window="log",
        counted="showings",
        scale="base",
        of="subject",
        absent="the log shows no such act",
        measure=spread,
    ),
    Part(
        name="momentum",
        about=f"showings of the last {LATELY_H} hours among those of the last {WINDOW_H}",
        formula=_R.format(done="lately", shown="window"),
        window="lately",
        counted=f"showings of the last {WINDOW_H} hours",
        scale="base",
        of="subject",
        absent="the profiles hold no dated showings",
        measure=lambda t, b, n: rate(
            t.lately, t.window, b.rate("lately", "window"), n, ("lately", "window")
        ),
    ),
)
BY_NAME = {part.name: part for part in PARTS}


def why_unknown(part: Part, one: Measured, among: Floats, needed: Needed) -> str:
    """In words, why a part of one post or author (N = 1) is not stated; `among` as for `place`."""
    sample, minimum = float(one.sample[0]), one.minimum
    few = part.scale == "percentile" and 0 < len(among) < needed.min_compared
    if math.isinf(minimum) or math.isnan(sample) or not (sample < minimum or few):
        return part.absent
    if sample < minimum:
        what = f"{sample:g} of the {minimum:g} {part.counted} needed"
        if part.scale == "percentile":
            off = 0.5 / minimum**0.5
            return f"{what}: a share of one half of {minimum:g} has a standard error of {off:.2f}"
        return (
            f"{what}: with fewer, the 95 % interval of one that is like the log over all is "
            f"wider than {needed.max_interval:g}"
        )
    return (
        f"{len(among)} of the {needed.min_compared} to compare with that are needed: with fewer, "
        f"percentiles go in steps of more than {1 / needed.min_compared:.0%}"
    )
