"""The models equal the published architecture on its own numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.features import FeatureSpec
from train.models.layers import TransformerConfig, attention_mask, ffn_width
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
pytestmark = pytest.mark.skipif(
    not REFERENCE.exists() and "CI" not in os.environ,
    reason="needs ../shared/reference",
)

NORMS = ("rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3")
MATRICES = {
    "multi_head_attention/query": "attention.query",
    "multi_head_attention/key": "attention.key",
    "multi_head_attention/value": "attention.value",
    "multi_head_attention/linear": "attention.output",
    "linear": "ffn.gate",
    "linear_v": "ffn.up",
    "linear_1": "ffn.down",
}


def published_config(meta: dict) -> dict:
    """Shape settings of either model from the file's description of itself."""
    tc, (users, posts, authors) = meta["tc"], meta["hashes"]
    return {
        "emb_size": meta["emb"],
        "transformer": TransformerConfig(
            num_layers=tc["num_layers"],
            num_heads=tc["num_q_heads"],
            num_kv_heads=tc["num_kv_heads"],
            key_size=tc["key_size"],
            widening_factor=tc["widening_factor"],
            attn_multiplier=tc["attn_output_multiplier"],
        ),
        "features": FeatureSpec(
            history_len=meta["hist"],
            num_user_hashes=users,
            num_post_hashes=posts,
            num_author_hashes=authors,
            num_surfaces=meta["surf"],
            num_actions=meta["actions"],
            context=False,
            rates=False,
            user_features=False,
        ),
    }


def state_dict(params: dict[str, np.ndarray], root: str, config: dict) -> dict[str, torch.Tensor]:
    """The published tree under this project's names; matrices are transposed."""
    names = {
        f"{root}/product_surface_embedding_table": "tokens.surface.weight",
        f"{root}/action_projection": "tokens.action.weight",
        f"{root}/proj_mat_1": "tokens.user.weight",
        f"{root}/proj_mat_3": "tokens.history.weight",
        f"{root}/proj_mat_2": "candidate.weight",
        f"{root}/unembeddings": "unembed.weight",
        f"{root}/rms_norm/scale": "norm.scale",
    }
    tower = f"{root}/~build_candidate_representation/candidate_tower"
    names[f"{tower}/candidate_tower_projection_1"] = "tower_in.weight"
    names[f"{tower}/candidate_tower_projection_2"] = "tower_out.weight"
    for layer in range(config["transformer"].num_layers):
        theirs, ours = f"transformer/decoder_layer_{layer}", f"transformer.layers.{layer}"
        for index, norm in enumerate(NORMS):
            names[f"{theirs}/{norm}/scale"] = f"{ours}.norms.{index}.scale"
        for module, name in MATRICES.items():
            names[f"{theirs}/{module}/w"] = f"{ours}.{name}.weight"
    assert set(params) <= set(names), set(params) - set(names)
    return {
        names[key]: torch.from_numpy(
            value if value.ndim == 1 or "table" in key else np.ascontiguousarray(value.T)
        )
        for key, value in params.items()
    }


def read(file: str, config: str) -> tuple[dict, dict[str, dict[str, np.ndarray]]]:
    """One configuration's description and its arrays by group."""
    archive = np.load(REFERENCE / file)
    meta = json.loads(str(archive["meta"]))
    groups: dict[str, dict[str, np.ndarray]] = {}
    for key in archive.files:
        if key.startswith(f"{config}/"):
            _, group, *rest = key.split("/")
            groups.setdefault(group, {})["/".join(rest)] = archive[key]
    return meta["configs"][config] if "configs" in meta else meta[config], groups


def load_weights(model: torch.nn.Module, params: dict, root: str, config: dict) -> None:
    """Fill all but the hash tables, which the published models do not hold."""
    missing, unexpected = model.load_state_dict(state_dict(params, root, config), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} <= {"tables", "log_temperature"}


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Integers as int64, the rest as float32."""
    return {
        name: torch.from_numpy(a.astype(np.int64 if a.dtype.kind in "iu" else np.float32))
        for name, a in arrays.items()
    }


def embeddings(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The looked-up embeddings under the names the models use."""
    return {name.removesuffix("_embeddings"): value for name, value in tensors(arrays).items()}


def test_ranker_equals_the_published_one():
    """Tokens, logits and ranking agree with the reference implementation in float32."""
    meta, groups = read("phoenix_ranker_demo.npz", "demo")
    config = published_config(meta)
    model = Ranker(RankerConfig(**config, anchored=False))
    load_weights(model, groups["param"], "phoenix_model", config)
    inputs = tensors(groups["batch"])

    with torch.inference_mode():
        logits = model.logits(inputs, embeddings(groups["emb"])).numpy()

    expected = groups["f32"]["logits"]
    valid = groups["batch"]["candidate_post_hashes"][..., 0] != 0
    np.testing.assert_allclose(logits[valid], expected[valid], atol=2e-4, rtol=0)
    ranked = np.argsort(-1 / (1 + np.exp(-logits[..., 0])), axis=1, kind="stable")
    np.testing.assert_array_equal(ranked, groups["f32"]["ranked_indices"])


@pytest.mark.parametrize("name", ["demo", "test"])
def test_towers_equal_the_published_ones(name):
    """Both towers and the search agree with the reference implementation in float32."""
    meta, groups = read("phoenix_retrieval_demo.npz", name)
    config = published_config(meta)
    model = TwoTower(RetrievalConfig(**config))
    load_weights(model, groups["param"], "phoenix_retrieval_model", config)
    inputs, looked_up = tensors(groups["batch"]), embeddings(groups["emb"])

    with torch.inference_mode():
        user, norm = model.user_from(inputs, looked_up)
        post = model.post_from(looked_up["candidate_post"], looked_up["candidate_author"])
    found = (user @ torch.from_numpy(groups["corpus"][""]).T).topk(10).indices

    expected = groups["f32"]
    np.testing.assert_allclose(user, expected["user_representation"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(norm, expected["user_norm"][:, 0], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(post, expected["candidate_representation"], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found, expected["top_k_indices"][:, :10])


def test_masks_and_widths():
    """Attention masks and feed-forward widths are the published ones, exactly."""
    archive = np.load(REFERENCE / "phoenix_ranker_demo.npz")
    masks = [key for key in archive.files if key.startswith("mask/")]
    assert masks
    for key in masks:
        length, start = map(int, key.removeprefix("mask/").split("_"))
        np.testing.assert_array_equal(attention_mask(length, start), archive[key].astype(bool))
    for emb_size, widening, width in archive["ffn_size"]:
        assert ffn_width(int(emb_size), float(widening)) == width
