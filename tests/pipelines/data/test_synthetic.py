"""What the made-up world promises to those who test on it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from configs import ConfigError, check
from pipelines.data.synthetic import SyntheticConfig, World, main
from pipelines.schema import ACTION_NAMES, TABLES

DISCRETE = [name for name in ACTION_NAMES if name != "dwell_time"]


@pytest.fixture(scope="module")
def world() -> World:
    """A world large enough for its rates to show."""
    return World.make(SyntheticConfig(num_events=40_000, num_users=1_000, num_posts=4_000))


def column(world: World, name: str) -> np.ndarray:
    """One column of the log."""
    return world.events[name].to_numpy()


def post_rows(world: World) -> np.ndarray:
    """Row in the posts table of each event."""
    return column(world, "post_id") - 1


def area_under_curve(label: np.ndarray, score: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order, on a thousand of each."""
    good, bad = score[label][:1000], score[~label][:1000]
    return float(np.mean((good[:, None] > bad) + 0.5 * (good[:, None] == bad)))


def test_same_seed_same_bytes(tmp_path):
    """The same settings give the same files, byte for byte; another seed gives others."""
    config = SyntheticConfig(num_events=500, num_users=50, num_authors=20, num_posts=300)
    World.make(config).write(tmp_path / "a")
    World.make(config).write(tmp_path / "b")
    World.make(config.model_copy(update={"seed": 1})).write(tmp_path / "c")
    for table in ("events", "posts", "users", "follows"):
        a, b, c = ((tmp_path / w / table / "part-00000.parquet").read_bytes() for w in "abc")
        assert a == b
        assert a != c


def test_a_longer_log_has_the_same_accounts_and_posts():
    """Asking for more events changes the log only."""
    small = SyntheticConfig(num_events=500, num_users=200, num_posts=500)
    short, long = World.make(small), World.make(small.model_copy(update={"num_events": 1_000}))
    assert short.posts.equals(long.posts)
    assert short.users.equals(long.users)
    assert short.follows.equals(long.follows)
    assert (short.events.num_rows, long.events.num_rows) == (500, 1_000)


@pytest.mark.parametrize("table", ["events", "posts", "users", "follows"])
def test_tables_follow_the_contract(world, table):
    """Each table has the contract's columns, types and null rule, and a key without repeats."""
    schema, rows = TABLES[table], getattr(world, table)
    assert rows.schema.equals(schema.arrow)
    for name in schema.required:
        assert rows[name].null_count == 0
    assert rows.select(schema.key).group_by(schema.key).aggregate([]).num_rows == rows.num_rows
    for name, other in schema.refs:
        target = TABLES[other]
        assert pc.all(pc.is_in(rows[name], getattr(world, other)[target.key[0]])).as_py()
    for name in rows.column_names:
        if name.endswith("_id") and pa.types.is_integer(rows[name].type):
            assert pc.min(rows[name]).as_py() >= 1


def test_written_tables_read_back(tmp_path):
    """The command writes one Parquet folder per table, with the settings given."""
    main([str(tmp_path), "num_events=300", "num_users=60", "num_authors=20"])
    assert pq.read_table(tmp_path / "events").num_rows == 300
    assert pq.read_table(tmp_path / "users").num_rows == 60


def test_every_action_occurs(world):
    """Each discrete action is done sometimes and never by everyone."""
    for name in DISCRETE:
        rate = pc.mean(world.events[name]).as_py()
        assert 0.001 < rate < 0.5, name


def test_nothing_is_shown_before_it_exists(world):
    """A post is older than each of its showings, and the log is in order of time."""
    created = world.posts["created_at_ms"].to_numpy()
    assert np.all(column(world, "shown_at_ms") > created[post_rows(world)])
    assert np.all(np.diff(column(world, "shown_at_ms")) >= 0)


@pytest.mark.parametrize("kind", ["reply_to_post_id", "repost_of_post_id", "quote_of_post_id"])
def test_answers_are_younger_than_what_they_answer(world, kind):
    """Replies, reposts and quotes exist, come after their parent and share its topics."""
    posts = world.posts.filter(pc.is_valid(world.posts[kind]))
    parents = world.posts.take(pc.subtract(posts[kind], 1))
    assert posts.num_rows > 50
    assert pc.all(pc.greater(posts["created_at_ms"], parents["created_at_ms"])).as_py()
    assert posts["topic_ids"].equals(parents["topic_ids"])
    assert parents["repost_of_post_id"].null_count == parents.num_rows


def test_topics_have_two_levels(world):
    """Each post has one coarse topic and one fine topic, and a fine topic has one parent."""
    coarse, fine = np.array(world.posts["topic_ids"].to_pylist()).T
    config = world.config
    assert set(coarse) == set(range(1, config.num_coarse + 1))
    assert set(fine) == set(
        range(config.num_coarse + 1, config.num_coarse * (config.num_fine + 1) + 1)
    )
    assert len(set(zip(coarse, fine, strict=True))) == len(set(fine))


def test_feed_shows_no_post_twice_and_no_own_post(world):
    """A viewer meets a post at most once and never their own."""
    pairs = world.events.group_by(["user_id", "post_id"]).aggregate([])
    assert pairs.num_rows == world.events.num_rows
    authors = world.posts["author_id"].to_numpy()[post_rows(world)]
    assert not np.any(authors == column(world, "user_id"))


def test_pages_are_filled_from_the_top(world):
    """Within a request places are 0, 1, 2 ... and later places are shown later."""
    page = world.events.group_by("request_id", use_threads=False).aggregate(
        [("position", "list"), ("user_id", "count_distinct")]
    )
    assert pc.max(page["user_id_count_distinct"]).as_py() == 1
    assert all(places == list(range(len(places))) for places in page["position_list"].to_pylist())


def test_lower_places_are_looked_at_less(world):
    """Clicks and favourites fall with the place on the page."""
    position = column(world, "position")
    for name in ("click", "favorite"):
        did = column(world, name)
        assert did[position <= 1].mean() > 1.3 * did[position >= 7].mean()


def test_oracle_tells_who_does_what(world):
    """The truth orders the rows of the log well, above all where tastes decide."""
    truth = world.oracle(column(world, "user_id"), column(world, "post_id"))
    for index, name in enumerate(ACTION_NAMES):
        if name != "dwell_time":
            assert area_under_curve(column(world, name), truth[:, index]) > 0.65, name
    favorite = ACTION_NAMES.index("favorite")
    assert area_under_curve(column(world, "favorite"), truth[:, favorite]) > 0.75


def test_oracle_is_calibrated_at_the_top(world):
    """At the first place, where everyone looks, rates and mean dwell equal the truth's."""
    top = column(world, "position") == 0
    truth = world.oracle(column(world, "user_id")[top], column(world, "post_id")[top])
    for index, name in enumerate(ACTION_NAMES):
        seen = column(world, "dwell_s" if name == "dwell_time" else name)[top]
        error = abs(seen.mean() - truth[:, index].mean())
        assert error < 4 * max(seen.std(), 0.01) / np.sqrt(len(seen)) + 1e-9, name


def test_viewers_favour_their_topics(world):
    """Posts on a liked topic are favourited more than others, and shown more than chance."""
    match = world.truth.match(column(world, "user_id") - 1, post_rows(world))
    did = column(world, "favorite")
    assert did[match > 0].mean() > 2 * did[match < 0].mean()
    anyone = np.random.default_rng(0).permutation(column(world, "user_id"))
    assert match.mean() > world.truth.match(anyone - 1, post_rows(world)).mean() + 0.2


@pytest.mark.parametrize("name", ["not_interested", "block_author", "mute_author", "report"])
def test_negative_actions_come_of_bad_and_unfitting_posts(world, name):
    """Viewers complain more about unfitting, low-quality and spam posts."""
    did, post = column(world, name), post_rows(world)
    match = world.truth.match(column(world, "user_id") - 1, post)
    quality, spam = world.truth.quality[post], world.truth.spam[post]
    assert did[match < 0].mean() > 1.5 * did[match > 0].mean()
    assert did[quality < 0.4].mean() > 1.5 * did[quality > 0.6].mean()
    assert did[spam].mean() > 3 * did[~spam].mean()


def test_like_follows_like(world):
    """Viewers follow authors of their topics more than chance would have it."""
    truth, pairs = world.truth, world.follows
    home = np.array(
        [
            np.bincount(truth.topic[truth.author == a], minlength=1).argmax()
            if np.any(truth.author == a)
            else 0
            for a in range(world.config.num_authors)
        ]
    )
    follower, followee = (pairs[c].to_numpy() - 1 for c in ("follower_id", "followee_id"))
    shuffled = np.random.default_rng(0).permutation(follower)
    assert (
        truth.taste[follower, home[followee]].mean()
        > 2 * truth.taste[shuffled, home[followee]].mean()
    )


def test_a_world_too_small_for_its_log_is_refused():
    """More showings than unseen posts is an error that names the setting to raise."""
    with pytest.raises(ValueError, match="raise num_posts"):
        World.make(SyntheticConfig(num_users=5, num_authors=5, num_posts=20, num_events=1_000))


def test_more_authors_than_accounts_is_refused():
    """Authors are accounts, so there cannot be more of them."""
    with pytest.raises(ConfigError, match="num_authors"):
        check({"num_users": 5, "num_authors": 6}, SyntheticConfig, "test")
