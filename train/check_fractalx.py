"""Compares the interference field with published numbers, on files of histories and scores.

`python -m train.check_fractalx FILE.npz [FILE.npz ...]` prints JSON: per case and quantity the
largest error, its gate, and whether all pass. Exit status: 0 all pass, 1 a gate is missed, 2 a
file is not laid out as `../shared/reference/fractalx_demo.npz` is.

The gates: 1e-9 absolute in float64, 1e-4 of the largest value in float32. Scores are compared
twice: with the file's wave vectors, wavelength, weights and dimension, and wholly ours (`own`).
What rounding decides cannot be gated so: directions that no variance tells apart are left out,
and where inner products blur the distances between nearly equal points, the gate of what is made
of those distances is as wide as the blur.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.fractalx_cases import FractalCase, read
from train.models.fractal.dimension import PUBLISHED_MAX_POINTS, box_count, pairwise, two_nn
from train.models.fractal.field import Field, assemble, fit, scale_weights
from train.models.fractal.waves import base_scale
from train.published_cases import LayoutError
from train.verdicts import Check

F64_GATE, F32_GATE = 1e-9, 1e-4
_F32_NORMAL = float(np.finfo(np.float32).tiny)
_APART = 1e-4  # singular values nearer than this part of the largest do not tell directions apart
_BLUR = 10  # a gate is this many times what rounding is seen to change


def check_file(file: Path) -> dict[str, Any]:
    """Compare every case of a file.

    Raises:
        LayoutError: the file cannot be compared; the text names the key.
    """
    cases: dict[str, Any] = {}
    for case in read(file):
        try:
            checks = {"float64": check_float64(case), "float32": check_float32(case)}
        except ValueError as error:
            raise LayoutError(f"{file}: {case.name}: {error}") from None
        passed = all(check["passed"] for group in checks.values() for check in group.values())
        cases[case.name] = {"passed": passed, "kind": case.kind, **checks}
    return {
        "file": str(file),
        "passed": all(case["passed"] for case in cases.values()),
        "max_errors": {
            dtype: _largest([case[dtype] for case in cases.values()])
            for dtype in ("float64", "float32")
        },
        "cases": cases,
    }


def check_float64(case: FractalCase) -> dict[str, Check]:
    """Compare all quantities of a case, as they were published."""
    arrays = case.arrays
    ours = _fitted(case, torch.float64)
    scores = _as_published(case, ours).score(_tensor(case, "candidates", torch.float64))
    checks = {
        "by_scale": _error(scores.by_scale[0], arrays["by_scale"]),
        "total": _error(scores.total[0], arrays["total"]),
    }
    dimension, longest = ours.dimension, ours.scales[0, 0]
    blur = _dimension_blur(case)
    checks["intrinsic_dimension"] = _error(dimension.value, arrays["intrinsic_dimension"], blur)
    checks["dimension_ratio"] = _error(dimension.ratio, arrays["dimension_ratio"], blur)
    far = 0.0 if case.config.base_scale is not None else _scale_blur(case)
    checks["lambda0"] = _error(longest, arrays["lambda0"], far)
    ratio = torch.from_numpy(arrays["dimension_ratio"]).double().reshape(1)
    weights = scale_weights(ratio, case.config)[0]
    checks["scale_weights"] = _error(weights, arrays["scale_weights"])
    multiplier = 1 + case.config.destructive_gain * (1 - ratio)
    checks["destructive_multiplier"] = _error(multiplier, arrays["destructive_multiplier"])
    told = _told_apart(case, ours)
    checks["wave_vectors"] = _wave_error(ours.waves[0].numpy(), arrays["wave_vectors"], told)
    boxes = box_count(torch.from_numpy(arrays["history"]))
    checks["box_dimension"] = _error(boxes.dimension, arrays["box_dimension"])
    checks["box_counts"] = _error(boxes.counts, arrays["box_counts"])
    own = ours.score(_tensor(case, "candidates", torch.float64))
    gated = bool(told.all()) and _BLUR * max(blur, far) <= F64_GATE
    for name, mine in (("own_by_scale", own.by_scale[0]), ("own_total", own.total[0])):
        check = _error(mine, arrays[name.removeprefix("own_")])
        checks[name] = check if gated else {**check, "gate": None, "passed": True}
    return checks


def check_float32(case: FractalCase) -> dict[str, Check]:
    """Compare the scores of a case whose inputs are rounded to float32."""
    field = _as_published(case, _fitted(case, torch.float32))
    scores = field.score(_tensor(case, "candidates", torch.float32))
    return {
        "by_scale": _relative_error(scores.by_scale[0], case.arrays["by_scale"]),
        "total": _relative_error(scores.total[0], case.arrays["total"]),
    }


def _fitted(case: FractalCase, dtype: torch.dtype) -> Field:
    """Our field of a case, whose history is padded as in a batch."""
    history, amplitudes = (_tensor(case, name, dtype) for name in ("history", "amplitudes"))
    history = torch.cat((history, torch.full_like(history[:, :1], torch.nan)), 1)
    amplitudes = torch.cat((amplitudes, torch.full_like(amplitudes[:, :1], torch.nan)), 1)
    lengths = torch.tensor([history.shape[1] - 1])
    return fit(history, amplitudes, lengths, config=case.config)


def _as_published(case: FractalCase, ours: Field) -> Field:
    """A field of the file's wave vectors, wavelength, weights and dimension."""
    value, ratio, longest, weights = (
        torch.from_numpy(case.arrays[name]).double().reshape(1, -1)
        for name in ("intrinsic_dimension", "dimension_ratio", "lambda0", "scale_weights")
    )
    waves = torch.from_numpy(case.arrays["wave_vectors"]).double()[None]
    shares = waves.new_full(waves.shape[:2], 1 / waves.shape[1])
    scales = longest * 0.5 ** torch.arange(case.config.num_scales, dtype=torch.float64)
    dimension = replace(ours.dimension, value=value[0], ratio=ratio[0])
    return assemble(case.config, ours.histories, waves, shares, scales, dimension, weights)


def _dimension_blur(case: FractalCase) -> float:
    """How much the dimension changes with the way that distances are computed."""
    history = _tensor(case, "history", torch.float64)
    lengths = torch.tensor([history.shape[1]])
    ways = [history, history - history.mean(1, keepdim=True)]
    values = [float(two_nn(way, lengths, guarded=False).value) for way in ways]
    if history.shape[1] <= PUBLISHED_MAX_POINTS:  # of more, others are drawn
        values.append(float(two_nn(history, lengths, guarded=True).value))
    return max(values) - min(values)


def _scale_blur(case: FractalCase) -> float:
    """How much the longest wavelength changes with the way that distances are computed."""
    history = _tensor(case, "history", torch.float64)
    exact = float(base_scale(history, torch.tensor([history.shape[1]])))
    pairs = torch.triu_indices(history.shape[1], history.shape[1], 1)
    blurred = pairwise(history, exact=False)[0][tuple(pairs)]
    equal = pairwise(history)[0][tuple(pairs)] <= 1e-6 * float(history.abs().max())
    # Between equal points rounding decides whether a distance counts.
    counted = [blurred[blurred > 1e-12], blurred[~equal], blurred]
    medians = [2 * float(np.median(some.numpy())) if len(some) else 1.0 for some in counted]
    return max(abs(float(np.clip(median, 0.05, 10)) - exact) for median in medians)


def _told_apart(case: FractalCase, ours: Field) -> NDArray[np.bool_]:
    """Which of our wave vectors do not depend on rounding. bool [K]."""
    waves, history = ours.waves[0], case.arrays["history"]
    told = np.ones(len(waves), bool)
    if case.config.waves == "random":
        return told
    sizes = np.linalg.svd(history - history.mean(0), compute_uv=False)
    if sizes[0] <= 1e-12:
        return told  # the axes
    edges = np.concatenate(([np.inf], sizes, [0.0]))
    apart = np.minimum(edges[:-2] - sizes, sizes - edges[2:]) > _APART * sizes[0]
    if len(history) > len(sizes) and len(sizes) == history.shape[1]:
        # The last of a full set is at right angles to all others.
        apart[-1] = edges[-3] - sizes[-1] > _APART * sizes[0]
    num = min(len(sizes), len(waves))
    told[:num] = apart[:num]
    return told


def _wave_error(ours: NDArray, theirs: NDArray, told: NDArray[np.bool_]) -> Check:
    """The largest error of directions that are told apart; either sign is the same wave."""
    if len(theirs) > len(ours) or len(theirs) < min(ours.shape):
        raise ValueError(f"wave_vectors: expected {len(ours)} rows, got {len(theirs)}")
    ours, told = ours[: len(theirs)], told[: len(theirs)]  # the axes may be fewer than K
    sign = np.where((ours * theirs).sum(1, keepdims=True) < 0, -1, 1)
    check = _error((sign * ours)[told], theirs[told])
    unit = bool(np.abs(np.linalg.norm(theirs, axis=1) - 1).max() <= F64_GATE)
    return {
        **check,
        "passed": check["passed"] and unit,
        "not_told_apart": int((~told).sum()),
    }


def _error(ours: Any, theirs: NDArray, blur: float = 0.0) -> Check:
    gate = max(F64_GATE, _BLUR * blur)
    return _check(ours, theirs, gate, "max_abs_error")


def _relative_error(ours: Any, theirs: NDArray) -> Check:
    size = float(np.abs(theirs).max(initial=0))
    # Below its normal range float32 has no digits that a relative error could count.
    return _check(ours, theirs, F32_GATE, "max_rel_error", size and max(size, _F32_NORMAL))


def _check(ours: Any, theirs: NDArray, gate: float, name: str, size: float = 1.0) -> Check:
    """The largest error in parts of `size`; None = not finite, which passes no gate."""
    apart = np.abs(np.asarray(ours, np.float64).reshape(theirs.shape) - theirs).max(initial=0)
    error = float(apart / size) if size else float(apart)
    finite = bool(np.isfinite(error))
    passed = finite and error <= gate
    return {name: error if finite else None, "values": theirs.size, "gate": gate, "passed": passed}


def _largest(checks: list[Mapping[str, Check]]) -> dict[str, float | None]:
    """The largest error of each quantity over cases."""
    largest: dict[str, float | None] = {}
    for case in checks:
        for quantity, check in case.items():
            error = check["max_abs_error" if "max_abs_error" in check else "max_rel_error"]
            before = largest.get(quantity, 0.0)
            largest[quantity] = None if error is None or before is None else max(before, error)
    return largest


def _tensor(case: FractalCase, name: str, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(case.arrays[name]).to(dtype)[None]


def main() -> int:
    """Check files from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.check_fractalx", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    status = 0
    for file in args.files:
        try:
            results.append(check_file(file))
        except Exception as error:  # whatever arrays hold, other files are compared all the same
            if not isinstance(error, LayoutError):
                error = LayoutError(f"{file}: not laid out as a file of fields: {error!r}")
            print(error, file=sys.stderr)
            results.append({"file": str(file), "passed": False, "error": str(error)})
            status = 2
    passed = all(result["passed"] for result in results)
    print(json.dumps({"passed": passed, "files": results}, indent=2))
    return status or (0 if passed else 1)


if __name__ == "__main__":
    sys.exit(main())
