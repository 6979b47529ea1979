"""New versions of a bundle: the same models and tables, with another blend or with metrics."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs import near_miss
from pipelines.whole import new_folder, save_json
from train.bundle import Bundle, BundleError, load
from train.bundle.writing import check_out
from train.models.fractal.blend import InterferenceBlend
from train.preference.alignment import summary


def write_metrics(bundle: Bundle, metrics: dict[str, Any]) -> None:
    """Record in a local bundle's card how good its models are; nothing else changes.

    Raises:
        BundleError: the bundle was loaded from a remote path.
    """
    if "://" in bundle.path:
        raise BundleError(f"{bundle.path}: metrics are written to a local bundle only; copy it")
    save_json(bundle.folder / "card.json", bundle.card | {"metrics": metrics})


def with_blend(
    bundle: Path,
    out: Path,
    *,
    weights: Mapping[str, float] | None = None,
    interference: InterferenceBlend | None = None,
    feed: Mapping[str, Any] | None = None,
    tuned: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> None:
    """Write the bundle of a local folder anew, with what is given in place of its own.

    Args:
        bundle: its folder.
        out: where to; every reader sees all of it or nothing.
        weights: of single actions; the others keep theirs.
        interference: the field, and its weight.
        feed: stage.component.setting -> value, for what feed.yaml does not say.
        tuned: where all that is from, for the card.
        replace: `out` may exist and is thrown away.

    Raises:
        BundleError: `bundle` is none, an action is none of its, `out` exists, or the field is of
            vectors that it lacks.
    """
    check_out(out, replace)
    before = load(bundle)
    card, blend = dict(before.card), dict(zip(before.actions, before.weights.tolist(), strict=True))
    for name, weight in (weights or {}).items():
        if name not in blend:
            raise BundleError(f"{bundle}: {name!r}: no such action{near_miss(name, blend)}")
        blend[name] = float(weight)
    card["audit"] = summary(blend)
    if interference is not None:
        before.check_space(interference.space)
        card["interference"] = interference.model_dump(mode="json")
    if feed is not None:
        card["feed"] = {**before.feed_settings, **feed}
    if tuned is not None:
        card["tuned"] = dict(tuned)
    with new_folder(out) as folder:
        shutil.copytree(before.folder, folder, dirs_exist_ok=True)
        save_json(folder / "card.json", card)
        save_json(folder / "blend.json", blend)
