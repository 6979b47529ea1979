"""The published models' parameter trees and ours, translated in both directions.

A published tree is what Haiku saves: arrays named `MODULE/NAME`, matrices [in, out]. Ours are
torch state dicts, matrices [out, in]. The published models look ids up elsewhere, so hash tables
are ours alone, as are the towers' temperature and the ranker's calibration: an import leaves them
as they were, an export leaves them out. Numbers cross unchanged, to the bit.

`python -m train.published export RUN FILE.npz` writes the tree of a trained run;
`python -m train.published import FILE.npz RUN` puts a tree in place of a run's weights.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import near_miss
from train.runs import MODEL

Tree = dict[str, NDArray]
RANKER, RETRIEVAL = "phoenix_model", "phoenix_retrieval_model"  # roots of the two trees

_OURS_ALONE = re.compile(r"tables\.|log_temperature$|shift$")
_LAYER = re.compile(r"transformer\.layers\.(\d+)\.(.+)")
_TOWER = "~build_candidate_representation/candidate_tower/candidate_tower_projection"
_AT_ROOT = {
    "tokens.surface.weight": "product_surface_embedding_table",
    "tokens.action.weight": "action_projection",
    "tokens.user.weight": "proj_mat_1",
    "tokens.history.weight": "proj_mat_3",
    "candidate.weight": "proj_mat_2",
    "unembed.weight": "unembeddings",
    "norm.scale": "rms_norm/scale",
    "tower_in.weight": f"{_TOWER}_1",
    "tower_out.weight": f"{_TOWER}_2",
}
_IN_LAYER = {
    "norms.0.scale": "rms_norm/scale",
    "norms.1.scale": "rms_norm_1/scale",
    "norms.2.scale": "rms_norm_2/scale",
    "norms.3.scale": "rms_norm_3/scale",
    "attention.query.weight": "multi_head_attention/query/w",
    "attention.key.weight": "multi_head_attention/key/w",
    "attention.value.weight": "multi_head_attention/value/w",
    "attention.output.weight": "multi_head_attention/linear/w",
    "ffn.gate.weight": "linear/w",
    "ffn.up.weight": "linear_v/w",
    "ffn.down.weight": "linear_1/w",
}


class PublishedError(ValueError):
    """A tree or a model that has no counterpart; the text names the parameter."""


def export_tree(state: Mapping[str, Tensor]) -> Tree:
    """The published tree of a model.

    Args:
        state: `state_dict()` of a Ranker or a TwoTower.

    Returns:
        Arrays under published names, in the order of `state`; they own their memory.

    Raises:
        PublishedError: a parameter that the published models do not have, such as the
            norms of queries and keys.
    """
    return {key: _turned(key, state[name].numpy()) for name, key in _names(state).items()}


def import_tree(tree: Mapping[str, NDArray], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published tree as a model's state.

    Args:
        tree: arrays under published names; their dtype is kept.
        state: `state_dict()` of the model to fill: says which names and shapes are expected,
            and gives what is ours alone.

    Returns:
        What the model's `load_state_dict` takes.

    Raises:
        PublishedError: a key is missing, unknown or of another shape.
    """
    names = _names(state)
    for key in sorted(tree.keys() - set(names.values())):
        hint = near_miss(key, names.values(), listed=False)
        raise PublishedError(f"{key}: the model has no such parameter{hint}")
    imported = dict(state)
    for name, key in names.items():
        if key not in tree:
            raise PublishedError(f"{key}: missing from the tree")
        value, expected = tree[key], _turned(key, state[name].numpy()).shape
        if value.shape != expected:
            raise PublishedError(f"{key}: shape {value.shape}, the model has {expected}")
        imported[name] = torch.from_numpy(_turned(key, value))
    return imported


def export_run(run: Path, file: Path) -> int:
    """Write the tree of a trained run to `file` (.npz); returns how many arrays."""
    tree = export_tree(load_file(run / MODEL))
    with file.open("wb") as out:  # a name without .npz stays as it is
        np.savez(out, **tree)  # type: ignore[arg-type]
    return len(tree)


def import_run(file: Path, run: Path) -> int:
    """Replace a run's weights by those of `file`; returns how many arrays.

    The run's hash tables and calibration stay, and know nothing of the imported weights: train on.
    """
    state = load_file(run / MODEL)
    with np.load(file) as archive:
        tree = {key: archive[key] for key in archive.files}
    imported = import_tree(tree, state)
    save_file(imported, run / MODEL)
    return len(tree)


def _names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Published key of each parameter that the published models have."""
    root = RANKER if "unembed.weight" in state else RETRIEVAL
    names = {}
    for name in state:
        if _OURS_ALONE.match(name):
            continue
        layer = _LAYER.fullmatch(name)
        if layer and layer[2] in _IN_LAYER:
            names[name] = f"transformer/decoder_layer_{layer[1]}/{_IN_LAYER[layer[2]]}"
        elif name in _AT_ROOT:
            names[name] = f"{root}/{_AT_ROOT[name]}"
        else:
            raise PublishedError(f"{name}: the published models have no such parameter")
    return names


def _turned(key: str, value: NDArray) -> NDArray:
    """A copy in the other side's layout: matrices transposed, vectors and the table as they are."""
    return np.array(value if value.ndim == 1 or key.endswith("_table") else value.T, order="C")


def main() -> int:
    """Move weights between a run and a file."""
    parser = argparse.ArgumentParser(prog="python -m train.published")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, places in (("export", ("run", "file")), ("import", ("file", "run"))):
        added = commands.add_parser(command)
        for place in places:
            added.add_argument(place, type=Path)
    args = parser.parse_args()
    try:
        exporting = args.command == "export"
        num = export_run(args.run, args.file) if exporting else import_run(args.file, args.run)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.file if exporting else args.run}: {num} arrays written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
