"""What the numbers say, in plain words: the parts that stand out, each sentence with its number."""

from __future__ import annotations

from pipelines.diagnostics.report import Finding, Report

MOST = 5  # sentences about parts
FAR = 0.4  # of a percentile from the middle: the lowest and the highest tenth

# part -> what is said when it is low, and when it is high.
_SAID = {
    "worth": (
        "Viewers do less for it than for most; ask for what you want them to do",
        "Viewers do more for it than for most; do more of this",
    ),
    "long_stays": (
        "Few stay; the beginning does not hold them",
        "Many stay; what holds them is worth repeating",
    ),
    "beyond_topic": (
        "It does worse than others on its topics; the topic is not what is missing",
        "It does better than others on its topics; it is the post, not the topic, that draws",
    ),
    "originality": ("The same text stands in other posts; write each anew", None),
    "followers": ("Few follow the author yet", "Many follow the author"),
    "centrality": (
        "Those who follow the author are followed by few",
        "Those who follow the author are followed by many",
    ),
    "cited": (
        "Others seldom reply to or quote the author; ask and answer",
        "Others often reply to or quote the author",
    ),
    "follows_won": (
        "Few who see it follow the author",
        "Many who see it follow the author; it is what new followers come for",
    ),
    "regularity": ("The author posts in bursts; spread posts out", "The author posts evenly"),
    "coherence": (
        "The author's topics are far apart; viewers who came for one may leave at the other",
        "The author keeps to a topic",
    ),
    "regret": (
        "Hardly anyone hides or reports it",
        "Viewers hide, mute, block or report it more than most; such acts weigh most of all",
    ),
    "quick_exits": (
        "Few leave at once",
        "Many leave at once; what it promises is not what they find",
    ),
    "spread": (
        "Few pass it on",
        "Many pass it on; it travels beyond those it was shown to",
    ),
    "momentum": (
        "It is shown less and less, compared with the rest",
        "It is shown more and more, compared with the rest",
    ),
}


def advise(report: Report) -> tuple[str, ...]:
    """Sentences on the parts farthest from the typical value, farthest first.

    A part beside the base rate counts only when its whole interval lies on one side of it; one
    that is a percentile only in the lowest or the highest tenth. At most MOST; before them acts of
    regret that are surely above their base rate, after them what is unknown.
    """
    said = []
    for part in sorted(report.parts, key=_distance, reverse=True):
        side = _side(part)
        sentence = _SAID[part.name][max(side, 0)] if side else None
        if sentence:
            said.append(f"{sentence} ({_numbers(part)}).")
    regrets = [
        f"More {one.action} than the log over all ({one.done} of {one.shown} showings; at least "
        f"{one.low:.2%} at 95 %, base rate {one.base_rate:.2%})."
        for one in report.rates
        if one.weight < 0 and one.beside == "above"
    ]
    said = [*regrets, *said[:MOST]] or ["Nothing stands out from the log over all."]
    unknown = [part.name for part in report.parts if part.value is None]
    if unknown:
        said.append(f"Unknown, with the reason beside each: {', '.join(unknown)}.")
    return tuple(said)


def _distance(part: Finding) -> float:
    return 0.0 if part.value is None or part.typical is None else abs(part.value - part.typical)


def _side(part: Finding) -> int:
    """-1 = low, 1 = high, 0 = neither, as far as one can tell."""
    if part.low is None or part.high is None or part.typical is None:
        return 0
    margin = FAR if part.low == part.high else 0.0
    if part.low > part.typical + margin:
        return 1
    return -1 if part.high < part.typical - margin else 0


def _numbers(part: Finding) -> str:
    assert part.value is not None
    text = f"{part.name} {part.value:.2f}"
    if part.low != part.high:
        text += f", 95 % interval {part.low:.2f} to {part.high:.2f}"
    text += f"; {part.typical:g} is typical"
    if part.sample is not None:
        text += f"; {part.sample:g} {part.counted}"
    return text
