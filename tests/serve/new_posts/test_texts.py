"""New posts go in with their texts' vectors where the bundle's encoder can be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.data.encoder import EncoderSettings
from pipelines.data.reader import InputError
from serve.new_posts import NewPosts, NewPostsSettings
from serve.new_texts import NewTexts
from tests.serve.new_posts.world import (
    SIZE,
    Recorder,
    made_up,
    make_encoder,
    text_of,
    told,
)


def test_without_its_encoder_posts_go_in_without_text(both):
    """A missing encoder, or one of another width, is said, and posts go in all the same."""
    _, early = both

    def missing(_: EncoderSettings):
        raise InputError("encoder.name: x is not installed")

    def wide(_: EncoderSettings):
        return lambda texts: np.ones((len(texts), SIZE + 1), np.float16)

    for make, said in ((missing, "x is not installed"), (wide, "gives 13 numbers")):
        new, model = NewPosts(NewPostsSettings(), make), Recorder()
        new.use(early, model)
        new.apply(told(made_up([9001])))
        assert new.settle(30)
        assert said in new.problem
        assert model.posts == [9001]
        assert not model.content[0].any()
        new.close()


def test_texts_are_not_read_by_another_encoder(both):
    """Where the encoder is no more what the bundle's vectors were made by, texts are left out."""
    _, early = both
    weights = Path(early.card["content"]["encoder"]["name"]) / "weights"
    weights.write_text("8")
    try:
        new, model = NewPosts(NewPostsSettings(), make_encoder), Recorder()
        new.apply(told(made_up([9001])))
        new.use(early, model)
        assert "another than the bundle's" in new.problem
        assert not model.content[0].any()
        new.close()
    finally:
        weights.write_text("7")


def test_a_vector_is_that_of_the_text(both):
    """What a post said before is not taken for what it says now; the same text is read once."""
    _, early = both
    read: list[str] = []

    def make(settings: EncoderSettings):
        encode = make_encoder(settings)
        return lambda texts: (read.extend(texts), encode(texts))[1]

    texts, posts = NewTexts(make), made_up([9001])
    texts.use(early)
    column = posts.schema.get_field_index("text")
    for words, vector in (("post 9001", 9001), ("post 5", 5), ("post 5", 5)):
        found = texts.vectors(posts.set_column(column, "text", pa.array([words])))
        np.testing.assert_array_equal(found[0], text_of(vector).astype(np.float32))
    assert not texts.vectors(posts.set_column(column, "text", pa.array([""]))).any()
    assert read == ["post 9001", "post 5"]
