"""Posts told since the bundle was made are in one shard, and found as in one index."""

from __future__ import annotations

import numpy as np
import pytest

from serve.deployments import Retriever
from serve.index_shard import IndexShard
from serve.models import Comparison
from serve.new_posts import NewPosts, NewPostsSettings
from serve.stores.vectors.sharded import Stored
from tests.serve.new_posts.world import LATER, make_encoder, searches, told
from train.bundle.part import Part

NUM = 3


def test_new_posts_are_found_once_by_their_shard(over, both):
    """Told to all, a new post is in one shard; searches are those of one index, removals too."""
    whole, early = both
    later = whole.posts.slice(len(whole.posts) - LATER)
    bundles = [early.of_part(Part(number, NUM)) for number in range(NUM)]
    one, shards = Retriever(early), [IndexShard(part) for part in bundles]
    many = Retriever(early, None, over({str(n): shard.answer for n, shard in enumerate(shards)}))
    parts = [(early, one), (early, many), *zip(bundles, shards, strict=True)]
    gone = whole.posts["post_id"].to_numpy()[[3, 4, 5, -1, -2]]
    for bundle, model in parts:
        new = NewPosts(NewPostsSettings(batch_posts=7, max_age_s=1e9), make_encoder)
        new.apply(told(later))
        new.use(bundle, model)
        new.apply(told(deleted=dict.fromkeys(gone.tolist(), 2 * whole.as_of_ms)))
        assert new.settle(60)
        assert new.problem is None
        new.close()
    sizes = [shard.answer(Stored(shard.version, "posts", gone)).num_posts for shard in shards]
    assert sum(sizes) == len(whole.posts) - len(gone)
    assert min(sizes) > 0.7 * max(sizes)
    for topic_ids in ((), (2,)):
        for num in (10, 2000):
            asked = searches(whole, num, topic_ids)
            for ours, theirs in zip(many.search(asked), one.search(asked), strict=True):
                order = np.argsort(ours.post_id), np.argsort(theirs.post_id)
                np.testing.assert_allclose(ours.value[order[0]], theirs.value[order[1]], atol=1e-5)
                np.testing.assert_array_equal(ours.post_id[order[0]], theirs.post_id[order[1]])
                assert not np.isin(ours.post_id, gone).any()
    posts = later["post_id"].to_pylist()
    compared = [Comparison(s.history, posts[0], s.at_ms) for s in searches(whole, 1)]
    assert many.similarity(compared) == pytest.approx(one.similarity(compared), abs=1e-5)
