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
from train.interference.tables import verdict
from train.models.fractal.blend import InterferenceBlend
from train.models.fractal.config import FieldConfig
from train.report_tables import Lines, table

Results = Mapping[str, Any]
Claim = dict[str, Any]
_WAVES = 64  # of the field alone: the most that are tried
_VERDICTS = ("gain", "null", "loss")
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


def _alone(results: Results) -> Iterator[Claim]:
    if "rankers" not in results:
        return
    ours = waves_name(_WAVES)
    for other, words in (
        (LOCAL, "alone, it ranks better than the five nearest likes (NDCG@10)"),
        (PHASE_FREE, "alone, it ranks better than the same sum without waves (NDCG@10)"),
        ("popular", "alone, it ranks better than popularity (NDCG@10)"),
    ):
        found = {
            f"{name}, {space}": of["differences"]["ndcg_10"][f"{ours} − {other}"]
            for name, spaces in results["rankers"]["sets"].items()
            for space, of in spaces["spaces"].items()
        }
        yield _claim(words, found)


def _lift(results: Results) -> Iterator[Claim]:
    for part, when in (("features", ""), ("cold_start", "with eight likes, ")):
        if part not in results:
            continue
        for pair, other in (
            ("field − base", "trees without it (of texts: that know no texts)"),
            ("field − local", "trees with the nearest likes"),
            ("field − kernel", "trees with kernels without waves"),
        ):
            for key, words in (("ndcg_10", "NDCG@10"), ("tail_50", "long-tail recall@50")):
                found = {
                    f"{name}, {space}": of["differences"][key][pair]
                    for name, spaces in results[part]["sets"].items()
                    for space, of in spaces.items()
                }
                decides = pair == "field − local" and key == "ndcg_10"
                yield _claim(f"{when}as features, it adds {words} to {other}", found, decides)
        for pair, other in (
            ("field − base", "trees without it (of texts: that know no texts)"),
            ("field − local", "trees with the nearest likes"),
        ):
            found = {
                f"{name}, {space}": of["long_tail"]["50"][pair]
                for name, spaces in results[part]["sets"].items()
                for space, of in spaces.items()
            }
            yield _claim(f"H2: {when}more long-tail recall at the precision@50 of {other}", found)


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
        "`als` are factors of the ratings, `text` is MiniLM's of titles and genres.",
        "",
        *table(("claim", *_VERDICTS), rows),
    ]
    if "default" not in part:
        return lines
    default = part["default"]
    words = (
        "beats the nearest likes as features in most sets, with long and with short histories"
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
