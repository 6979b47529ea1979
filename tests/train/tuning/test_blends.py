"""A trial's pages are the real feed's, and tuning sees nothing of the days it is tested on."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from optuna.trial import TrialState

from configs import ConfigError, load
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.replay import services_of
from train import bundle as bundles
from train.bundle.versions import with_blend
from train.tuning import blends
from train.tuning.blend_results import REPORT, finish
from train.tuning.blended import Blended
from train.tuning.replayed import ModelsThen, Replayed, with_logged
from train.tuning.study import feasible
from train.tuning.visits import visits

TUNED = {
    "weights.favorite": 3.0,
    "weights.not_interested": -5.0,
    "interference.alpha": 1.5,
    "interference.field.num_waves": 3,
    "interference.field.base_scale": 0.7,
    "interference.field.dimension_weight": 0.3,
    "interference.field.destructive_gain": 0.1,
    "scorers.author_diversity.decay": 0.2,
    "scorers.dpp.theta": 0.3,
    "scorers.out_of_network.factor": 0.4,
    "post_filters.author_cap.max_posts": 2,
}
SPACE = {name: {"choices": [value, value]} for name, value in TUNED.items()}


def bench_of(config: blends.BlendSearch) -> blends.Bench:
    """The requests of a search, ready."""
    return blends.prepare(config, bundles.load(config.bundle), load(config.feed, FeedConfig))


def test_a_trial_is_the_real_feed(search_of, tmp_path, prepared):
    """Pages and scores equal those of a feed served from a bundle with the trial's settings."""
    config = search_of(space=SPACE)
    feed, own = load(config.feed, FeedConfig), bundles.load(config.bundle)
    blended = Blended.of(own, feed, TUNED)
    made = bench_of(config).pages.pages(TUNED, range(config.num_requests))

    with_blend(
        Path(config.bundle),
        tmp_path / "with",
        weights=dict(zip(own.actions, blended.weights.tolist(), strict=True)),
        interference=blended.interference,
        feed=blended.feed,
    )
    tuned = bundles.load(tmp_path / "with")
    sources = {**feed.sources, "logged": {}}
    pipeline = Pipeline.build(feed.model_copy(update={"sources": sources}), with_logged())
    pipeline.adopt(tuned.feed_settings)
    models, beside = ModelsThen(tuned, prepared), services_of(config.services, str(tuned.path))
    for visit, page in zip(
        visits(prepared, "validate", config.num_requests, config.page), made, strict=True
    ):
        real = asyncio.run(pipeline.run(visit.query, Replayed(visit, models, beside)))
        assert not real.degraded
        assert page.post_id.tolist() == real.page.post_id.tolist()
        np.testing.assert_allclose(page["score"], real.page["score"], rtol=1e-9)
        assert np.isfinite(page["interference_worth"]).any() or visit.history is None


def test_settings_change_pages_and_come_back(search_of):
    """Other settings give other pages; the first ones give the first pages again."""
    pages = bench_of(search_of(space=SPACE)).pages
    untuned, tuned, again = (pages.pages(s, range(6)) for s in ({}, TUNED, {}))

    assert [p.post_id.tolist() for p in untuned] == [p.post_id.tolist() for p in again]
    assert [p.post_id.tolist() for p in untuned] != [p.post_id.tolist() for p in tuned]


def test_the_test_days_play_no_part(search_of, prepared, tmp_path):
    """Other test days change nothing of what trials measure: not even that there are any."""
    config = search_of()
    other = tmp_path / "other"
    shutil.copytree(prepared, other)
    shutil.rmtree(other / "examples" / "split=test")

    with_test, without = (bench_of(c) for c in (config, search_of(data=str(other))))

    assert with_test.default == without.default
    with pytest.raises(FileNotFoundError, match="split=test"):
        without.test()


def test_days_tuned_on_end_before_those_tested_on(prepared):
    """Histories are older than visits, test visits later than all tuned on, or they are refused."""
    tuned_on = visits(prepared, "validate", 30, 20)
    tested_on = visits(prepared, "test", 30, 20, after=tuned_on)

    assert tuned_on[-1].query.now_ms < tested_on[0].query.now_ms
    for visit in (*tuned_on, *tested_on):
        assert visit.history is None or (visit.history.at_ms < visit.query.now_ms).all()
    some = visits(prepared, "test", 10_000, 20, after=tested_on[:8])
    assert some[0].query.now_ms > tested_on[7].query.now_ms
    with pytest.raises(ValueError, match="tuning needs a split in time"):
        visits(prepared, "test", 30, 20, after=tested_on)


def test_a_post_shown_twice_is_one(tmp_path, prepared):
    """What was done on either showing counts, and the order is that of the first."""
    rows = pq.read_table(prepared / "examples" / "split=test", partitioning=None)
    row = rows.slice(0, 1).to_pylist()[0] | {
        "post_id": [7, 5, 7],
        "author_id": [1, 1, 1],
        "surface": [0, 0, 0],
        "shown_at_ms": [row_at := int(rows["at_ms"][0].as_py()), row_at, row_at],
        "did": [1, 0, 2],
        "observed": [3, 1, 2],
        "dwell_s": [float("nan"), 2.0, 4.0],
    }
    folder = tmp_path / "examples" / "split=test"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([row], schema=rows.schema), folder / "part.parquet")

    (visit,) = visits(tmp_path, "test", 5, 20)

    assert visit.post_id.tolist() == [7, 5]
    assert (visit.did.tolist(), visit.observed.tolist()) == ([3, 0], [3, 1])
    assert visit.dwell_s.tolist() == [4.0, 2.0]


def test_posts_written_later_are_no_candidates(search_of, prepared):
    """Though the bundle knows posts that came after a request, none is scored for it."""
    posts = pq.read_table(prepared / "posts.parquet").sort_by("post_id")
    ids, created_ms = posts["post_id"].to_numpy(), posts["created_at_ms"].to_numpy()
    ready = bench_of(search_of()).pages._ready

    assert (created_ms > ready[0].query.now_ms).any()
    for each in ready:
        made_ms = created_ms[np.searchsorted(ids, each.posts.post_id)]
        assert (made_ms <= each.query.now_ms).all()


def test_few_candidates_keep_what_was_shown(search_of, prepared):
    """Posts with known outcomes are candidates first; then what a source ranks highest."""
    few, many = (bench_of(search_of(num_candidates=num)).pages for num in (30, 2000))
    shown = visits(prepared, "validate", 6, 20)

    for small, large, visit in zip(few._ready, many._ready, shown, strict=True):
        assert len(small.posts) == 30
        passed = np.intersect1d(visit.post_id, large.posts.post_id)
        assert np.isin(passed, small.posts.post_id).all()


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("weights.favourite", "space.weights.favourite: no such action; did you mean 'favorite'?"),
        ("interference.alhpa", "alhpa: no such setting; did you mean 'alpha'?"),
        ("interference.field.bas_scale", "did you mean 'base_scale'?"),
        ("interference.field.scale_weights.0", "give all of 0, 1, 2, 3, not 0"),
        ("scorers.dpp.tehta", "scorers.dpp.tehta: no such setting; did you mean 'theta'?"),
        ("scorers.dp.theta", "scorers.dp: no such component; did you mean 'dpp'?"),
        ("filters.age.max_age_hours", "space.filters.age.max_age_hours: no such setting"),
        ("scorer.dpp.theta", "did you mean 'scorers'?"),
    ],
)
def test_wrong_names_stop_the_search(search_of, bundle, space, said):
    """A setting that there is not is named with the near miss, before any request is made."""
    with pytest.raises(ConfigError) as error:
        blends.search(search_of(space={space: {"low": 0.1, "high": 0.9}}))
    assert said in str(error.value)


def test_no_end_of_a_range_may_be_refused_later(search_of):
    """An end that no feed takes stops the search at once, however rarely it would be drawn."""
    with pytest.raises(ConfigError, match=r"factor: Input should be greater than 0, got 0\.0"):
        blends.search(search_of(space={"scorers.out_of_network.factor": {"low": 0.0, "high": 1.0}}))


def test_what_feed_yaml_says_is_not_tuned(search_of, tmp_path):
    """A bundle's word would count for nothing there, so the search says so."""
    (tmp_path / "feed.yaml").write_text("scorers: {dpp: {theta: 0.5}}\n")

    with pytest.raises(ConfigError, match=r"feed.yaml sets it to 0.5, which wins over a bundle"):
        blends.search(search_of(space={"scorers.dpp.theta": {"low": 0.1, "high": 0.9}}))


def test_the_best_goes_into_a_bundle(search_of):
    """After a search with two objectives and a bound: report, plots, and a new version."""
    config = search_of(
        objectives={"value_10": "minimize", "topics_10": "maximize"},
        constraints={"negative_10": {"at_most": 1.2, "of_default": True}},
        num_trials=12,
        num_test_requests=4,
    )
    seen = {}

    def end(study, bench):
        seen["written"], seen["default"] = finish(study, bench, config), bench.default
        seen["trials"] = study.get_trials()
        bench.test = None  # a second look would fail
        finish(study, bench, config)

    blends.search(config, end)

    most = 1.2 * seen["default"]["negative_10"]
    for trial in seen["trials"]:
        assert feasible(trial) == (trial.user_attrs["measures"]["negative_10"] <= most)
    names = {path.name for path in config.folder.iterdir()}
    assert {"trials.parquet", "summary.md", REPORT, "history.png", "slices.png"} <= names
    assert {"front.png", "importances.png"} <= names
    made = bundles.load(seen["written"])
    tuned = made.card["tuned"]
    assert tuned["study"] in (config.folder / "summary.md").read_text()
    assert made.interference.alpha == tuned["settings"]["interference.alpha"]
    assert (
        made.feed_settings["scorers.author_diversity.decay"]
        == (tuned["settings"]["scorers.author_diversity.decay"])
    )
    favorite = made.actions.index("favorite")
    assert made.weights[favorite] == tuned["settings"]["weights.favorite"]


@pytest.mark.ray
def test_trials_side_by_side_measure_the_same(search_of):
    """Two Ray workers give every trial what this process gives it."""
    config = search_of(num_workers=2, num_trials=6, write=None)
    found = {}

    def end(study, bench):
        found["trials"] = study.get_trials()
        found["here"] = [bench.pages.means(trial.params) for trial in found["trials"]]

    try:
        blends.search(config, end)
    finally:
        ray.shutdown()

    assert len(found["trials"]) == 6
    for trial, here in zip(found["trials"], found["here"], strict=True):
        if trial.state == TrialState.COMPLETE:
            assert trial.user_attrs["measures"] == pytest.approx(here, nan_ok=True)
