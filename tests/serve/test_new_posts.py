"""Posts published since the bundle was made are known as if it had contained them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.data.encoder import EncoderSettings, identity
from pipelines.data.reader import InputError
from pipelines.facts import CONTENT, CONTENT_IDS
from pipelines.features import History
from pipelines.prepared import note
from pipelines.schema import DELETIONS, ENGAGEMENTS, POSTS
from serve.deployments import Ranker, Retriever, RetrieverSettings
from serve.live.messages import Happened
from serve.models import Comparison, Ranking, Search
from serve.new_posts import NewPosts, NewPostsSettings, caught_up
from serve.stores.profiles import ProfileStore
from tests.conftest import train_config, write_untrained
from train.bundle import Bundle, load, write

SIZE = 12  # of a text vector
LATER = 40  # newest posts, by id, that one bundle has and the other has not
CREATED_MS = 1_770_000_000_000


def told(posts: pa.Table | None = None, deleted: dict[int, int] | None = None) -> Happened:
    """Posts were published, others deleted at some time."""
    columns = {"post_id": list(deleted or {}), "deleted_at_ms": list((deleted or {}).values())}
    return Happened(
        posts=(posts or POSTS.arrow.empty_table()).select(POSTS.arrow.names).cast(POSTS.arrow),
        deletions=pa.table(columns, DELETIONS.arrow),
        engagements=ENGAGEMENTS.arrow.empty_table(),
    )


def made_up(ids: list[int], created_at_ms: int = CREATED_MS) -> pa.Table:
    """Posts of one author, each with a text."""
    rows = [
        {
            "post_id": one,
            "author_id": 3,
            "created_at_ms": created_at_ms + one,
            "text": f"post {one}",
        }
        for one in ids
    ]
    return pa.Table.from_pylist(rows, POSTS.arrow)


def text_of(post_id: int) -> np.ndarray:
    """The vector of a post's text, as float16 as an encoder gives it."""
    vector = np.random.default_rng(post_id).normal(size=SIZE)
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def make_encoder(_: EncoderSettings):
    """An encoder that reads texts like "post 7"."""
    return lambda texts: np.stack([text_of(int(text.split()[-1])) for text in texts])


@pytest.fixture(scope="module")
def both(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """A bundle by models that read text, and the same without its `LATER` newest posts."""
    folder = tmp_path_factory.mktemp("later")
    data = folder / "data"
    shutil.copytree(prepared, data)
    posts = pq.read_table(data / "posts.parquet").sort_by("post_id")
    texts = pa.array([f"post {one}" for one in posts["post_id"].to_pylist()])
    posts = posts.set_column(posts.schema.get_field_index("text"), "text", texts)
    pq.write_table(posts, data / "posts.parquet")
    ids = posts["post_id"].to_numpy()
    np.save(data / CONTENT_IDS, ids)
    np.save(data / CONTENT, np.stack([text_of(one) for one in ids.tolist()]))
    (folder / "encoder").mkdir()
    (folder / "encoder" / "weights").write_text("7")
    encoder = EncoderSettings(name=str(folder / "encoder"))
    said = {"encoder": encoder.model_dump(mode="json"), "identity": identity(encoder)}
    note(data, "content", said)
    runs = []
    for kind in ("retrieval", "ranker"):
        config = train_config(kind, data, folder)
        model = config.learning.model
        spec = model.features.model_copy(update={"content_size": SIZE})
        update: dict[str, object] = {"features": spec}
        if kind == "retrieval":
            update["post_context"] = True
        learning = config.learning.model_copy(update={"model": model.model_copy(update=update)})
        runs.append(write_untrained(config.model_copy(update={"learning": learning}), data))
    write(*runs, data, folder / "whole")
    known = pq.read_table(folder / "whole" / "tables" / "posts.parquet").sort_by("post_id")
    shutil.copytree(folder / "whole", folder / "early")
    pq.write_table(
        known.slice(0, len(known) - LATER), folder / "early" / "tables" / "posts.parquet"
    )
    whole = load(folder / "whole")
    index = whole.load_index()
    type(index).build(index.post_id[:-LATER], index.stored()[:-LATER].copy()).save(
        folder / "early" / "index"
    )
    assert (index.post_id == np.sort(index.post_id)).all()
    return whole, load(folder / "early")


def searches(bundle: Bundle, num: int, topic_ids: tuple[int, ...] = ()) -> list[Search]:
    """What some viewers would ask for now."""
    profiles = ProfileStore(bundle.profiles)
    known = [h for user_id in range(1, 40) if (h := profiles.history(user_id))]
    return [Search(history, num, bundle.as_of_ms + 60_000, topic_ids) for history in known[:12]]


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


class Recorder:
    """A model that only remembers what it was told; it fails while `broken`."""

    def __init__(self) -> None:
        self.posts: list[int] = []
        self.removed: list[int] = []
        self.content: list[np.ndarray | None] = []
        self.broken = False

    def add_posts(self, posts: pa.Table, content: np.ndarray | None) -> None:
        if self.broken:
            raise ConnectionError("the index is down")
        self.posts += posts["post_id"].to_pylist()
        self.content.append(content)

    def remove_posts(self, post_id: np.ndarray) -> None:
        if self.broken:
            raise ConnectionError("the index is down")
        self.removed += post_id.tolist()
        self.posts = [one for one in self.posts if one not in set(post_id.tolist())]


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


def test_texts_are_not_read_by_another_encoder(both, tmp_path):
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


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HAPPENINGS, st.integers(1, 4), st.lists(st.integers(0, 11), max_size=3))
def test_any_story_ends_the_same(both, happenings, size, again):
    """In batches of any size, with parts told again, the same posts are known at the end."""
    _, early = both
    alive: dict[int, int] = {}
    deleted: dict[int, int] = {}
    for is_post, post_id, at in happenings:
        if is_post and post_id not in alive and at > deleted.get(post_id, -1):
            alive[post_id] = at
            deleted.pop(post_id, None)
        elif not is_post:
            deleted[post_id] = max(at, deleted.get(post_id, 0))
            alive.pop(post_id, None)
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


def test_a_retriever_takes_settings(bundle):
    """Few viewers are remembered where the settings say so."""
    retriever = Retriever(bundle, RetrieverSettings(cached_viewers=2))
    asked = searches(bundle, 3)
    retriever.search(asked)
    retriever.search(asked[-2:])
    retriever.search(asked[:1])
    assert (retriever.viewers.hits, retriever.viewers.misses) == (2, len(asked) + 1)
