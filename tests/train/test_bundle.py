"""A bundle carries all that serving needs, and says what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.data.job import prepare
from pipelines.facts import Facts
from pipelines.features import candidate_inputs, example_inputs, history_inputs
from pipelines.schema import ACTION_NAMES, SPLITS, action_weights
from tests.conftest import data_config, write_bundle, write_run
from train.bundle import BundleError, load
from train.bundle.versions import write_metrics
from train.bundle.writing import write
from train.rows import flatten, read_examples
from train.runs import RunError


def test_posts_keep_their_facts(bundle, world):
    """Every post is there with its author, a popularity in [0, 1] and its showings."""
    posts = bundle.posts.sort_by("post_id")
    shown = np.bincount(world.events["post_id"].to_numpy(), minlength=len(posts) + 1)[1:]

    assert posts["author_id"].equals(world.posts.sort_by("post_id")["author_id"])
    np.testing.assert_array_equal(posts["num_shown"], shown)
    assert 0 < posts["popularity"].to_numpy().min() <= posts["popularity"].to_numpy().max() < 1


def test_popularity_is_the_smoothed_click_rate(bundle, world):
    """Popularity is (clicks + 20 · overall rate) / (showings + 20)."""
    events = world.events
    clicked, post_id = events["click"].to_numpy(False), events["post_id"].to_numpy()
    target = np.bincount(post_id).argmax()
    mine = post_id == target
    expected = (clicked[mine].sum() + 20 * clicked.mean()) / (mine.sum() + 20)
    row = bundle.posts.filter(bundle.posts["post_id"].to_numpy() == target)

    assert row["popularity"][0].as_py() == pytest.approx(expected)


def test_index_holds_the_post_tower(bundle):
    """The nearest post to a post's own vector is itself."""
    index, towers = bundle.load_index(), bundle.load_two_tower()
    spec = towers.config.features
    posts = bundle.posts.slice(0, 20)
    hashes = [
        torch.from_numpy(spec.hashes(kind, posts[f"{kind}_id"].to_numpy()))
        for kind in ("post", "author")
    ]
    with torch.inference_mode():
        vectors = towers.post(*hashes).numpy()

    assert index.search(vectors, 1)[0][:, 0].tolist() == posts["post_id"].to_pylist()


def test_ranker_predicts_from_profiles(bundle):
    """The bundle's own profiles and posts are enough to rank."""
    ranker = bundle.load_ranker()
    spec = ranker.config.features
    rows = bundle.profiles.slice(0, 2)
    post_id = bundle.posts["post_id"].to_numpy()[None, :5].repeat(2, axis=0)
    rows = rows.append_column("at_ms", [[bundle.as_of_ms] * 2])
    ones, at_ms = np.ones_like(post_id), np.full(post_id.shape, bundle.as_of_ms)
    inputs = history_inputs(rows, spec, bundle.facts) | candidate_inputs(
        rows, post_id, ones, ones.astype(np.int16), at_ms, spec, bundle.facts
    )
    p_action = ranker.predict({name: torch.from_numpy(a) for name, a in inputs.items()})

    assert p_action.shape == (2, 5, len(ACTION_NAMES))
    assert p_action.isfinite().all()


def test_weights_and_time(bundle, world):
    """Action weights are the contract's, and the bundle knows when its log ends."""
    assert bundle.actions == ACTION_NAMES
    np.testing.assert_array_equal(bundle.weights, action_weights())
    assert bundle.as_of_ms == max(world.events["shown_at_ms"].to_pylist())


def test_card_takes_metrics(bundle_path, tmp_path):
    """Metrics go onto the card; nothing else of the bundle changes."""
    shutil.copytree(bundle_path, tmp_path / "b")
    write_metrics(load(tmp_path / "b"), {"click": {"auc": 0.7}})
    card = load(tmp_path / "b").card

    assert card["metrics"] == {"click": {"auc": 0.7}}
    assert {k: v for k, v in card.items() if k != "metrics"} == {
        k: v for k, v in load(bundle_path).card.items() if k != "metrics"
    }


def test_remote_path(bundle_path, bundle):
    """Any fsspec path will do."""
    remote = load(f"file://{bundle_path}")

    assert remote.posts.equals(bundle.posts)
    assert remote.folder != bundle.folder


def test_other_schema_names_the_column(bundle_path, tmp_path):
    """A bundle made for other columns says which one changed."""
    shutil.copytree(bundle_path, tmp_path / "b")
    schema = json.loads((tmp_path / "b" / "schema.json").read_text())
    schema["hash"] = "other"
    schema["spec"]["posts"][1] = "writer_id: int64"
    (tmp_path / "b" / "schema.json").write_text(json.dumps(schema))

    with pytest.raises(BundleError) as caught:
        load(tmp_path / "b")
    assert "posts: - writer_id: int64" in str(caught.value)
    assert "posts: + author_id: int64" in str(caught.value)


def test_not_a_bundle(tmp_path):
    """A folder without a card is no bundle, and the missing file is named."""
    with pytest.raises(BundleError, match=r"not a bundle: .*card\.json"):
        load(tmp_path)


def test_damaged_card_is_named(bundle_path, tmp_path):
    """A card that was cut off is an error of the bundle."""
    shutil.copytree(bundle_path, tmp_path / "b")
    (tmp_path / "b" / "card.json").write_text("{")

    with pytest.raises(BundleError, match="a damaged bundle"):
        load(tmp_path / "b")


def test_cards_tell_weights_apart(bundle, prepared, tmp_path):
    """Bundles of other weights have other cards."""
    other = load(write_bundle(prepared, tmp_path, seed=1)).card["weights_sha256"]

    assert other.keys() == {"retrieval", "ranker"}
    assert all(other[kind] != digest for kind, digest in bundle.card["weights_sha256"].items())


def test_bundles_never_change(bundle_path, prepared):
    """Writing over a bundle must be asked for."""
    with pytest.raises(BundleError, match="exists already"):
        write(
            bundle_path.parent / "retrieval", bundle_path.parent / "ranker", prepared, bundle_path
        )


def test_runs_must_fit(prepared, tmp_path):
    """Runs of the wrong kind, or on other data, are refused by name."""
    runs = {kind: write_run(kind, prepared, tmp_path) for kind in ("retrieval", "ranker")}
    out = tmp_path / "b"

    with pytest.raises(RunError, match="a ranker run, expected retrieval"):
        write(runs["ranker"], runs["ranker"], prepared, out)
    with pytest.raises(RunError, match="not a finished run"):
        write(tmp_path / "nowhere", runs["ranker"], prepared, out)
    (runs["ranker"] / "result.json").write_text('{"data_fingerprint": "abc"}')
    with pytest.raises(RunError, match="trained on data abc"):
        write(runs["retrieval"], runs["ranker"], prepared, out)
    assert not out.exists()


def test_only_bundles_are_replaced(prepared, tmp_path):
    """Another folder is never deleted to make room for a bundle."""
    runs = [write_run(kind, prepared, tmp_path) for kind in ("retrieval", "ranker")]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_text("")

    with pytest.raises(BundleError, match="photos: is no bundle"):
        write(*runs, prepared, tmp_path / "photos", replace=True)
    assert (tmp_path / "photos" / "one.png").exists()


def test_remote_bundles_keep_their_card(bundle_path):
    """Metrics for a bundle that was copied from afar are refused rather than lost."""
    with pytest.raises(BundleError, match="local bundle only"):
        write_metrics(load(f"file://{bundle_path}"), {})


def test_a_reader_may_add_an_action(world, tmp_path):
    """An action that only one log knows is learned, weighed and served like the others."""
    world.write(tmp_path / "log")
    part = tmp_path / "log" / "events" / "part-00000.parquet"
    events = pq.read_table(part)
    pq.write_table(events.append_column("saved", events["favorite"]), part)
    prepare(data_config(tmp_path / "log", tmp_path / "data", extra_actions={"saved": 0.7}))
    bundle = load(write_bundle(tmp_path / "data", tmp_path))
    rows = read_examples(tmp_path / "data", "test").slice(0, 3)
    ranker = bundle.load_ranker()
    inputs = example_inputs(rows, ranker.config.features, bundle.facts)

    assert bundle.actions == (*ACTION_NAMES, "saved")
    assert bundle.weights[-1] == 0.7
    assert ranker({k: torch.from_numpy(a) for k, a in inputs.items()}).shape[-1] == 20


def test_every_event_is_a_candidate_once(prepared: Path, world):
    """The examples of all splits hold the log, each row once."""
    rows = flatten(read_examples(prepared, *SPLITS))
    log = world.events

    assert len(rows) == len(log)
    assert sorted(zip(rows.user_id, rows.post_id, rows.shown_at_ms, strict=True)) == sorted(
        zip(*(log[c].to_numpy() for c in ("user_id", "post_id", "shown_at_ms")), strict=True)
    )


def test_inputs_of_examples_fit_the_ranker(prepared, bundle):
    """Prepared examples go straight into the ranker."""
    ranker = bundle.load_ranker()
    rows, spec = read_examples(prepared, "test").slice(0, 4), ranker.config.features
    inputs = example_inputs(rows, spec, Facts.load(prepared))
    logits = ranker({name: torch.from_numpy(a) for name, a in inputs.items()})

    assert logits.shape[0] == 4


def test_what_was_never_observed_weighs_nothing(prepared, tmp_path):
    """An action that the log does not have cannot be learned, so its prediction must not count."""
    data = shutil.copytree(prepared, tmp_path / "data")
    report = ACTION_NAMES.index("report")
    for part in (data / "examples").glob("split=*/*.parquet"):
        rows = pq.read_table(part)
        column = rows["observed"].combine_chunks()
        masks = pc.bit_wise_and(column.values, ~(1 << report))
        without = pa.ListArray.from_arrays(column.offsets, masks)
        place = rows.schema.get_field_index("observed")
        pq.write_table(rows.set_column(place, rows.schema.field(place), without), part)
    bundle = load(write_bundle(data, tmp_path))

    assert bundle.weights[report] == 0
    assert "report" not in bundle.card["observed_actions"]
    others = np.arange(len(ACTION_NAMES)) != report
    np.testing.assert_array_equal(bundle.weights[others], action_weights()[others])
