"""The check passes right models of any shape and fails wrong ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.phoenix_oracle import Shape
from tests.train.published_files import case, write
from train import check_published
from train.check_published import search
from train.published import RANKER, RETRIEVAL

SHAPES = {
    "grouped": Shape(B=4, q_heads=4, kv_heads=2, hashes=(3, 2, 1)),
    "shared_keys": Shape(q_heads=3, kv_heads=1, emb=24, widening=2.5, multiplier=1.0, layers=1),
    "few_actions": Shape(actions=7, surf=3, hashes=(1, 1, 3), hist=12, cand=9, key_size=16),
    "tiny": Shape(B=1, hist=1, cand=1, layers=3, actions=25, corpus=8, widening=1),
}


@pytest.fixture(params=[RANKER, RETRIEVAL])
def arrays(request) -> dict[str, dict[str, np.ndarray]]:
    """Configurations with ragged padding and viewers who are unknown, by name."""
    return {
        name: case(shape, request.param, seed, invalid_users=name != "tiny")
        for seed, (name, shape) in enumerate(SHAPES.items())
    }


def run(monkeypatch, capsys, *files: Path) -> tuple[int, dict, str]:
    """Exit status of the command, the JSON it prints, and its complaint."""
    monkeypatch.setattr(sys, "argv", ["train.check_published", *map(str, files)])
    status = check_published.main()
    out, err = capsys.readouterr()
    return status, json.loads(out), err


def test_other_shapes_pass(arrays, tmp_path, monkeypatch, capsys):
    """Files of other widths, heads, hashes, actions and padding pass, all of their arrays."""
    file = write(tmp_path / "made_up.npz", SHAPES, arrays)

    status, result, _ = run(monkeypatch, capsys, file)

    assert status == 0, json.dumps(result, indent=2)
    assert result["files"][0]["configs"].keys() == SHAPES.keys()
    for name, compared in result["files"][0]["configs"].items():
        published = {key for key in arrays[name] if key.startswith("f32/")}
        ranking = {"ranked_indices" if key == "ranking" else key for key in compared["f32"]}
        assert published <= {f"f32/{key}" for key in ranking}
        assert compared["not_compared"] == []


def test_a_wrong_weight_fails(arrays, tmp_path, monkeypatch, capsys):
    """One weight changed by 1 % of itself in one configuration fails that one, with status 1."""
    key = max(
        (key for key in arrays["grouped"] if key.startswith("param/transformer")),
        key=lambda key: np.abs(arrays["grouped"][key]).max(),
    )
    weights = arrays["grouped"][key].reshape(-1)
    weights[np.abs(weights).argmax()] *= 1.01
    file = write(tmp_path / "wrong.npz", SHAPES, arrays)

    status, result, _ = run(monkeypatch, capsys, file)

    passed = {name: c["passed"] for name, c in result["files"][0]["configs"].items()}
    assert status == 1
    assert passed == {name: name != "grouped" for name in SHAPES}


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (RANKER, "ranked_indices"),
        (RANKER, "padding_mask"),
        (RANKER, "logits"),
        (RETRIEVAL, "top_k_indices"),
        (RETRIEVAL, "masked_top_k_indices"),
        (RETRIEVAL, "candidate_representation"),
    ],
)
def test_a_wrong_output_fails(kind, key, tmp_path, monkeypatch, capsys):
    """Indices in another order, or a number off by more than its gate, fail the file."""
    shape = SHAPES["few_actions"]
    arrays = case(shape, kind, 0)
    output = arrays[f"f32/{key}"]
    if output.dtype == np.float32:
        output[0, 0, 0] += 3e-4
    else:
        output[0] = np.roll(output[0], 1)
    file = write(tmp_path / "wrong.npz", {"one": shape}, {"one": arrays})

    assert run(monkeypatch, capsys, file)[0] == 1


@pytest.mark.parametrize("wrong", [np.nan, 0.02, 0.0])
def test_towers_in_bfloat16_have_a_gate(wrong, tmp_path, monkeypatch, capsys):
    """Vectors that are not finite, or off by more than bfloat16 rounds, fail; right ones pass."""
    shape = SHAPES["few_actions"]
    arrays = case(shape, RETRIEVAL, 0)
    for key in [key for key in arrays if key.startswith("f32/")]:
        arrays[key.replace("f32/", "bf16/")] = arrays[key].copy()
    arrays["bf16/user_representation"][0, 0] += wrong
    file = write(tmp_path / "file.npz", {"one": shape}, {"one": arrays})

    assert run(monkeypatch, capsys, file)[0] == (1 if wrong else 0)


def test_padding_is_not_compared(tmp_path, monkeypatch, capsys):
    """Whatever a file says of padding passes."""
    arrays = {"grouped": case(SHAPES["grouped"], RANKER, 0, invalid_users=True)}
    outputs = arrays["grouped"]
    padding = ~outputs["f32/padding_mask"]
    outputs["f32/layer_0/out"][padding] = np.nan
    outputs["f32/logits"][padding[:, -SHAPES["grouped"].cand :]] = 99
    file = write(tmp_path / "padded.npz", {"grouped": SHAPES["grouped"]}, arrays)

    status, result, _ = run(monkeypatch, capsys, file)

    assert status == 0, json.dumps(result, indent=2)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("tiny/batch/history_actions", "key tiny/batch/history_actions is missing"),
        ("few_actions/emb/user_embeddings", "key few_actions/emb/user_embeddings is missing"),
        ("tiny/param/transformer/decoder_layer_0/linear/w", "decoder_layer_0/linear/w: missing"),
        ("meta", "key 'meta' is missing"),
    ],
)
def test_another_layout_is_refused_by_key(arrays, gone, message, tmp_path, monkeypatch, capsys):
    """A file without a key ends with status 2 and names the key."""
    whole = np.load(write(tmp_path / "whole.npz", SHAPES, arrays))
    np.savez(tmp_path / "part.npz", **{key: whole[key] for key in whole.files if key != gone})

    status, result, err = run(monkeypatch, capsys, tmp_path / "part.npz")

    assert status == 2
    assert message in err
    assert not result["passed"]


def test_not_a_file_of_arrays_is_refused(tmp_path, monkeypatch, capsys):
    """A file that is no .npz, and one that is not there, end with status 2."""
    text = tmp_path / "text.npz"
    text.write_text("weights")

    for file in (text, tmp_path / "absent.npz"):
        status, _, err = run(monkeypatch, capsys, file)
        assert status == 2
        assert str(file) in err


def test_masks_and_widths_are_compared(tmp_path, monkeypatch, capsys):
    """A file's masks and widths count: one wrong entry fails the file."""
    shape = SHAPES["tiny"]
    whole = dict(
        np.load(write(tmp_path / "a.npz", {"tiny": shape}, {"tiny": case(shape, RANKER, 0)}))
    )
    whole["mask/4_1"] = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]])
    whole["ffn_size"] = np.array([[128, 2, 176], [1024, 2.5, 1712]])
    results = []
    for key, at in ((None, None), ("mask/4_1", (3, 2)), ("ffn_size", (0, 2))):
        changed = {name: value.copy() for name, value in whole.items()}
        if key:
            changed[key][at] += 1
        np.savez(tmp_path / "b.npz", **changed)
        results.append(run(monkeypatch, capsys, tmp_path / "b.npz")[0])

    assert results == [0, 1, 1]


def test_search_prefers_the_lower_row_among_equals():
    """Equal posts are found in their order, and masked ones only after all others."""
    corpus = np.tile(np.float32([[0.6, 0.8]]), (7, 1))
    corpus[3] = [0.8, 0.6]
    mask = np.array([True, False, True, True, True, False, True])

    found, _ = search(np.float32([[1, 0]]), corpus, 4)
    masked, scores = search(np.float32([[1, 0]]), corpus, 7, mask)

    assert found.tolist() == [[3, 0, 1, 2]]
    assert masked.tolist() == [[3, 0, 2, 4, 6, 1, 5]]
    assert (scores[0, -2:] == np.float32(-1e12)).all()
