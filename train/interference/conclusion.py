"""What the study says in the end: each claim by set, and what the default therefore is.

A claim holds where its difference is a gain: clear of zero after correction. What is neither a
gain nor a loss is a null result, and is called so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.feed.scorers.interference import Interference
from train.interference.parts.feedback import FIELD, ITEM_MEAN, SIGNED
from train.interference.parts.rankers import LOCAL, PHASE_FREE, waves_name
from train.interference.parts.spaces import ALONE
from train.interference.parts.spaces import FIELD as ALONE_FIELD
from train.interference.tables import verdict
from train.models.fractal.blend import InterferenceBlend
from train.models.fractal.config import FieldConfig
from train.report_tables import Lines, table

Results = Mapping[str, Any]
Claim = dict[str, Any]
_WAVES = 64  # of the field alone: the most that are tried
_VERDICTS = ("gain", "null", "loss")
_UNKNOWN = "(which know no texts, prefixes or towers)"
_STABLE = 0.5  # correlation of halves below which an estimate is mostly noise


def conclusion(results: Results) -> dict[str, Any]:
    """Claims with their verdicts, and the default that follows, as far as parts were made."""
    claims = [claim for group in (_alone, _lift, _h1, _h3) for claim in group(results)]
    deciding = [claim for claim in claims if claim["decides"]]
    if not deciding:
        return {"claims": claims}
    wins = all(_gains(claim) * 2 > len(claim["found"]) for claim in deciding)
    return {
        "claims": claims,
        "field_wins": wins,
        "default": {
            "scorer": Interference().mode,
            "alpha": InterferenceBlend().alpha,
            "waves": FieldConfig().waves,
            "guarded": FieldConfig().guarded,
        },
        "agrees": wins != (Interference().mode == "off"),
    }


def _claim(words: str, found: Mapping[str, Any], decides: bool = False) -> Claim:
    """A claim, and a difference with its interval where it was tried."""
    kept = {
        where: {key: value.get(key) for key in ("difference", "low", "high", "p_holm")}
        | {"verdict": verdict(value)}
        for where, value in found.items()
    }
    return {"claim": words, "found": kept, "decides": decides}


def _places(results: Results, *parts: str) -> dict[str, Any]:
    """What parts found by set and space; where several did, the first."""
    found: dict[str, Any] = {}
    for part in parts:
        for name, spaces in results.get(part, {"sets": {}})["sets"].items():
            for space, of in spaces.get("spaces", spaces).items():
                found.setdefault(f"{name}, {space}", of)
    return found


def _alone(results: Results) -> Iterator[Claim]:
    ours = waves_name(_WAVES)
    published, learned = _places(results, "rankers"), _places(results, "spaces")
    for other, words in (
        (LOCAL, "alone, it ranks better than the five nearest likes (NDCG@10)"),
        (PHASE_FREE, "alone, it ranks better than the same sum without waves (NDCG@10)"),
        ("popular", "alone, it ranks better than popularity (NDCG@10)"),
    ):
        found = {
            where: of["differences"]["ndcg_10"][pair]
            for places, pair in (
                (published, f"{ours} − {other}"),
                (learned, f"{ALONE_FIELD} − {ALONE}{other}"),
            )
            for where, of in places.items()
        }
        if found:
            yield _claim(words, found)


def _lift(results: Results) -> Iterator[Claim]:
    for parts, when in ((("features", "spaces"), ""), (("cold_start",), "with eight likes, ")):
        if places := _places(results, *parts):
            yield from _added(places, f"{when}as features", "trees", of_base=_UNKNOWN)
            for pair, other in (
                ("field − base", f"trees without it {_UNKNOWN}"),
                ("field − local", "trees with the nearest likes"),
            ):
                found = {where: of["long_tail"]["50"][pair] for where, of in places.items()}
                yield _claim(
                    f"H2: {when}more long-tail recall at the precision@50 of {other}", found
                )
    if places := _places(results, "phoenix"):
        yield from _added(places, "as inputs", "the neural ranker")


def _added(places: Mapping[str, Any], how: str, to: str, of_base: str = "") -> Iterator[Claim]:
    """What the field adds to rankers; beside the nearest likes it decides."""
    for pair, other in (
        ("field − base", f"{to} without it {of_base}".rstrip()),
        ("field − local", f"{to} with the nearest likes"),
        ("field − kernel", f"{to} with kernels without waves"),
    ):
        for key, words in (("ndcg_10", "NDCG@10"), ("tail_50", "long-tail recall@50")):
            found = {
                where: of["differences"][key][pair]
                for where, of in places.items()
                if pair in of["differences"][key]
            }
            decides = pair == "field − local" and key == "ndcg_10"
            if found:
                yield _claim(f"{how}, it adds {words} to {other}", found, decides)


def _h1(results: Results) -> Iterator[Claim]:
    if "dimension" not in results:
        return
    found = {
        f"{name}, {space}": {
            "difference": of["slope"]["halves"]["r"],
            "low": of["slope"]["halves"]["low"],
            "high": of["slope"]["halves"]["high"],
            "p_holm": 0.0 if (of["slope"]["halves"]["low"] or 0) > _STABLE else 1.0,
        }
        for name, spaces in results["dimension"]["sets"].items()
        for space, of in spaces["spaces"].items()
    }
    yield _claim(f"H1: TwoNN of two halves of a history agrees (r clear of {_STABLE})", found)


def _h3(results: Results) -> Iterator[Claim]:
    if "feedback" not in results:
        return
    for ours, words in ((FIELD, "the field"), (SIGNED, "the signed field")):
        found = {
            name: of["differences"][f"{ours} − {ITEM_MEAN}"]
            for name, of in results["feedback"]["sets"].items()
        }
        yield _claim(f"H3: {words} tells dislikes better than the item mean (AUC)", found)


def _where(claim: Claim, said: str) -> list[str]:
    """Sets and spaces with a verdict, and the difference there."""
    return [
        f"{where} {of['difference']:+.3f}"
        for where, of in claim["found"].items()
        if of["verdict"] == said and of["difference"] is not None
    ]


def _gains(claim: Claim) -> int:
    return sum(of["verdict"] == "gain" for of in claim["found"].values())


def section(part: Mapping[str, Any]) -> Lines:
    """Claims, verdicts and the default."""
    rows = [
        (claim["claim"], *("; ".join(_where(claim, said)) or "–" for said in _VERDICTS))
        for claim in part["claims"]
    ]
    lines = [
        "## What it comes to",
        "",
        "Gains and losses are clear of zero after correction; everything else is a null result. "
        "`als` are factors of the ratings, `towers` vectors of posts by the project's two towers, "
        "`text` is MiniLM's of titles and genres, `prefix` the same through a prefix head.",
        "",
        *table(("claim", *_VERDICTS), rows),
    ]
    if "default" not in part:
        return lines
    default = part["default"]
    words = (
        "beats the nearest likes as features in most sets: of trees, with long and with short "
        "histories, and of the neural ranker"
        if part["field_wins"]
        else "does not beat the nearest likes as features in most sets"
    )
    return [
        *lines,
        f"**The field {words}, so the default is {'on' if part['field_wins'] else 'off'}.** The "
        f"code's is: scorer `interference` {default['scorer']}, α {default['alpha']:g}, directions "
        f"{default['waves']}, {'guarded' if default['guarded'] else 'not guarded'}: it "
        f"{'agrees' if part['agrees'] else '**DISAGREES**'}.",
        "",
    ]
