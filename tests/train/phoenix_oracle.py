"""The published models in plain NumPy, written from their equations alone.

Independent of the models under test: nothing of `train` is imported, loops stand where the models
use tensors, and all is computed in float64. Equations: the public release of January 2026.

Axes: B viewers, S history slots, C candidates, T tokens, D width, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray]


@dataclass(frozen=True)
class Shape:
    """Sizes of one made-up configuration; names as in a file's `meta`."""

    B: int = 2
    emb: int = 16
    hist: int = 7
    cand: int = 4
    hashes: tuple[int, int, int] = (2, 2, 2)  # user, post, author
    surf: int = 16
    actions: int = 19
    widening: float = 2
    key_size: int = 8
    q_heads: int = 2
    kv_heads: int = 2
    layers: int = 2
    multiplier: float = 0.125
    corpus: int = 60
    top_k: int = 10

    @property
    def width(self) -> int:
        """Hidden width of the gated block."""
        w = int(self.widening * self.emb) * 2 // 3
        return w + (8 - w) % 8

    def meta(self) -> dict:
        """How a file describes this configuration."""
        return {
            "B": self.B,
            "emb": self.emb,
            "hist": self.hist,
            "cand": self.cand,
            "hashes": list(self.hashes),
            "surf": self.surf,
            "actions": self.actions,
            "tc": {
                "emb_size": self.emb,
                "widening_factor": self.widening,
                "key_size": self.key_size,
                "num_q_heads": self.q_heads,
                "num_kv_heads": self.kv_heads,
                "num_layers": self.layers,
                "attn_output_multiplier": self.multiplier,
            },
        }


def rms_norm(x: NDArray, scale: NDArray) -> NDArray:
    """Scaled to unit mean square: g · x / sqrt(mean(x²) + 1e-5)."""
    return scale * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def rotated(x: NDArray, position: int) -> NDArray:
    """One head's vector [d] at a position: the plane (i, i + d/2) turns by position · f_i."""
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
        angle = position * 10000 ** (-2 * i / len(x))
        a, b = x[i], x[i + half]
        out[i] = a * np.cos(angle) - b * np.sin(angle)
        out[i + half] = b * np.cos(angle) + a * np.sin(angle)
    return out


def may_look(i: int, j: int, start: int | None) -> bool:
    """Whether token i looks at token j: causal, but candidates never at each other."""
    if start is not None and i >= start and j >= start:
        return i == j
    return j <= i


def attention(
    x: NDArray, valid: NDArray, start: int | None, tree: Arrays, place: str, shape: Shape
) -> NDArray:
    """One viewer's attention [T, D] -> [T, D], head by head and token by token."""
    T, d, group = len(x), shape.key_size, shape.q_heads // shape.kv_heads

    def heads(name: str, num: int) -> NDArray:
        return (x @ tree[f"{place}/{name}/w"]).reshape(T, num, d)

    query, key = heads("query", shape.q_heads), heads("key", shape.kv_heads)
    value = heads("value", shape.kv_heads)
    query = np.array([[rotated(h, t) for h in query[t]] for t in range(T)])
    key = np.array([[rotated(h, t) for h in key[t]] for t in range(T)])
    mixed = np.zeros((T, shape.q_heads, d))
    for i in range(T):
        allowed = np.array([may_look(i, j, start) and valid[j] for j in range(T)])
        for h in range(shape.q_heads):
            scores = key[:, h // group] @ query[i, h] * shape.multiplier
            scores = np.where(allowed, 30 * np.tanh(scores / 30), -1e30)
            weight = np.exp(scores - scores.max())
            mixed[i, h] = weight / weight.sum() @ value[:, h // group]
    return mixed.reshape(T, -1) @ tree[f"{place}/linear/w"]


def feed_forward(x: NDArray, tree: Arrays, place: str) -> NDArray:
    """(gelu(x W_gate) * (x W_up)) W_down, gelu by its tanh approximation."""
    gate, up = x @ tree[f"{place}/linear/w"], x @ tree[f"{place}/linear_v/w"]
    gelu = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    return (gelu * up) @ tree[f"{place}/linear_1/w"]


def transformer(
    tokens: NDArray, valid: NDArray, start: int | None, tree: Arrays, shape: Shape
) -> tuple[NDArray, Arrays]:
    """Residual stream after the last layer [B, T, D], and what each layer gave."""
    h, layers = tokens, {}
    for i in range(shape.layers):
        place = f"transformer/decoder_layer_{i}"
        norms = [tree[f"{place}/rms_norm{n}/scale"] for n in ("", "_1", "_2", "_3")]
        normed = rms_norm(h, norms[0])
        mixed = np.stack(
            [
                attention(x, v, start, tree, f"{place}/multi_head_attention", shape)
                for x, v in zip(normed, valid, strict=True)
            ]
        )
        h = h + rms_norm(mixed, norms[1])
        h = h + rms_norm(feed_forward(rms_norm(h, norms[2]), tree, place), norms[3])
        layers |= {f"layer_{i}/mha_out": mixed, f"layer_{i}/out": h}
    return h, layers


def history_tokens(inputs: Arrays, tree: Arrays, root: str) -> tuple[NDArray, NDArray]:
    """[user | history] tokens and their validity."""
    B = len(inputs["batch/user_hashes"])
    did = inputs["batch/history_actions"]
    action = (2 * did - 1) @ tree[f"{root}/action_projection"]
    action[~(did != 0).any(-1)] = 0
    table = tree[f"{root}/product_surface_embedding_table"]
    posts, authors = (inputs[f"emb/history_{kind}_embeddings"] for kind in ("post", "author"))
    S = posts.shape[1]
    surface = table[inputs["batch/history_product_surface"]]
    parts = [posts.reshape(B, S, -1), authors.reshape(B, S, -1), action, surface]
    history = np.concatenate(parts, axis=-1) @ tree[f"{root}/proj_mat_3"]
    user = inputs["emb/user_embeddings"].reshape(B, 1, -1) @ tree[f"{root}/proj_mat_1"]
    valid = [inputs["batch/user_hashes"][:, :1], inputs["batch/history_post_hashes"][..., 0]]
    return np.concatenate([user, history], axis=1), np.concatenate(valid, axis=1) != 0


def ranker(inputs: Arrays, tree: Arrays, shape: Shape) -> Arrays:
    """What a file holds of the ranker's outputs, without its `f32/`."""
    root = "phoenix_model"
    inputs, tree = _wide(inputs), _wide(tree)
    history, valid = history_tokens(inputs, tree, root)
    posts, authors = (inputs[f"emb/candidate_{kind}_embeddings"] for kind in ("post", "author"))
    B, C = posts.shape[:2]
    table = tree[f"{root}/product_surface_embedding_table"]
    surface = table[inputs["batch/candidate_product_surface"]]
    parts = [posts.reshape(B, C, -1), authors.reshape(B, C, -1), surface]
    candidates = np.concatenate(parts, axis=-1) @ tree[f"{root}/proj_mat_2"]
    tokens, start = np.concatenate([history, candidates], axis=1), history.shape[1]
    valid = np.concatenate([valid, inputs["batch/candidate_post_hashes"][..., 0] != 0], axis=1)
    h, layers = transformer(tokens, valid, start, tree, shape)
    logits = rms_norm(h[:, start:], tree[f"{root}/rms_norm/scale"]) @ tree[f"{root}/unembeddings"]
    probs = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return layers | {
        "tokens": tokens,
        "padding_mask": valid,
        "candidate_start_offset": np.array(start),
        "logits": logits,
        "probs": probs,
        "ranked_indices": np.argsort(-probs[..., 0], axis=1, kind="stable"),
    }


def towers(inputs: Arrays, tree: Arrays, shape: Shape) -> Arrays:
    """What a file holds of both towers' and the search's outputs, without its `f32/`."""
    root = "phoenix_retrieval_model"
    inputs, tree = _wide(inputs), _wide(tree)
    tokens, valid = history_tokens(inputs, tree, root)
    h, _ = transformer(tokens, valid, None, tree, shape)
    pooled = np.stack([x[v].sum(0) / max(1, v.sum()) for x, v in zip(h, valid, strict=True)])
    norm = np.sqrt(np.maximum((pooled**2).sum(-1, keepdims=True), 1e-12))
    kinds = ("post", "author")
    ids = np.concatenate([inputs[f"emb/candidate_{kind}_embeddings"] for kind in kinds], axis=2)
    tower = f"{root}/~build_candidate_representation/candidate_tower/candidate_tower_projection"
    hidden = ids.reshape(*ids.shape[:2], -1) @ tree[f"{tower}_1"]
    y = hidden / (1 + np.exp(-hidden)) @ tree[f"{tower}_2"]
    scores = (pooled / norm) @ inputs["corpus"].T
    outputs = {
        "user_representation": pooled / norm,
        "user_norm": norm,
        "candidate_representation": y / np.sqrt(np.maximum((y**2).sum(-1, keepdims=True), 1e-12)),
        "candidate_padding_mask": inputs["batch/candidate_post_hashes"][..., 0] != 0,
    }
    for name, allowed in (("", True), ("masked_", inputs["corpus_mask"])):
        rounded = np.where(allowed, scores, -1e12).astype(np.float32)
        found = np.argsort(-rounded, axis=1, kind="stable")[:, : shape.top_k]
        outputs[f"{name}top_k_indices"] = found
        outputs[f"{name}top_k_scores"] = np.take_along_axis(rounded, found, axis=1)
    return outputs


def _wide(arrays: Arrays) -> Arrays:
    return {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in arrays.items()}
