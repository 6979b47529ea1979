"""New posts go in with their texts' vectors where the bundle's encoder can be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.data.encoder import EncoderSettings
from pipelines.data.reader import InputError
from serve.new_posts import NewPosts, NewPostsSettings
from tests.serve.new_posts.world import SIZE, Recorder, made_up, make_encoder, told


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
