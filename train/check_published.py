"""Compares the models with the published ones, on files of weights, inputs and outputs.

`python -m train.check_published FILE.npz [FILE.npz ...]` prints JSON: per configuration and
quantity the largest absolute error, its gate, and whether all pass. Positions of padding mean
nothing and are not compared. Exit status: 0 all pass, 1 a gate is missed, 2 a file is not laid
out as `../shared/reference` is, or its parameters do not fit.

The gates, float32: tokens 1e-5, layers and logits 2e-4, rankings equal, vectors of the towers
1e-5, posts found equal. bfloat16: logits within 0.3, vectors within 0.01, the rest finite; best
candidates and found posts equal in 95 %, where there are enough to tell. Positions of
candidates are their slots, as in the release of January 2026.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train import verdicts
from train.models.layers import ffn_width
from train.models.layout import attention_mask
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower
from train.models.tokens import Tensors
from train.published import RANKER, PublishedError, import_tree
from train.published_cases import Case, LayoutError, read
from train.verdicts import Check

M = TypeVar("M", bound=nn.Module)
Arrays = dict[str, NDArray]

TOKENS_GATE, LAYERS_GATE, TOWERS_GATE, BF16_GATE = 1e-5, 2e-4, 1e-5, 0.3
BF16_TOWERS_GATE = 0.01  # one rounding of a number near 1 is up to 0.004
_MASKED_SCORE = np.float32(-1e12)  # of a post that the corpus mask leaves out
_DTYPES: dict[str, Literal["float32", "bfloat16"]] = {"f32": "float32", "bf16": "bfloat16"}


def check_file(file: Path) -> dict[str, Any]:
    """Compare every configuration, mask and width of a file.

    Raises:
        LayoutError, PublishedError: the file cannot be compared; the text names the key.
    """
    published = read(file)
    configs = {}
    for case in published.cases:
        compare = check_ranker if case.kind == RANKER else check_towers
        try:
            checks = {group: compare(case, group) for group in _DTYPES if case.outputs(group)}
        except PublishedError as error:
            raise PublishedError(f"{file}: {case.name}/param/{error}") from None
        results = [check for group in checks.values() for check in group.values()]
        passed = all(result.get("passed", True) for result in results)
        configs[case.name] = {"passed": passed, "model": case.kind, **checks}
        configs[case.name]["not_compared"] = case.unused
    masks = [
        np.array_equal(attention_mask(*shape), mask.astype(bool))
        for shape, mask in published.masks.items()
    ]
    widths = [ffn_width(int(size), float(w)) == int(width) for size, w, width in published.widths]
    return {
        "file": str(file),
        "passed": all(c["passed"] for c in configs.values()) and all(masks) and all(widths),
        "configs": configs,
        "masks": {"compared": len(masks), "equal": masks.count(True)},
        "ffn_widths": {"compared": len(widths), "equal": widths.count(True)},
        "not_compared": published.unused,
    }


def check_ranker(case: Case, group: str) -> dict[str, Check]:
    """Compare one precision ("f32" or "bf16") of a ranker."""
    config = RankerConfig(**case.model, anchored=False, split=False, compute_dtype=_DTYPES[group])
    model, theirs, exact = _filled(Ranker(config), case), case.outputs(group), group == "f32"
    inputs, looked_up = case.tensors()
    with torch.inference_mode(), recorded(model) as seen:
        logits = model.logits(inputs, looked_up).numpy()
    probs = torch.from_numpy(logits).to(model.dtype).sigmoid().float().numpy()
    ranked = np.argsort(-probs[..., 0], axis=1, kind="stable")
    valid = seen.pop("padding_mask")
    start = valid.shape[1] - logits.shape[1]
    checks = {}
    if "padding_mask" in theirs:
        checks["padding_mask"] = verdicts.equal(valid, theirs["padding_mask"].astype(bool))
    if "candidate_start_offset" in theirs:
        checks["candidate_start_offset"] = verdicts.equal(start, theirs["candidate_start_offset"])
    gates = {"tokens": TOKENS_GATE, "logits": LAYERS_GATE if exact else BF16_GATE}
    for name, values in (seen | {"logits": logits, "probs": probs}).items():
        if name in theirs:
            where = valid[:, start:] if name in ("logits", "probs") else valid
            gate = gates.get(name, LAYERS_GATE) if exact or name == "logits" else None
            checks[name] = verdicts.error(values[where], theirs[name][where], gate)
    valid = valid[:, start:]
    if exact:
        checks["ranking"] = verdicts.order(
            ranked, theirs["ranked_indices"], theirs["probs"][..., 0], valid
        )
        checks |= _other_candidates(model, theirs, inputs, looked_up)
    else:
        f32 = case.outputs("f32")
        checks["logits_to_f32"] = verdicts.error(logits[valid], f32["logits"][valid], None)
        if "ranked_indices" in theirs:
            checks["top_1"] = verdicts.first(ranked, theirs["ranked_indices"], valid)
        checks["top_1_to_f32"] = verdicts.first(ranked, f32["ranked_indices"], valid)
    return checks


def _other_candidates(
    model: Ranker, theirs: Arrays, inputs: Tensors, looked_up: Tensors
) -> dict[str, Check]:
    """A ranker's logits with candidates in reverse, with others replaced, and on the fast path."""

    def logits(change: Callable[[Tensor], Tensor]) -> NDArray:
        changed = [
            {k: change(v) if k.startswith("candidate") else v for k, v in arrays.items()}
            for arrays in (inputs, looked_up)
        ]
        with torch.inference_mode():
            return model.logits(*changed).numpy()

    def replaced(values: Tensor) -> Tensor:
        # Of each array's own values, so that hashes stay hashes; slot 2 keeps its place.
        other = values.flip(0, 1).roll(1, 1)
        other[:, 2] = values[:, 2]
        return other

    valid = (inputs["candidate_post_hashes"][..., 0] != 0).numpy()
    checks = {}
    if "logits_reversed_candidates" in theirs:
        ours = logits(lambda values: values.flip(1))[:, ::-1]
        expected = theirs["logits_reversed_candidates"]
        checks["logits_reversed_candidates"] = verdicts.error(
            ours[valid], expected[valid], LAYERS_GATE
        )
    if "logits_slot2_others_replaced" in theirs and valid.shape[1] > 2:
        ours, expected = logits(replaced)[:, 2], theirs["logits_slot2_others_replaced"]
        there = valid[:, 2]
        checks["logits_slot2_others_replaced"] = verdicts.error(
            ours[there], expected[there], LAYERS_GATE
        )
    model.config = model.config.model_copy(update={"split": True})
    ours = logits(lambda values: values)
    checks["logits_fast_path"] = verdicts.error(ours[valid], theirs["logits"][valid], LAYERS_GATE)
    return checks


def check_towers(case: Case, group: str) -> dict[str, Check]:
    """Compare one precision ("f32" or "bf16") of both towers and of the search."""
    config = RetrievalConfig(**case.model, compute_dtype=_DTYPES[group])
    model, theirs, exact = _filled(TwoTower(config), case), case.outputs(group), group == "f32"
    inputs, looked_up = case.tensors()
    with torch.inference_mode():
        user, norm = (t.numpy() for t in model.user_from(inputs, looked_up))
        post = model.post_from(looked_up["candidate_post"], looked_up["candidate_author"]).numpy()
    valid = (inputs["candidate_post_hashes"][..., 0] != 0).numpy()
    gate = TOWERS_GATE if exact else BF16_TOWERS_GATE
    checks = {"user_representation": verdicts.error(user, theirs["user_representation"], gate)}
    if "user_norm" in theirs:
        norm_gate = gate if exact else None  # of no unit vector: as large as it likes
        checks["user_norm"] = verdicts.error(norm, theirs["user_norm"][:, 0], norm_gate)
    if "candidate_representation" in theirs:
        expected = theirs["candidate_representation"]
        checks["candidate_representation"] = verdicts.error(post[valid], expected[valid], gate)
    if "candidate_padding_mask" in theirs:
        expected = theirs["candidate_padding_mask"].astype(bool)
        checks["candidate_padding_mask"] = verdicts.equal(valid, expected)
    corpus = case.arrays["corpus"]
    for kind, mask in (("", None), ("masked_", case.arrays.get("corpus_mask"))):
        if f"{kind}top_k_indices" not in theirs:
            continue
        expected = theirs[f"{kind}top_k_indices"]
        found, scores = search(user, corpus, expected.shape[1], mask)
        if exact:
            name = f"{kind}top_k_scores"
            checks[name] = verdicts.error(scores, theirs[name], gate)
            values = similarity(theirs["user_representation"], corpus, mask)
            checks[f"{kind}top_k_indices"] = verdicts.order(found, expected, values)
        else:
            shared = [len(np.intersect1d(a, b)) for a, b in zip(found, expected, strict=True)]
            checks[f"{kind}top_k_overlap"] = verdicts.share(sum(shared), expected.size)
    return checks


def similarity(user: NDArray, corpus: NDArray, mask: NDArray | None = None) -> NDArray:
    """Inner products [B, D] x [N, D] -> float32 [B, N]; -1e12 where bool mask [N] is false.

    Summed in float64, so that equal posts are equally near whatever the order of summing.
    """
    scores = (user.astype(np.float64) @ corpus.astype(np.float64).T).astype(np.float32)
    return scores if mask is None else np.where(mask.astype(bool), scores, _MASKED_SCORE)


def search(
    user: NDArray, corpus: NDArray, num_posts: int, mask: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """The nearest posts' rows and scores, best first, of equals the lower row. [B, K] twice."""
    scores = similarity(user, corpus, mask)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :num_posts]
    return rows, np.take_along_axis(scores, rows, axis=1)


@contextmanager
def recorded(model: Ranker) -> Iterator[Arrays]:
    """Filled during a forward pass: tokens, padding_mask, and per layer mha_out and out."""
    seen: Arrays = {}

    def before(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen["tokens"] = args[0].float().numpy()
        seen["padding_mask"] = args[1].seen.numpy()  # all tokens: the model is not split

    def keep(name: str) -> Any:
        def hook(_: nn.Module, args: Any, out: Any) -> None:
            seen[name] = (out[0] if isinstance(out, tuple) else out).float().numpy()

        return hook

    handles = [model.transformer.register_forward_pre_hook(before)]
    for i, layer in enumerate(model.transformer.layers):
        attention = layer.get_submodule("attention")
        handles.append(attention.register_forward_hook(keep(f"layer_{i}/mha_out")))
        handles.append(layer.register_forward_hook(keep(f"layer_{i}/out")))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _filled(model: M, case: Case) -> M:
    tree = {key: value.astype(np.float32) for key, value in case.tree.items()}
    model.load_state_dict(import_tree(tree, model.state_dict()))
    return model.eval()


def main() -> int:
    """Check files from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.check_published", description=__doc__)
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
            known = isinstance(error, LayoutError | PublishedError)
            error = (
                error
                if known
                else LayoutError(f"{file}: not laid out as a ranker or retrieval file: {error!r}")
            )
            print(error, file=sys.stderr)
            results.append({"file": str(file), "passed": False, "error": str(error)})
            status = 2
    passed = all(result["passed"] for result in results)
    print(json.dumps({"passed": passed, "files": results}, indent=2))
    return status or (0 if passed else 1)


if __name__ == "__main__":
    sys.exit(main())
