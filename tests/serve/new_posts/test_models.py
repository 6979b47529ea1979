"""Models know posts published since the bundle was made as if it had contained them."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa

from pipelines.features import History
from serve.deployments import Ranker, Retriever
from serve.interference import InterferenceFields
from serve.models import Interfering, Ranking
from serve.new_posts import NewPosts, NewPostsSettings
from tests.serve.new_posts.world import (
    CREATED_MS,
    LATER,
    SIZE,
    made_up,
    make_encoder,
    searches,
    told,
)
from train.bundle import Bundle
from train.models.likeness import LikenessConfig, likeness
from train.models.tokens import tensors


def handed(bundle: Bundle, posts: pa.Table, **settings: object) -> tuple[Retriever, Ranker]:
    """Models of a bundle that were told of posts in small batches."""
    new = NewPosts(NewPostsSettings(batch_posts=7, max_age_s=1e9, **settings), make_encoder)
    retriever, ranker = Retriever(bundle), Ranker(bundle)
    for first in range(0, len(posts), 11):
        new.apply(told(posts.slice(first, 11)))
    new.use(bundle, retriever, ranker)
    assert new.problem is None
    new.close()
    return retriever, ranker


def test_a_new_post_is_as_one_of_the_bundle(both):
    """Found as near, compared as near, and ranked by the same features to the bit."""
    whole, early = both
    later = whole.posts.slice(len(whole.posts) - LATER)
    retriever, ranker = handed(early, later)
    for ours, theirs in zip(
        retriever.search(searches(whole, 2000)),
        Retriever(whole).search(searches(whole, 2000)),
        strict=True,
    ):
        assert len(ours.post_id) == len(whole.posts)
        order = np.argsort(ours.post_id), np.argsort(theirs.post_id)
        np.testing.assert_array_equal(ours.post_id[order[0]], theirs.post_id[order[1]])
        np.testing.assert_allclose(ours.value[order[0]], theirs.value[order[1]], atol=1e-5)
    post_id, author_id = (later[name].to_numpy() for name in ("post_id", "author_id"))
    rankings = [Ranking(s.history, post_id, author_id, 1, s.at_ms) for s in searches(whole, 1)]
    expected = Ranker(whole).inputs(rankings)
    assert expected["candidate_content"].any()
    for name, values in ranker.inputs(rankings).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_the_ranker_reads_the_scorers_field(both):
    """The served ranker's field at new posts is the feed scorer's by the same vectors of text."""
    whole, early = both
    later = whole.posts.slice(len(whole.posts) - LATER)
    _, ranker = handed(early, later)
    fields, config = InterferenceFields(whole), LikenessConfig(field=whole.interference.field)
    assert early.load_ranker().config.likeness is not None
    post_id, author_id = (later[name].to_numpy() for name in ("post_id", "author_id"))
    seen = 0
    for search in searches(whole, 1):
        history = search.history
        newest = slice(-ranker._spec.history_len, None)
        columns = {
            name: values[newest] for name, values in vars(history).items() if name != "user_id"
        }
        history = History(history.user_id, **columns)
        inputs = ranker.inputs([Ranking(history, post_id, author_id, 1, search.at_ms)])
        found = likeness(tensors(inputs), config)[0].numpy()
        wanted = fields.interference(Interfering(history, post_id, "content"))
        np.testing.assert_allclose(found[:, -3], wanted.total, atol=1e-5)
        seen += wanted.total.any()
    assert seen > 2


def test_requests_see_one_state(both):
    """Beside a thread that adds posts, every ranking reads the facts of one instant."""
    _, early = both
    ranker = Ranker(early)
    ids = np.arange(9001, 9101)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            ranker.add_posts(made_up(ids.tolist()), np.ones((100, SIZE), np.float32))
            ranker.remove_posts(ids)

    thread = threading.Thread(target=work)
    thread.start()
    ranking = Ranking(History.empty(1), ids, ids * 0 + 3, 1, CREATED_MS + 10**6)
    try:
        for _ in range(10):
            inputs = ranker.inputs([ranking])
            has_text = inputs["candidate_content"].any(axis=-1)
            assert has_text.all() or not has_text.any()
            ages = inputs["candidate_context"][..., 1]
            assert (ages == ages[0, 0]).all()
    finally:
        done.set()
        thread.join()


def test_topics_are_found_far_from_the_top(both):
    """A search with topics brings posts on them that the search without does not reach."""
    whole, early = both
    later = whole.posts.slice(len(whole.posts) - LATER)
    retriever, _ = handed(early, later)
    columns = (whole.posts[name].to_pylist() for name in ("post_id", "topic_ids"))
    topics = {post_id: set(mine or ()) for post_id, mine in zip(*columns, strict=True)}
    wanted = min(set().union(*topics.values()), key=lambda t: sum(t in s for s in topics.values()))
    on_topic = {post_id for post_id, mine in topics.items() if wanted in mine}
    assert len(on_topic) >= 5
    plain = retriever.search(searches(whole, 20))
    by_topic = retriever.search(searches(whole, 20, (wanted,)))
    for hits, found in zip(plain, by_topic, strict=True):
        assert set(found.post_id.tolist()) <= on_topic
        assert len(found.post_id) == min(20, len(on_topic))
        assert (np.diff(found.value) <= 0).all()
        assert len(on_topic & set(hits.post_id.tolist())) < len(found.post_id)
