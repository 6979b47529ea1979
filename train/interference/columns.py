"""What boosted trees read of a viewer and a candidate, in groups that can be left out.

Axes: V viewers, C candidates, S scales, P posts, F numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from train.interference.rankers import KERNEL, MOST, TOP, cosine, dot, field, nearest, popular
from train.interference.ratings import Floats
from train.interference.spaces import Factors, unit
from train.interference.split import Split
from train.models.fractal.config import FieldConfig

Columns = dict[str, Floats]  # name -> [V, C]
Groups = dict[str, Columns]


def groups(
    split: Split,
    learned: Factors,
    vectors: NDArray,
    fields: Mapping[str, FieldConfig],
    knows_viewer: bool,
) -> Groups:
    """Groups of columns: `base`, `local`, `kernel`, and one for each field by its name.

    `base` is popularity, size of the post's factors and whether they are 0, cosine and product
    with the mean of the history, its length, and the viewer's own factors where they are known.

    Args:
        split: whose histories and candidates.
        learned: factors of the ratings.
        vectors: of the posts, in the space of the other groups. [P, F].
        fields: settings of the fields.
        knows_viewer: whether the viewer's factors are used.
    """
    of_factors = unit(learned.item)
    size = np.linalg.norm(learned.item, axis=1)[split.candidates]
    base: Columns = {
        "popularity": np.log1p(popular(split)),
        "size": size,
        "zero": (size <= 1e-12).astype(np.float64),
        "cosine": cosine(of_factors, split),
        "product": dot(learned.item, split),
        "length": np.broadcast_to(np.log1p(split.lengths)[:, None], split.candidates.shape),
    }
    if knows_viewer:
        own = learned.user[split.viewer]
        base["predicted"] = np.einsum("vf,vcf->vc", own, learned.item[split.candidates])
    kernels = field(vectors, split, KERNEL)
    found: Groups = {
        "base": base,
        "local": {
            "nearest": nearest(vectors, split, 1),
            f"nearest_{TOP}": nearest(vectors, split, TOP),
        },
        "kernel": _scales("kernel", kernels.by_scale),
    }
    return found | {name: waves(vectors, split, config) for name, config in fields.items()}


def waves(vectors: NDArray, split: Split, config: FieldConfig, most: int = MOST) -> Columns:
    """A field's scales, total, whether that is below 0, and the history's dimension.

    Of a signed field also the scales of what was disliked, and the differences.
    """
    found = field(vectors, split, config, most)
    total = found.total()
    columns = _scales("scale", found.by_scale) | {
        "total": total,
        "below": (total < 0).astype(np.float64),
        "dimension": np.broadcast_to(found.dimension[:, None], total.shape),
    }
    if found.disliked is not None:
        columns |= _scales("disliked", found.disliked)
        columns |= _scales("difference", found.by_scale - found.disliked)
    return columns


def matrix(found: Groups, names: tuple[str, ...]) -> tuple[list[str], NDArray[np.float32]]:
    """Names of the columns of some groups, and their values, candidate by candidate. [V C, K]."""
    chosen = {f"{group}_{name}": of for group in names for name, of in found[group].items()}
    values = [of.reshape(-1).astype(np.float32) for of in chosen.values()]
    return list(chosen), np.stack(values, 1)


def _scales(name: str, by_scale: Floats) -> Columns:
    return {f"{name}_{at}": by_scale[:, :, at] for at in range(by_scale.shape[2])}
