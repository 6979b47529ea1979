"""Semantic ids keep what posts are like, and say truly how much of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.facts import CODES, CONTENT, CONTENT_IDS, Facts
from pipelines.features import FeatureSpec, example_inputs
from train import semantic_ids as module
from train.baselines import LIKES
from train.models.ranker import Ranker, RankerConfig
from train.models.tokens import tensors
from train.rows import Past, read_examples
from train.semantic_ids import (
    CODEBOOK,
    SemanticIds,
    behaviour_vectors,
    decode,
    encode,
    fit_codebook,
    main,
    make,
    measure,
)

SMALL = SemanticIds(num_levels=3, num_codes=8)


@pytest.fixture(scope="module")
def vectors():
    """Unit vectors in no order at all."""
    drawn = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def data(prepared, tmp_path):
    """Prepared data that may be written to, with vectors for every other post."""
    folder = shutil.copytree(prepared, tmp_path / "data")
    ids = np.sort(Facts.load(folder).post_id)[::2]
    drawn = np.random.default_rng(1).normal(size=(len(ids), 16))
    np.save(folder / CONTENT_IDS, ids)
    np.save(folder / CONTENT, drawn.astype(np.float16))
    return folder


def test_each_level_comes_nearer(vectors):
    """The error falls and the cosine rises with every level; more codes err less."""
    codebook = fit_codebook(vectors, SMALL)
    levels = list(measure(vectors, encode(vectors, codebook), codebook)["levels"].values())
    errors = [level["relative_mse"] for level in levels]
    assert 1 > errors[0] > errors[1] > errors[2] > 0
    assert levels[0]["cosine"] < levels[1]["cosine"] < levels[2]["cosine"] < 1
    finer = fit_codebook(vectors, SMALL.model_copy(update={"num_codes": 32}))
    last = measure(vectors, encode(vectors, finer), finer)["levels"]["3"]
    assert last["relative_mse"] < errors[2]


def test_codes_decode_to_the_reported_error(vectors):
    """What the report says is the error of what the codes alone give back."""
    codebook = fit_codebook(vectors, SMALL)
    codes = encode(vectors, codebook)
    assert codes.min() >= 1
    assert codes.max() <= 8
    given = sum(codebook[level][codes[:, level] - 1] for level in range(3))
    np.testing.assert_allclose(decode(codes, codebook), given, atol=1e-6)
    error = ((vectors - given) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum()
    reported = measure(vectors, codes, codebook)["levels"]["3"]["relative_mse"]
    assert reported == pytest.approx(error, rel=1e-5)


def test_the_nearest_centre_is_taken(vectors):
    """No other first code would be nearer."""
    codebook = fit_codebook(vectors, SMALL)
    distance = ((vectors[:, None] - codebook[0]) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(encode(vectors, codebook)[:, 0] - 1, distance.argmin(axis=1))


def test_planted_clusters_are_found():
    """Posts of one tight cluster share their first code, and no others have it."""
    rng = np.random.default_rng(0)
    cluster = np.arange(160) % 8
    centres = np.eye(8, 12) * 3
    planted = (centres[cluster] + 0.05 * rng.normal(size=(160, 12))).astype(np.float32)
    codes = encode(planted, fit_codebook(planted, SMALL))
    assert len(set(zip(cluster.tolist(), codes[:, 0].tolist(), strict=True))) == 8
    assert len(np.unique(codes[:, 0])) == 8


def test_one_seed_one_codebook(vectors):
    """The same seed gives the same centres, another seed others."""
    again = fit_codebook(vectors, SMALL)
    np.testing.assert_array_equal(fit_codebook(vectors, SMALL), again)
    other = fit_codebook(vectors, SMALL.model_copy(update={"seed": 7}))
    assert not np.array_equal(other, again)


def test_dead_codes_and_collisions_by_hand():
    """A code nobody has is dead; posts that share all codes collide."""
    codebook = np.array([[[0.0], [4.0], [9.0]], [[-1.0], [1.0], [8.0]]], np.float32)
    vectors = np.array([[-1.0], [-1.0], [1.0], [5.0]], np.float32)
    codes = encode(vectors, codebook)
    assert codes.tolist() == [[1, 1], [1, 1], [1, 2], [2, 2]]
    found = measure(vectors, codes, codebook)
    assert [found["levels"][level]["dead_codes"] for level in "12"] == [1, 1]
    assert [found["levels"][level]["num_ids"] for level in "12"] == [2, 3]
    assert found["levels"]["2"]["entropy_bits"] == 1.0
    assert found["levels"]["2"]["perplexity"] == 2.0
    assert found["ids"] == {
        "num_posts": 4,
        "num_distinct": 3,
        "collisions": 2,
        "most_posts_of_one": 2,
    }


def test_fewer_posts_than_codes(vectors):
    """A handful of posts get codes of their own, without an error left."""
    few = vectors[:5]
    codebook = fit_codebook(few, SMALL)
    codes = encode(few, codebook)
    np.testing.assert_allclose(decode(codes, codebook), few, atol=1e-6)
    assert len(np.unique(codes, axis=0)) == 5


def test_codes_reach_the_model(data):
    """What is written is what facts say of a post, 0 without a vector, and the ranker reads it."""
    made = make(data, SMALL)
    facts = Facts.load(data)
    ids, vectors = np.load(data / CONTENT_IDS), np.load(data / CONTENT).astype(np.float32)
    expected = encode(vectors, np.load(data / CODEBOOK))
    np.testing.assert_array_equal(facts.codes[facts.post_row(ids)], expected)
    others = np.setdiff1d(facts.post_id, ids)
    assert not facts.codes[facts.post_row(others)].any()
    assert made["posts"]["posts_with_codes"] == len(ids)
    assert json.loads((data / "manifest.json").read_text())["codes"]["num_levels"] == 3

    spec = FeatureSpec(history_len=4, num_code_levels=3)
    torch.manual_seed(0)
    ranker = Ranker(RankerConfig(emb_size=16, features=spec)).eval()
    rows: pa.Table = read_examples(data, "test").slice(0, 4)
    inputs = tensors(example_inputs(rows, spec, facts))
    assert inputs["candidate_codes"].shape[-1] == inputs["history_codes"].shape[-1] == 3
    with torch.inference_mode():
        told = ranker.predict(inputs)
        untold = ranker.predict(inputs | {"candidate_codes": inputs["candidate_codes"] * 0})
    assert not torch.equal(told, untold)
    with pytest.raises(ValueError, match=r"features\.num_code_levels: 2, but .* of 3 numbers"):
        facts.check_content(0, 2, data)


def test_behaviour_puts_posts_of_one_crowd_together(prepared, monkeypatch):
    """Posts that the same viewers like in the training split are nearer than those of others."""
    rng = np.random.default_rng(0)
    crowd = np.repeat(np.arange(60) % 2, 8)
    past = Past(
        user_id=np.repeat(np.arange(60), 8),
        post_id=1 + crowd + 2 * rng.integers(0, 15, len(crowd)),
        at_ms=np.arange(len(crowd)),
        did=np.full(len(crowd), LIKES),
    )
    asked = []
    monkeypatch.setattr(module, "read_examples", lambda data, *splits: asked.extend(splits))
    monkeypatch.setattr(module.Past, "of", lambda examples: past)
    ids, vectors = behaviour_vectors(prepared, SemanticIds(source="behaviour", num_factors=4))
    assert asked == ["train"]
    near = vectors @ vectors.T
    same = ids[:, None] % 2 == ids % 2
    assert near[same].mean() > near[~same].mean() + 0.5


def test_behaviour_needs_no_text(prepared, tmp_path):
    """Without texts, those liked in training have codes, also when texts are encoded later."""
    data = shutil.copytree(prepared, tmp_path / "data")
    config = SMALL.model_copy(update={"source": "behaviour", "num_factors": 8})
    made = make(data, config)
    facts = Facts.load(data)
    coded = (facts.codes > 0).all(axis=1).sum()
    assert coded == made["posts"]["posts_with_codes"] > 100
    first = np.load(data / CODES)
    make(data, config)
    np.testing.assert_array_equal(np.load(data / CODES), first)
    np.save(data / CONTENT_IDS, facts.post_id[::3])
    np.save(data / CONTENT, np.ones((len(facts.post_id[::3]), 4), np.float16))
    np.testing.assert_array_equal(Facts.load(data).codes, facts.codes)


def test_what_is_missing_is_said(prepared, capsys, monkeypatch):
    """Without vectors of text the command names the file and the way out, and leaves with 2."""
    monkeypatch.setattr("sys.argv", ["semantic_ids", str(prepared), "num_levels=2"])
    assert main() == 2
    assert "or take source=behaviour" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["semantic_ids", str(prepared), "num_codes=257"])
    assert main() == 2
    assert "num_codes" in capsys.readouterr().err


def test_the_command_writes_a_report(data, tmp_path, monkeypatch):
    """The numbers and their page are where all reports are."""
    monkeypatch.setattr("train.semantic_ids.REPORTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["semantic_ids", str(data), "num_levels=2", "num_codes=4"])
    assert main() == 0
    record = json.loads((tmp_path / "semantic_ids.json").read_text())
    assert set(record["levels"]) == {"1", "2"}
    assert record["settings"]["num_codes"] == 4
    assert "relative mse" in (tmp_path / "semantic_ids.md").read_text()
