"""Parts of the page about what people showed, and about a ranker of a made-up world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.preference.plots import real_sources
from train.preference.verify import sections
from train.report_tables import Lines, table

Record = Mapping[str, Any]


def real(record: Record) -> Lines:
    """Accuracy on pairs that people showed."""
    sources = real_sources(record)
    if not sources:
        return []
    lines = ["## Preferences that people showed", ""]
    lines += [
        "Labels here come from people, not from the utility that is learned: which of two films a "
        "viewer who was not learned from rates higher; which of two videos of one session was "
        "clicked. Intervals over people; a tie counts half. Popularity stands in several forms, "
        "all counted on the training ratings or days; the strongest is the one that tells most "
        "training pairs. A video's rate is its clicks over its showings, drawn to the overall rate "
        "(or to its author's) by 20 showings.",
        "",
    ]
    for name, of in sources.items():
        rows = [(_words(key), *_interval(row, ".3f")) for key, row in of["accuracy"].items()]
        head = f"{name}: {of['test_pairs']:,} pairs of {of['test_people']:,} people"
        lines += table((head, "told right", "95 %"), rows)
        rows = [(_words(key), *_interval(row, "+.4f")) for key, row in of["advantage"].items()]
        lines += table(("Bradley-Terry less", "difference on the same pairs", "95 %"), rows)
    return lines


def world(record: Record) -> Lines:
    """What rankers of a made-up world make of a block."""
    of = record.get("world")
    if of is None:
        return []
    lines = ["## A ranker that was told of blocks", ""]
    lines += [
        "A ranker is trained on the log of a made-up world and asked what it predicts; nothing "
        "reads the world's rules. The tables are of the first seed. In this world a follow in the "
        "log changes no graph, and whoever follows was no follower before, so a ranker that lowers "
        "an author after a follow is not wrong here, though it would be elsewhere.",
        "",
    ]
    rows = [
        (
            seed,
            found["viewers"],
            found["counterfactuals"]["block_author"]["moved"]["share"],
            found["counterfactuals"]["block_author"]["placebo"]["share"],
            found["block_less_placebo"],
            found["behaviour"]["mean_error"],
        )
        for seed, found in of["seeds"].items()
        if "block_author" in found["counterfactuals"]
    ]
    columns = ("seed", "viewers", "block lowers", "placebo lowers", "difference")
    lines += table((*columns, "mean error of rates"), rows)
    return [*lines, *sections(next(iter(of["seeds"].values())))]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _interval(row: Mapping[str, float], form: str) -> tuple[str, str]:
    return f"{row['accuracy']:{form}}", f"{row['low']:{form}} to {row['high']:{form}}"
