"""Models are handed what the journal tells of posts, once and to the end, whatever fails."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.deployments import Ranker, Retriever
from serve.live.snapshots import Snapshots, SnapshotSettings
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings
from serve.live.state import LiveState
from serve.models import Comparison
from serve.new_posts import NewPosts, NewPostsSettings, caught_up
from serve.stores.recent import RecentPosts
from tests.serve.new_posts.world import (
    CREATED_MS,
    LATER,
    SIZE,
    Recorder,
    made_up,
    make_encoder,
    searches,
    text_of,
    told,
)


def test_a_new_post_is_found_within_a_batch_and_a_deleted_one_is_not(both):
    """The thread hands on what the journal tells; what comes again changes nothing."""
    _, early = both
    new = NewPosts(NewPostsSettings(), make_encoder)
    retriever = Retriever(early)
    new.use(early, retriever)
    (search, *_) = searches(early, 5000)
    before = len(retriever.search([search])[0].post_id)
    asked = [Comparison(search.history, one, search.at_ms) for one in (9001, 9002, 1)]
    for _ in range(2):
        new.apply(told(made_up([9001, 9002])))
        assert new.settle(30)
        assert len(retriever.search([search])[0].post_id) == before + 2
        assert None not in retriever.similarity(asked)
    for _ in range(2):
        new.apply(told(deleted={9002: CREATED_MS + 10_000, 1: CREATED_MS}))
        new.apply(told(made_up([9002])))  # as it was told before: it does not come back
        assert new.settle(30)
        assert [s is None for s in retriever.similarity(asked)] == [False, True, True]
        assert not np.isin([9002, 1], retriever.search([search])[0].post_id).any()
    new.apply(told(made_up([9002], CREATED_MS + 20_000)))  # published anew
    assert new.settle(30)
    assert [s is None for s in retriever.similarity(asked)] == [False, False, True]
    assert new.problem is None
    assert new.num_waiting == 0
    new.close()


def test_another_bundle_gets_the_new_posts_too(both):
    """Those that it has not, placed by its own towers; posts deleted before are taken out."""
    whole, early = both
    later = whole.posts.slice(len(whole.posts) - LATER)
    new = NewPosts(NewPostsSettings(max_age_s=1e9), make_encoder)
    new.use(early, Retriever(early))
    new.apply(told(later))
    new.apply(told(made_up([9001]), deleted={2: CREATED_MS}))
    assert new.settle(30)
    given = Recorder()
    retriever = Retriever(whole)
    new.use(whole, retriever, given)
    (search, *_) = searches(whole, 5000)
    found = retriever.search([search])[0].post_id
    assert len(found) == len(whole.posts)  # one more, one less
    assert (9001 in found, 2 in found) == (True, False)
    assert given.posts == [9001]
    new.close()


def test_what_cannot_be_handed_on_waits(both):
    """A model that fails gets the same posts later; until then the problem says so."""
    _, early = both
    new, model = NewPosts(NewPostsSettings(retry_after_s=0.01), make_encoder), Recorder()
    new.use(early, model)
    model.broken = True
    new.apply(told(made_up([9001]), deleted={5: CREATED_MS}))
    assert not new.settle(0.2)
    assert new.problem == "new posts wait: the index is down"
    assert new.num_waiting == 2
    model.broken = False
    assert new.settle(30)
    assert (model.posts, model.removed) == ([9001], [5])
    new.close()
    assert new.problem is None


def test_a_bundle_that_fails_changes_nothing(both):
    """Where a new bundle's models cannot take the posts, those before go on getting them."""
    whole, early = both
    new, model, broken = NewPosts(NewPostsSettings(), make_encoder), Recorder(), Recorder()
    new.use(early, model)
    broken.broken = True
    new.apply(told(made_up([9001])))
    with pytest.raises(ConnectionError):
        new.use(whole, broken)
    new.apply(told(made_up([9002])))
    assert new.settle(30)
    assert model.posts == [9001, 9002]
    new.close()


def test_old_posts_are_let_go(both):
    """Beyond the bounds of number and age the oldest leave the models; the bundle's stay."""
    _, early = both
    new, model = NewPosts(NewPostsSettings(max_posts=10, max_age_s=3600), make_encoder), Recorder()
    new.use(early, model)
    new.apply(told(made_up(list(range(9001, 9021)))))
    assert new.settle(30)
    assert model.posts == list(range(9011, 9021))
    new.apply(told(made_up([9030], CREATED_MS + 7_200_000)))
    assert new.settle(30)
    assert model.posts == [9030]
    new.close()


HAPPENINGS = st.lists(
    st.tuples(st.booleans(), st.integers(9001, 9006), st.integers(0, 9)), max_size=12
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HAPPENINGS, st.integers(1, 4), st.lists(st.integers(0, 11), max_size=3))
def test_any_story_ends_the_same(both, happenings, size, again):
    """In batches of any size, with parts told again, the same posts are known at the end."""
    _, early = both
    alive: dict[int, int] = {}
    deleted: dict[int, int] = {}
    for is_post, post_id, at in happenings:
        if is_post and post_id not in alive and at > deleted.get(post_id, -1):
            alive[post_id] = at
        elif not is_post and at > deleted.get(post_id, -1):
            deleted[post_id] = max(at, alive.pop(post_id, 0))
    new, model = NewPosts(NewPostsSettings(), make_encoder), Recorder()
    for number, (is_post, post_id, at) in enumerate(happenings):
        one = made_up([post_id], at - post_id) if is_post else None
        happened = told(one, None if is_post else {post_id: at})
        for _ in range(1 + (number in again)):
            new.apply(happened)
        if number % size == 0:
            new.use(early, model)
    new.use(early, last := Recorder())
    assert new.settle(30)
    assert sorted(set(last.posts)) == sorted(alive)
    new.close()


def test_what_is_published_anew_has_its_new_words(both):
    """Text, vector and time are the new version's, even if it was deleted a moment before."""
    _, early = both
    new = NewPosts(NewPostsSettings(retry_after_s=0.01), make_encoder)
    ranker, out = Ranker(early), Recorder()
    new.use(early, ranker, out)
    new.apply(told(made_up([9001])))
    assert new.settle(30)
    for number, words in ((1, "post 5"), (2, "")):
        out.broken = True  # so that all of it waits for the models
        at_ms = CREATED_MS + 9001 + 1_000 * number
        new.apply(told(deleted={9001: at_ms}))
        again = made_up([9001], at_ms - 9_000)
        text = again.schema.get_field_index("text")
        new.apply(told(again.set_column(text, "text", pa.array([words]))))
        assert new.num_waiting == 2
        out.broken = False
        assert new.settle(30)
        content, created_ms = ranker._facts.of_posts(np.array([9001]), "content", "created_at_ms")
        assert created_ms.tolist() == [at_ms + 1]
        expected = text_of(5).astype(np.float32) if words else np.zeros(SIZE, np.float32)
        np.testing.assert_array_equal(content[0], expected)
    new.close()


def test_a_replica_begins_with_what_the_feeds_snapshot_knows(both, tmp_path):
    """Posts and deletions that the journal let go of are handed to models, as the feed has them."""
    _, early = both
    live = LiveState(RecentPosts(), lambda: early.as_of_ms)
    live.adopt(live.over(early.posts, early.as_of_ms), early.as_of_ms)
    gone, back = early.posts["post_id"].to_pylist()[:2]
    at_ms = CREATED_MS + 10**6
    live.apply(told(made_up([9001, 9002]), {gone: at_ms, back: at_ms, 9002: at_ms}))
    live.apply(told(made_up([back, 9002], at_ms)))
    place = SnapshotSettings(directory=str(tmp_path / "snapshots"))
    journal = SqliteJournal(SqliteSettings(path=str(tmp_path / "journal.db")))
    writer = Snapshots(place, live.freeze, journal)
    writer.checkpoint({journal.identity(): 0}, {})
    writer.close()
    new, model = NewPosts(NewPostsSettings(), make_encoder), Recorder()
    start = new.begin(place, journal)
    assert start.after == {journal.identity(): 0}
    new.use(early, model)
    assert sorted(model.posts) == [9001, 9002]
    assert {gone, back} <= set(model.removed)  # the bundle has only what was deleted of these
    new.close()
    journal.close()


def test_what_waits_is_bounded(both):
    """While models can be told of nothing, what is kept no longer waits no longer, either."""
    _, early = both
    new, model = NewPosts(NewPostsSettings(max_posts=10), make_encoder), Recorder()
    new.use(early, model)
    model.broken = True
    for one in range(9001, 9101):
        new.apply(told(made_up([one])))
    assert len(new._changes._posts) <= 11
    model.broken = False
    assert new.settle(30)
    assert model.posts == list(range(9091, 9101))
    new.close()


class Reading:
    """What reads the journal, up to its end at the third look."""

    looks = 0

    @property
    def caught_up(self) -> bool:
        self.looks += 1
        return self.looks > 2


def test_a_replica_waits_until_models_know_what_was_told_before(both):
    """As long as it takes to read and to hand on, and no longer than it was told to."""
    _, early = both
    model, new = Recorder(), NewPosts(NewPostsSettings(), make_encoder)
    new.use(early, model)
    new.apply(told(made_up([9001])))
    assert not caught_up(Reading(), new, 0.0)
    assert caught_up(Reading(), new, 30.0)
    assert model.posts == [9001]
    new.close()
