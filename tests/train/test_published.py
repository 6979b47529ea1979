"""Published weights move in and out unchanged, and the models equal the published ones on them."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.features import FeatureSpec
from tests.train import phoenix_oracle as oracle
from tests.train.phoenix_oracle import Shape
from tests.train.published_files import batch, params
from train import published
from train.check_published import check_file
from train.models.layers import TransformerConfig
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower
from train.published import (
    MODEL,
    RANKER,
    RETRIEVAL,
    PublishedError,
    export_run,
    export_tree,
    import_tree,
)
from train.published_cases import IDS_ALONE, Case, read

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
FILES = ("phoenix_ranker_demo.npz", "phoenix_retrieval_demo.npz")
needs_reference = pytest.mark.skipif(
    not REFERENCE.exists() and "CI" not in os.environ,
    reason="needs ../shared/reference",
)

SPEC = FeatureSpec(user_vocab=3, post_vocab=3, author_vocab=3, **IDS_ALONE)
SHAPE = TransformerConfig(key_size=8, num_heads=4, num_kv_heads=2)


def model_of(kind: str, **transformer: object) -> Ranker | TwoTower:
    """An untrained model of either kind."""
    config = {"emb_size": 16, "transformer": SHAPE.model_copy(update=transformer), "features": SPEC}
    if kind == RANKER:
        return Ranker(RankerConfig(**config))
    return TwoTower(RetrievalConfig(**config))


def tree_of(kind: str) -> published.Tree:
    """A published tree that fits `model_of`."""
    return params(Shape(q_heads=4), kind, np.random.default_rng(0))


def cases(file: str) -> list[Case]:
    """Configurations of one of the references."""
    return read(REFERENCE / file).cases


@needs_reference
@pytest.mark.parametrize("file", FILES)
def test_models_equal_the_published_ones(file):
    """Every tensor, ranking, mask and width that a reference holds is within its gate."""
    result = check_file(REFERENCE / file)

    assert result["passed"], json.dumps(result, indent=2)
    assert all(not case["not_compared"] for case in result["configs"].values())
    assert all(case["bf16"] for case in result["configs"].values())


@needs_reference
@pytest.mark.parametrize("file", FILES)
def test_the_oracle_equals_the_published_models(file):
    """The NumPy oracle, by which other shapes are checked, is right where there is a reference."""
    for case in cases(file):
        t = case.model["transformer"]
        shape = Shape(
            emb=case.model["emb_size"],
            q_heads=t.num_heads,
            kv_heads=t.num_kv_heads,
            key_size=t.key_size,
            layers=t.num_layers,
            multiplier=t.attn_multiplier,
        )
        compute = oracle.ranker if case.kind == RANKER else oracle.towers
        expected = case.outputs("f32")
        for name, ours in compute(case.arrays, case.tree, shape).items():
            np.testing.assert_allclose(ours, expected[name], atol=2e-5, rtol=0, err_msg=name)


@needs_reference
@pytest.mark.parametrize("file", FILES)
def test_published_trees_come_back_to_the_bit(file):
    """Importing the published weights and exporting them again changes nothing."""
    for case in cases(file):
        config = RankerConfig if case.kind == RANKER else RetrievalConfig
        model = (Ranker if case.kind == RANKER else TwoTower)(config(**case.model))
        model.load_state_dict(import_tree(case.tree, model.state_dict()))

        back = export_tree(model.state_dict())

        assert back.keys() == case.tree.keys()
        assert all(back[key].tobytes() == value.tobytes() for key, value in case.tree.items())


@needs_reference
def test_bfloat16_scores_stay_near_float32s():
    """On 500 random batches bfloat16 logits are within 0.3 and the top post is the same on 95 %."""
    case = cases(FILES[0])[0]
    logits: dict[str, list[torch.Tensor]] = {"float32": [], "bfloat16": []}
    for dtype, collected in logits.items():
        model = Ranker(RankerConfig(**case.model, anchored=False, compute_dtype=dtype)).eval()
        model.load_state_dict(import_tree(case.tree, model.state_dict()))
        for seed in range(10):  # 50 at a time: rows of a batch do not mix
            shape = Shape(B=50, emb=128, hist=32, cand=8)
            inputs = batch(shape, np.random.default_rng(seed))
            with torch.inference_mode():
                collected.append(model.logits(*dataclasses.replace(case, arrays=inputs).tensors()))
    exact, rounded = (torch.cat(parts) for parts in logits.values())

    assert len(exact) == 500
    assert (exact - rounded).abs().max() <= 0.3
    assert (exact[..., 0].argmax(1) == rounded[..., 0].argmax(1)).float().mean() >= 0.95


@pytest.mark.parametrize("kind", [RANKER, RETRIEVAL])
def test_trees_survive_both_ways(kind):
    """A tree comes back from a model to the bit, and a model from its tree, tables untouched."""
    tree, model = tree_of(kind), model_of(kind)
    state = {name: value.clone() for name, value in model.state_dict().items()}

    imported = import_tree(tree, state)
    back = export_tree(imported)
    again = import_tree(export_tree(state), imported)

    assert back.keys() == tree.keys()
    assert all(back[key].tobytes() == tree[key].tobytes() for key in tree)
    assert all(torch.equal(again[name], state[name]) for name in state)
    assert torch.equal(imported["tables.post.weight"], state["tables.post.weight"])
    model.load_state_dict(imported)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tree: tree.pop("phoenix_model/proj_mat_2"),
            "phoenix_model/proj_mat_2: missing from the tree",
        ),
        (
            lambda tree: tree.update({"phoenix_model/proj_mat_4": np.zeros(2)}),
            r"phoenix_model/proj_mat_4: the model has no such .*; did you mean 'phoenix_model/proj",
        ),
        (
            lambda tree: tree.update({"phoenix_model/unembeddings": np.zeros((19, 16))}),
            r"phoenix_model/unembeddings: shape \(19, 16\), the model has \(16, 19\)",
        ),
    ],
)
def test_a_tree_that_does_not_fit_is_refused_by_key(change, message):
    """Errors name the key that is missing, unknown or of another shape."""
    tree = tree_of(RANKER)
    change(tree)

    with pytest.raises(PublishedError, match=message):
        import_tree(tree, model_of(RANKER).state_dict())


def test_what_was_never_published_is_not_exported():
    """A model with parameters that the published ones lack is refused by the parameter's name."""
    state = model_of(RANKER, qk_norm=True).state_dict()

    with pytest.raises(PublishedError, match=r"attention\.query_norm\.scale: the published models"):
        export_tree(state)


def test_runs_are_exported_and_imported(tmp_path, monkeypatch, capsys):
    """The commands write a run's tree to a file and bring another run to the same weights."""
    runs, file = [tmp_path / "a", tmp_path / "b"], tmp_path / "tree.npz"
    for seed, run in enumerate(runs):
        torch.manual_seed(seed)
        run.mkdir()
        save_file(model_of(RETRIEVAL).state_dict(), run / MODEL)
    before = load_file(runs[1] / MODEL)

    for command in (["export", str(runs[0]), str(file)], ["import", str(file), str(runs[1])]):
        monkeypatch.setattr(sys, "argv", ["train.published", *command])
        assert published.main() == 0
    capsys.readouterr()
    first, second = (load_file(run / MODEL) for run in runs)

    assert torch.equal(first["tower_in.weight"], second["tower_in.weight"])
    assert torch.equal(before["tables.user.weight"], second["tables.user.weight"])
    assert export_run(runs[1], file) == len(np.load(file).files)
    monkeypatch.setattr(sys, "argv", ["train.published", "export", "nowhere", str(file)])
    assert published.main() == 2
    assert "nowhere" in capsys.readouterr().err
