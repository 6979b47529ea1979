"""How well a viewer is known: what the query hydration of the feed has to go by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.diagnostics.answers import Answer
from pipelines.diagnostics.rates import (
    Floats,
    Ids,
    Needed,
    entropy_bits,
    percentile,
    same_kind,
    wilson,
)
from pipelines.diagnostics.report import Finding, day

NEWEST = 20  # events that "of late" means


@dataclass(frozen=True)
class Viewer:
    """One viewer's profile.

    Attributes:
        author_id, topic: of each event, oldest first, 0 = unknown. [n].
        in_network: whether the viewer follows the author of each dated event, as 0 or 1; None
            where the bundle has no follows.
        base_in_network: share of such events among all viewers'.
        as_of_ms: when the log ends.
    """

    author_id: Ids
    topic: Ids
    in_network: Floats | None
    base_in_network: float
    as_of_ms: int


@dataclass(frozen=True)
class Viewers:
    """The same of many, for comparison: known values, sorted."""

    history_length: Floats
    same_topic: Floats
    same_author: Floats


@dataclass(frozen=True)
class Known:
    """What is known of a viewer, what complaints it answers, and what would help."""

    findings: tuple[Finding, ...]
    answers: tuple[Answer, ...]
    recommendations: tuple[str, ...]


def diagnose(viewer: Viewer, others: Viewers, needed: Needed) -> Known:
    """Say how well a viewer is known and how varied the feed was."""
    length = float(len(viewer.author_id))
    findings = [_length(viewer, length, others)]
    for kind, ids in (("topic", viewer.topic), ("author", viewer.author_id)):
        findings += _variety(kind, ids[ids > 0], others, viewer, needed)
    answers = (
        _of_late("one click floods my feed", "topic", viewer.topic, needed),
        _of_late("I keep seeing the same author", "author", viewer.author_id, needed),
        _echo_chamber(viewer, findings, needed),
    )
    return Known(tuple(findings), answers, _advice(length, findings, needed))


def _length(viewer: Viewer, length: float, others: Viewers) -> Finding:
    return _finding(
        "history_length",
        "events that the feed knows of the viewer",
        (length, length),
        "number of events in the profile",
        {"events": length},
        viewer,
        others.history_length,
    )


def _variety(
    kind: str, ids: Ids, others: Viewers, viewer: Viewer, needed: Needed
) -> tuple[Finding, Finding]:
    """Chance that two events share a topic or author, and the entropy of these."""
    one = np.zeros(len(ids), np.int64)
    enough = len(ids) >= needed.min_events
    same = float(same_kind(one, ids, 1)[0]) if enough else np.nan
    bits = float(entropy_bits(one, ids, 1)[0]) if enough else np.nan
    kinds = float(len(np.unique(ids)))
    inputs = {"events": float(len(ids)), f"{kind}s": kinds}
    return (
        _finding(
            f"same_{kind}",
            f"chance that two events of the viewer are of one {kind}",
            (same, float(len(ids))),
            f"sum of n (n - 1) over N (N - 1), n events of each {kind}, N of all",
            inputs,
            viewer,
            getattr(others, f"same_{kind}"),
            needed,
        ),
        _finding(
            f"{kind}_entropy_bits",
            f"how evenly the viewer's events spread over {kind}s; 2 to its power is as many "
            "equally frequent ones",
            (bits, float(len(ids))),
            f"- sum of p log2 p, p share of each {kind}; too low in a short history",
            inputs,
            viewer,
            None,
            needed,
        ),
    )


def _finding(
    name: str,
    about: str,
    counted: tuple[float, float],
    formula: str,
    inputs: dict[str, float],
    viewer: Viewer,
    among: Floats | None,
    needed: Needed | None = None,
) -> Finding:
    value, sample = counted
    known = not np.isnan(value)
    unknown = None
    if not known and needed is not None:
        unknown = (
            f"{sample:g} of the {needed.min_events} events needed: a share of one half of "
            f"{needed.min_events} has a standard error of {0.5 / needed.min_events**0.5:.2f}"
        )
    others = np.empty(0) if among is None else among
    place = percentile(value, others)
    return Finding(
        name=name,
        about=about,
        value=value if known else None,
        low=None,
        high=None,
        typical=float(np.median(others)) if len(others) else None,
        formula=formula,
        inputs=inputs,
        over=(),
        window=f"the viewer's profile: the newest events until {day(viewer.as_of_ms)}",
        sample=sample,
        counted="events",
        unknown=unknown,
        percentile=None if np.isnan(place) else float(place),
        among=len(others),
    )


def _of_late(complaint: str, kind: str, ids: Ids, needed: Needed) -> Answer:
    """The commonest topic or author of the newest events, beside its share of those before."""
    late, before = ids[-NEWEST:], ids[:-NEWEST]
    late, before = late[late > 0], before[before > 0]
    if len(late) < needed.min_posts:
        text = (
            f"Unknown: {len(late)} of the newest {NEWEST} events have a known {kind}; "
            f"{needed.min_posts} are needed."
        )
        return Answer(complaint, text, {"events": float(len(late))})
    found, count = np.unique(late, return_counts=True)
    top, num = int(found[count.argmax()]), int(count.max())
    low, high = (float(end) for end in wilson(num, len(late)))
    numbers = {
        kind: float(top),
        "events": float(len(late)),
        "share": num / len(late),
        "low": low,
        "high": high,
    }
    text = (
        f"{kind} {top} is in {num} of the newest {len(late)} events "
        f"({num / len(late):.0%}, 95 % interval {low:.0%} to {high:.0%})"
    )
    if len(before) >= needed.min_events:
        share = float(np.mean(before == top))
        most = float(wilson(np.sum(before == top), len(before))[1])
        numbers |= {"share_before": share, "events_before": float(len(before))}
        more = "more than" if low > most else "not clearly more than"
        text += f", {more} the {share:.0%} of the {len(before)} before"
    return Answer(complaint, f"{text}.", numbers)


def _echo_chamber(viewer: Viewer, findings: list[Finding], needed: Needed) -> Answer:
    complaint = "I am stuck in an echo chamber"
    known = {finding.name: finding for finding in findings}
    topic, said = known["same_topic"], []
    numbers: dict[str, float] = {}
    if topic.value is not None and topic.percentile is not None:
        numbers |= {"same_topic": topic.value, "percentile": topic.percentile}
        said.append(
            f"two events are of one topic with a chance of {topic.value:.0%}, more than for "
            f"{topic.percentile:.0%} of {topic.among} viewers"
        )
    seen = viewer.in_network
    if seen is not None and len(seen) >= needed.min_events:
        share = float(np.mean(seen))
        numbers |= {"in_network": share, "base_in_network": viewer.base_in_network}
        said.append(
            f"{share:.0%} of {len(seen)} dated events are by authors whom the viewer follows, "
            f"{viewer.base_in_network:.0%} over all viewers"
        )
    text = "; ".join(said)
    if not said:
        return Answer(complaint, f"Unknown: {topic.unknown or 'no event has a topic'}.", {})
    return Answer(complaint, f"{text[0].upper()}{text[1:]}.", numbers)


def _advice(length: float, findings: list[Finding], needed: Needed) -> tuple[str, ...]:
    said = []
    if length < needed.min_events:
        said.append(
            f"The viewer is hardly known ({length:g} events, {needed.min_events} are needed to "
            "tell tastes), so the feed leans on what is popular. Following a few authors helps."
        )
    for finding in findings:
        if finding.value is None or finding.percentile is None or finding.percentile < 0.9:
            continue
        if finding.name == "history_length":
            said.append(
                f"The viewer is known better than most ({length:g} events; half of "
                f"{finding.among} viewers have under {finding.typical:g})."
            )
        else:
            kind = finding.name.removeprefix("same_")
            said.append(
                f"The feed is narrow by {kind} ({finding.name} {finding.value:.2f}; half of "
                f"{finding.among} viewers have under {finding.typical:.2f}). Ask for others with "
                + (
                    "`excluded_topic_ids`."
                    if kind == "topic"
                    else "post_filters.author_cap, or follow more authors."
                )
            )
    return tuple(said) or ("Nothing stands out from other viewers.",)
