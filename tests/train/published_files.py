"""Made-up files laid out like the published references, with the oracle's outputs.

Axes: B viewers, S history slots, C candidates, D width, A actions.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.train import phoenix_oracle as oracle
from tests.train.phoenix_oracle import Arrays, Shape


def params(shape: Shape, root: str, rng: np.random.Generator) -> Arrays:
    """Random parameters of either model, norms away from 1 so that none can be left out."""
    D, A = shape.emb, shape.actions
    users, posts, authors = shape.hashes
    tree = {
        f"{root}/product_surface_embedding_table": rng.normal(size=(shape.surf, D)) / 4,
        f"{root}/action_projection": rng.normal(size=(A, D)) / 4,
        f"{root}/proj_mat_1": rng.normal(size=(users * D, D)) / np.sqrt(users * D),
        f"{root}/proj_mat_3": rng.normal(size=((posts + authors + 2) * D, D)) / 8,
    }
    if root == "phoenix_model":
        tree[f"{root}/proj_mat_2"] = rng.normal(size=((posts + authors + 1) * D, D)) / 8
        tree[f"{root}/unembeddings"] = rng.normal(size=(D, A)) / 4
        tree[f"{root}/rms_norm/scale"] = rng.uniform(0.5, 1.5, D)
    else:
        tower = f"{root}/~build_candidate_representation/candidate_tower/candidate_tower_projection"
        tree[f"{tower}_1"] = rng.normal(size=((posts + authors) * D, 2 * D)) / 8
        tree[f"{tower}_2"] = rng.normal(size=(2 * D, D)) / 8
    queries, keys = shape.q_heads * shape.key_size, shape.kv_heads * shape.key_size
    for i in range(shape.layers):
        layer = f"transformer/decoder_layer_{i}"
        for norm in ("rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3"):
            tree[f"{layer}/{norm}/scale"] = rng.uniform(0.5, 1.5, D)
        for name, size in (
            ("multi_head_attention/query", (D, queries)),
            ("multi_head_attention/key", (D, keys)),
            ("multi_head_attention/value", (D, keys)),
            ("multi_head_attention/linear", (queries, D)),
            ("linear", (D, shape.width)),
            ("linear_v", (D, shape.width)),
            ("linear_1", (shape.width, D)),
        ):
            tree[f"{layer}/{name}/w"] = rng.normal(size=size) * np.sqrt(2 / sum(size))
    return {key: value.astype(np.float32) for key, value in tree.items()}


def batch(shape: Shape, rng: np.random.Generator, invalid_users: bool = False) -> Arrays:
    """Inputs as the published benchmarks make them; half the users may be padding.

    Hashes in [1, 1e5); per row a random length in [S / 2, S] pads posts on the right and another
    pads authors; actions are U(0, 1) > 0.7; embeddings N(0, 1).
    """
    B, S, C = shape.B, shape.hist, shape.cand
    users, posts, authors = shape.hashes

    def ids(*size: int) -> NDArray:
        return rng.integers(1, 100_000, size).astype(np.int32)

    arrays = {
        "batch/user_hashes": ids(B, users),
        "batch/history_post_hashes": ids(B, S, posts),
        "batch/history_author_hashes": ids(B, S, authors),
        "batch/history_actions": (rng.random((B, S, shape.actions)) > 0.7).astype(np.float32),
        "batch/history_product_surface": rng.integers(0, shape.surf, (B, S)).astype(np.int32),
        "batch/candidate_post_hashes": ids(B, C, posts),
        "batch/candidate_author_hashes": ids(B, C, authors),
        "batch/candidate_product_surface": rng.integers(0, shape.surf, (B, C)).astype(np.int32),
    }
    for kind in ("post", "author"):
        for row, length in enumerate(rng.integers(S // 2, S + 1, B)):
            arrays[f"batch/history_{kind}_hashes"][row, length:] = 0
    arrays["batch/history_actions"][:, 0] = 0  # a post the viewer did nothing with
    if invalid_users:
        arrays["batch/user_hashes"][::2, 0] = 0
        arrays["batch/history_post_hashes"][0] = 0  # nothing is known of the first viewer
    for name, size in (
        ("user", (B, users)),
        ("history_post", (B, S, posts)),
        ("history_author", (B, S, authors)),
        ("candidate_post", (B, C, posts)),
        ("candidate_author", (B, C, authors)),
    ):
        arrays[f"emb/{name}_embeddings"] = rng.normal(size=(*size, shape.emb)).astype(np.float32)
    return arrays


def case(shape: Shape, root: str, seed: int, invalid_users: bool = False) -> Arrays:
    """One configuration of a file: parameters, inputs and the oracle's outputs, as float32."""
    rng = np.random.default_rng(seed)
    tree, inputs = params(shape, root, rng), batch(shape, rng, invalid_users)
    if shape.cand > 1:
        inputs["batch/candidate_post_hashes"][-1, -1] = 0  # padding on the right
    if root == "phoenix_model":
        outputs = oracle.ranker(inputs, tree, shape)
        reverse = {k: v[:, ::-1] if "candidate" in k else v for k, v in inputs.items()}
        outputs["logits_reversed_candidates"] = oracle.ranker(reverse, tree, shape)["logits"][
            :, ::-1
        ]
        if shape.cand > 2:
            noisy = dict(inputs)
            for side in ("post", "author"):
                noise = rng.normal(size=inputs[f"emb/candidate_{side}_embeddings"].shape)
                noise[:, 2] = inputs[f"emb/candidate_{side}_embeddings"][:, 2]
                noisy[f"emb/candidate_{side}_embeddings"] = noise
            replaced = oracle.ranker(noisy, tree, shape)["logits"][:, 2]
            outputs["logits_slot2_others_replaced"] = replaced
    else:
        corpus = rng.normal(size=(shape.corpus, shape.emb))
        corpus[1::3] = corpus[0]  # equals, of which the lower row comes first
        inputs["corpus"] = (corpus / np.linalg.norm(corpus, axis=1, keepdims=True)).astype("f4")
        inputs["corpus_mask"] = rng.random(shape.corpus) > 0.3
        outputs = oracle.towers(inputs, tree, shape)
    narrow = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in outputs.items()}
    return (
        {f"param/{key}": value for key, value in tree.items()}
        | inputs
        | {f"f32/{key}": value for key, value in narrow.items()}
    )


def write(file: Path, shapes: dict[str, Shape], cases: dict[str, Arrays]) -> Path:
    """Save configurations as one file laid out like the published references."""
    arrays = {f"{name}/{key}": value for name, c in cases.items() for key, value in c.items()}
    meta = {"configs": {name: shape.meta() for name, shape in shapes.items()}}
    np.savez(file, meta=np.array(json.dumps(meta)), **arrays)
    return file
