"""A prefix head on posts: what it learns from, and what may read its embeddings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.facts import Facts
from pipelines.prepared import note
from tests.conftest import train_config, write_run
from tests.serve.prefix_data import FIT, SIZE, fitted, with_texts
from train.bundle import BundleError, load
from train.bundle.writing import write
from train.learners import make_learner
from train.prefix.objectives import condition
from train.prefix.posts import Labelled, PostsRun
from train.prefix_index import embed
from train.runs import RunError, resolve


@pytest.fixture(scope="module")
def data(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world with planted texts."""
    return with_texts(prepared, tmp_path_factory.mktemp("posts") / "data")


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A fitted head."""
    return fitted(data, data.parent)


def test_labels_are_the_posts_topics(data, world):
    """Coarse is the first topic, fine the second; clusters where topics are not to be used."""
    run = PostsRun(fit=FIT, fine=1, least_posts=1)
    posts = Labelled.of(data, run)
    topics = world.posts.sort_by("post_id")["topic_ids"].to_pylist()
    for level in (0, 1):
        names = np.array([one[level] for one in topics])[
            np.searchsorted(np.arange(1, len(topics) + 1), posts.post_id)
        ]
        assert len(set(zip(names, posts.labels[:, level], strict=True))) == len(np.unique(names))
    assert Labelled.of(data, run.model_copy(update={"clusters": 3})).labels[:, 0].max() == 2
    with pytest.raises(ValueError, match="clusters=20"):
        Labelled.of(data, run.model_copy(update={"coarse": 5}))


def test_posts_without_a_fine_label_are_not_of_one_class(data, tmp_path):
    """With `fine`, posts that have no second topic are left out, not taught to be alike."""
    run = PostsRun(fit=FIT, fine=1, least_posts=1)
    shutil.copytree(data, tmp_path / "data")
    posts = pq.read_table(data / "posts.parquet")
    topics = posts["topic_ids"].to_pylist()
    short = set(posts["post_id"].to_pylist()[::3])
    rows = zip(posts["post_id"].to_pylist(), topics, strict=True)
    cut = pa.array([of[:1] if one in short else of for one, of in rows], posts["topic_ids"].type)
    at = posts.schema.get_field_index("topic_ids")
    pq.write_table(
        posts.set_column(at, posts.schema.field(at), cut), tmp_path / "data/posts.parquet"
    )
    before, after = Labelled.of(data, run), Labelled.of(tmp_path / "data", run)
    assert set(after.post_id) == set(before.post_id) - short


def test_settings_that_do_not_fit_are_refused():
    """Only the own head is cut exactly, clusters have no fine label, and one change is enough."""
    assert PostsRun(fit={"num_epochs": 7}) == PostsRun(
        fit=condition("own", num_levels=1).model_copy(update={"num_epochs": 7})
    )
    with pytest.raises(ValueError, match="v5, expected own"):
        PostsRun(fit=condition("v5"))
    with pytest.raises(ValueError, match="clusters take the place of topics"):
        PostsRun(clusters=20, fine=1)


def test_the_short_part_knows_the_topic(run):
    """On held-out posts the first numbers tell planted topics, and better than the encoder."""
    found = json.loads((run / "result.json").read_text())["held_out"]
    assert found["coarse_8"] > 0.9
    assert found["coarse_8"] > found[f"encoder_{SIZE}"]


def test_a_bundle_takes_only_a_head_of_its_own_texts(run, data, tmp_path):
    """With it all posts with a text are indexed; of another encoder or kind it is refused."""
    runs = [write_run(kind, data, tmp_path) for kind in ("retrieval", "ranker")]
    write(*runs, data, tmp_path / "with", prefix=run)
    bundle = load(tmp_path / "with")
    assert bundle.card["prefix"]["num_coarse"] == 4
    assert len(bundle.load_prefix_index().full.post_id) == len(bundle.posts)
    write(*runs, data, tmp_path / "without")
    old = load(tmp_path / "without")
    assert not old.has_prefix
    with pytest.raises(BundleError, match="--prefix RUN"):
        old.prefix_head()
    with pytest.raises(RunError, match="expected prefix"):
        write(*runs, data, tmp_path / "x", prefix=runs[0])
    note(data, "content", {"identity": "another", "encoder": {}})
    with pytest.raises(RunError, match="encoded otherwise"):
        write(*runs, data, tmp_path / "x", prefix=run)
    note(data, "content", {"identity": "planted", "encoder": {}})


@pytest.mark.parametrize("text", ["beside", "projected"])
def test_towers_read_prefix_embeddings(run, data, tmp_path, text):
    """The head is that of the run, does not learn, and what the towers see is its embedding."""
    config = train_config("retrieval", data, tmp_path)
    spec = config.learning.model.features.model_copy(update={"content_size": SIZE})
    model = config.learning.model.model_copy(update={"features": spec, "text": text})
    learning = config.learning.model_copy(update={"model": model, "prefix": str(run)})
    config = resolve(config.model_copy(update={"learning": learning}), data)
    towers = make_learner(config.learning, data).model.train()
    assert not any(weight.requires_grad for weight in towers.prefix.parameters())
    facts = Facts.load(data)
    seen = towers.prefix({"pool_content": torch.from_numpy(facts.content[-4:])})["pool_content"]
    assert not seen[-1].any()  # no post
    np.testing.assert_allclose(
        seen[:-1], embed(towers.prefix.head, facts.content[-4:-1]), atol=1e-6
    )
    again = make_learner(config.learning, data).model
    again.load_state_dict(towers.state_dict())
