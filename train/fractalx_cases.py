"""Reads files of published interference fields (`../shared/reference/fractalx_demo.npz`).

Axes: n points of a history, C candidates, d width, K waves, S scales.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, check, near_miss
from train.models.fractal.config import PUBLISHED, FieldConfig
from train.published_cases import LayoutError

_ARRAYS = {
    "history": "nd",
    "amplitudes": "n",
    "candidates": "Cd",
    "by_scale": "CS",
    "total": "C",
    "intrinsic_dimension": "",
    "dimension_ratio": "",
    "wave_vectors": "*d",
    "lambda0": "",
    "scale_weights": "S",
    "destructive_multiplier": "",
    "box_dimension": "",
    "box_counts": "*",
}
# The published names of settings, and ours.
_SETTINGS = {
    "smax": "num_scales",
    "n_wave_vectors": "num_waves",
    "wave_mode": "waves",
    "lambda0": "base_scale",
    "scale_weights": "scale_weights",
    "dimension_weight": "dimension_weight",
    "destructive_gain": "destructive_gain",
    "phase_smoothing": "envelope",
    "random_state": "seed",
}
_SHAPE = ("n", "c", "d", "kind")


@dataclass(frozen=True)
class FractalCase:
    """One history of a file, with its candidates and what was published of them.

    Attributes:
        name: as in the file.
        kind: what the history was made up as; for information.
        config: settings of the field.
        arrays: by key without the case's name; float64, counts as they are.
    """

    name: str
    kind: str
    config: FieldConfig
    arrays: dict[str, NDArray]


def read(file: Path) -> list[FractalCase]:
    """Read and check a file.

    Raises:
        LayoutError: no such file, or not laid out as published; the text names the key.
    """
    try:
        with np.load(file, allow_pickle=False) as loaded:
            arrays = {key: loaded[key] for key in loaded.files}
        meta = json.loads(str(arrays.pop("meta")))
    except KeyError:
        raise LayoutError(f"{file}: key 'meta' is missing") from None
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise LayoutError(f"{file}: not a file of arrays with meta in JSON: {error}") from error
    if not isinstance(meta, list) or not meta or not all(isinstance(m, dict) for m in meta):
        raise LayoutError(f"{file}: meta: expected a list of cases")
    return [_case(file, f"case{at}", dict(settings), arrays) for at, settings in enumerate(meta)]


def _case(
    file: Path, name: str, settings: dict[str, Any], arrays: dict[str, NDArray]
) -> FractalCase:
    shape = {key: settings.pop(key, None) for key in _SHAPE}
    values = {}
    for key, value in settings.items():
        if key not in _SETTINGS:
            raise LayoutError(
                f"{file}: meta of {name}: no such setting {key!r}"
                f"{near_miss(key, [*_SETTINGS, *_SHAPE])}"
            )
        if value is not None:
            values[_SETTINGS[key]] = value
    try:
        config = check(PUBLISHED.model_dump() | values, FieldConfig, place=f"meta of {name}")
    except ConfigError as error:
        raise LayoutError(f"{file}: {error}") from None
    sizes: dict[str, int] = {"S": config.num_scales}
    for letter, key in (("n", "n"), ("C", "c"), ("d", "d")):
        if isinstance(shape[key], int):
            sizes[letter] = shape[key]
    own = {}
    for key, axes in _ARRAYS.items():
        array = arrays.get(f"{name}/{key}")
        if array is None:
            raise LayoutError(f"{file}: key {name}/{key} is missing")
        if array.dtype.kind not in "fiu" or array.ndim != len(axes):
            raise LayoutError(
                f"{file}: {name}/{key}: expected numbers of {len(axes)} axes, "
                f"got {array.dtype} {array.shape}"
            )
        for axis, size in zip(axes, array.shape, strict=True):
            if not size or (axis != "*" and sizes.setdefault(axis, size) != size):
                raise LayoutError(
                    f"{file}: {name}/{key}: shape {array.shape} does not fit {sizes} as {axes}"
                )
        own[key] = array if key == "box_counts" else array.astype(np.float64)
    return FractalCase(name, str(shape["kind"]), config, own)
