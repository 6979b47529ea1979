"""Reads files of the published models' weights, inputs and outputs (`../shared/reference`).

Axes: B viewers, S history slots, C candidates, T = 1 + S + C tokens, D width, A actions,
U/P/W hashes of a user/post/author (writer), N posts of the corpus, K posts found, M under the mask.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from configs import ConfigError, check
from pipelines.features import FeatureSpec
from train.models.layers import TransformerConfig
from train.models.tokens import Tensors
from train.published import RANKER, RETRIEVAL

_INPUTS = {
    "batch/user_hashes": "B U",
    "batch/history_post_hashes": "B S P",
    "batch/history_author_hashes": "B S W",
    "batch/history_actions": "B S A",
    "batch/history_product_surface": "B S",
    "batch/candidate_post_hashes": "B C P",
    "batch/candidate_author_hashes": "B C W",
    "batch/candidate_product_surface": "B C",
    "emb/user_embeddings": "B U D",
    "emb/history_post_embeddings": "B S P D",
    "emb/history_author_embeddings": "B S W D",
    "emb/candidate_post_embeddings": "B C P D",
    "emb/candidate_author_embeddings": "B C W D",
}
_OUTPUTS = {
    RANKER: {
        "tokens": "B T D",
        "padding_mask": "B T",
        "candidate_start_offset": "",
        "logits": "B C A",
        "probs": "B C A",
        "ranked_indices": "B C",
    },
    RETRIEVAL: {
        "user_representation": "B D",
        "user_norm": "B 1",
        "candidate_representation": "B C D",
        "candidate_padding_mask": "B C",
        "top_k_indices": "B K",
        "top_k_scores": "B K",
    },
}
_OPTIONAL = {
    RANKER: {"logits_reversed_candidates": "B C A", "logits_slot2_others_replaced": "B A"},
    RETRIEVAL: {"masked_top_k_indices": "B M", "masked_top_k_scores": "B M"},
}
_BF16_AT_LEAST = {RANKER: "logits", RETRIEVAL: "user_representation"}
_TRANSFORMER = {
    "num_layers": "num_layers",
    "num_heads": "num_q_heads",
    "num_kv_heads": "num_kv_heads",
    "key_size": "key_size",
    "widening_factor": "widening_factor",
    "attn_multiplier": "attn_output_multiplier",
}
# Switches of FeatureSpec: the release of January 2026 reads ids, actions and surfaces alone.
IDS_ALONE = dict.fromkeys(("context", "rates", "user_features"), False)


class LayoutError(ValueError):
    """A file that is not laid out as the references are; the text names the key."""


@dataclass(frozen=True)
class Case:
    """One configuration of a file.

    Attributes:
        name: as in the file.
        kind: RANKER or RETRIEVAL.
        model: settings that RankerConfig and RetrievalConfig share.
        tree: published parameters.
        arrays: all else by key without the configuration's name, such as `f32/logits`.
        unused: keys that nothing is known of.
    """

    name: str
    kind: str
    model: dict[str, Any]
    tree: dict[str, NDArray]
    arrays: dict[str, NDArray]
    unused: list[str]

    def outputs(self, group: str) -> dict[str, NDArray]:
        """What the published model computed in "f32" or "bf16", by name; maybe nothing."""
        return self._group(f"{group}/")

    def tensors(self) -> tuple[Tensors, Tensors]:
        """Inputs and looked-up embeddings, as int64 and float32, under the models' names."""
        inputs = {
            name: torch.from_numpy(a.astype(np.float32 if a.dtype.kind == "f" else np.int64))
            for name, a in self._group("batch/").items()
        }
        embeddings = {
            name.removesuffix("_embeddings"): torch.from_numpy(a.astype(np.float32))
            for name, a in self._group("emb/").items()
        }
        inputs["history_actions"] = inputs["history_actions"].float()
        return inputs, embeddings

    def _group(self, prefix: str) -> dict[str, NDArray]:
        return {k.removeprefix(prefix): a for k, a in self.arrays.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Published:
    """What a file holds.

    Attributes:
        cases: one per configuration.
        masks: attention masks by (tokens, slot of the first candidate), maybe none.
        widths: rows (width of the model, widening factor, width of the feed-forward), maybe none.
        unused: keys of the file that belong to none of them.
    """

    cases: list[Case]
    masks: dict[tuple[int, int], NDArray]
    widths: NDArray
    unused: list[str]


def read(file: Path) -> Published:
    """Read and check a file.

    Raises:
        LayoutError: a key is missing or has another shape or value than the layout says.
    """
    arrays = _arrays(file)
    if "meta" not in arrays:
        raise LayoutError(f"{file}: key 'meta' is missing")
    try:
        configs = json.loads(arrays.pop("meta").item())["configs"]
        names = list(configs.keys())
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise LayoutError(f"{file}: meta: not JSON with 'configs': {error!r}") from None
    if not names:
        raise LayoutError(f"{file}: meta: 'configs' is empty")
    by_name: dict[str, dict[str, NDArray]] = {}
    for key, value in arrays.items():
        top, _, rest = key.partition("/")
        by_name.setdefault(top, {})[rest] = value
    masks, widths = by_name.pop("mask", {}), by_name.pop("ffn_size", {})
    cases = [_case(f"{file}: {n}", n, configs[n], by_name.pop(n, {})) for n in names]
    for name, group in by_name.items():
        if any(key.startswith("param/") for key in group):
            raise LayoutError(f"{file}: meta: 'configs' does not describe {name!r}")
    return Published(
        cases,
        {_mask_shape(file, key, mask): mask for key, mask in masks.items()},
        widths.get("", np.empty((0, 3))),
        sorted(f"{name}/{key}".rstrip("/") for name, group in by_name.items() for key in group),
    )


def _arrays(file: Path) -> dict[str, NDArray]:
    try:
        with np.load(file) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise LayoutError(f"{file}: not a readable .npz file: {error}") from error


def _case(place: str, name: str, meta: dict[str, Any], arrays: dict[str, NDArray]) -> Case:
    tree = {k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")}
    roots = {key.split("/")[0] for key in tree} & {RANKER, RETRIEVAL}
    if len(roots) != 1:
        raise LayoutError(f"{place}/param: neither '{RANKER}/...' nor '{RETRIEVAL}/...' is there")
    kind = roots.pop()
    model = _model(place, meta)
    spec = model["features"]
    sizes = {
        "D": model["emb_size"],
        "U": spec.num_user_hashes,
        "P": spec.num_post_hashes,
        "W": spec.num_author_hashes,
        "A": spec.num_actions,
    }
    unchecked = {key: value for key, value in arrays.items() if not key.startswith("param/")}
    known = _take(place, unchecked, _INPUTS, sizes)
    sizes["T"] = 1 + sizes["S"] + sizes["C"]
    required, optional = _outputs(kind, model["transformer"].num_layers, unchecked)
    known |= _take(place, unchecked, required, sizes)
    there = {key: axes for key, axes in optional.items() if key in unchecked}
    known |= _take(place, unchecked, there, sizes)
    for side in ("history", "candidate"):
        key = f"batch/{side}_product_surface"
        surface, num = known[key], spec.num_surfaces
        if surface.min(initial=0) < 0 or surface.max(initial=0) >= num:
            raise LayoutError(f"{place}/{key}: values outside 0..{num - 1}, the surfaces of meta")
    return Case(name, kind, model, tree, known, sorted(unchecked))


def _outputs(
    kind: str, num_layers: int, arrays: Mapping[str, NDArray]
) -> tuple[dict[str, str], dict[str, str]]:
    """Keys beside parameters and inputs, with their axes: those required, and those that may be."""
    outputs, extra = dict(_OUTPUTS[kind]), dict(_OPTIONAL[kind])
    corpus: dict[str, str] = {}
    if kind == RANKER:
        for layer in range(num_layers):
            outputs |= {f"layer_{layer}/{out}": "B T D" for out in ("mha_out", "out")}
    else:
        corpus = {"corpus": "N D"}
        if "corpus_mask" in arrays or "f32/masked_top_k_indices" in arrays:
            corpus["corpus_mask"] = "N"
            outputs |= extra
    required = corpus | {f"f32/{key}": axes for key, axes in outputs.items()}
    optional = {f"f32/{key}": axes for key, axes in extra.items()}
    if any(key.startswith("bf16/") for key in arrays):
        least = _BF16_AT_LEAST[kind]
        required[f"bf16/{least}"] = outputs[least]
        optional |= {f"bf16/{key}": axes for key, axes in outputs.items()}
    return required, optional


def _take(
    place: str, arrays: dict[str, NDArray], wanted: Mapping[str, str], sizes: dict[str, int]
) -> dict[str, NDArray]:
    """Move the `wanted` keys out of `arrays`; axes not in `sizes` are learned from them."""
    taken = {}
    for key, axes in wanted.items():
        if key not in arrays:
            raise LayoutError(f"{place}: key {place.rpartition(' ')[2]}/{key} is missing")
        shape = arrays[key].shape
        names = axes.split()
        fits = len(shape) == len(names) and all(
            size == (1 if axis == "1" else sizes.setdefault(axis, size))
            for axis, size in zip(names, shape, strict=True)
        )
        if not fits:
            expected = ", ".join(f"{axis}={sizes.get(axis, 'any')}" for axis in names)
            raise LayoutError(f"{place}/{key}: shape {shape}, expected ({expected})")
        taken[key] = arrays.pop(key)
    return taken


def _model(place: str, meta: dict[str, Any]) -> dict[str, Any]:
    """Shape settings of either model from the file's description."""
    try:
        users, posts, authors = meta["hashes"]
        transformer = {ours: meta["tc"][theirs] for ours, theirs in _TRANSFORMER.items()}
        features = {
            "num_user_hashes": users,
            "num_post_hashes": posts,
            "num_author_hashes": authors,
            "num_surfaces": meta["surf"],
            "user_vocab": 2,  # embeddings come with the file, so tables need no rows
            "post_vocab": 2,
            "author_vocab": 2,
            **IDS_ALONE,
        }
        spec = check(features, FeatureSpec, f"{place}: meta")
        return {
            "emb_size": int(meta["emb"]),
            "transformer": check(transformer, TransformerConfig, f"{place}: meta: tc"),
            # Not validated: a published model may have fewer actions than we have names for.
            "features": spec.model_copy(update={"num_actions": int(meta["actions"])}),
        }
    except KeyError as error:
        raise LayoutError(f"{place}: meta: {error} is missing") from None
    except ConfigError as error:
        raise LayoutError(str(error)) from None
    except (TypeError, ValueError) as error:
        raise LayoutError(f"{place}: meta: {error}") from None


def _mask_shape(file: Path, key: str, mask: NDArray) -> tuple[int, int]:
    try:
        num_tokens, start = map(int, key.split("_"))
    except ValueError:
        raise LayoutError(f"{file}: mask/{key}: expected mask/TOKENS_OFFSET") from None
    if mask.shape != (num_tokens, num_tokens):
        raise LayoutError(f"{file}: mask/{key}: shape {mask.shape}")
    return num_tokens, start
