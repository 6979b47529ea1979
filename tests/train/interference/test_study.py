"""The study from end to end on a tiny made-up set, and the original's table where its data are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from configs import ConfigError, load
from pipelines.data.reader import InputError
from tests.train.interference.planted import write_ml_100k
from train.fractalx_study import DEFAULT, study
from train.fractalx_study import settings as command_line
from train.interference.checks import checks
from train.interference.conclusion import conclusion
from train.interference.measures import MEASURES, measures, summary
from train.interference.page import PLOTS
from train.interference.parts.phoenix import arms
from train.interference.parts.published import ORIGINAL
from train.interference.rankers import cosine, field
from train.interference.ratings import read
from train.interference.spaces import FactorConfig, factors, unit
from train.interference.split import SplitConfig, published
from train.interference.study import PARTS, StudyConfig
from train.interference.tables import interval, verdict
from train.models.fractal.config import PUBLISHED
from train.report import markdown

SHARED = Path("../shared/data")
SMALL = (
    "texts=false",
    "num_seeds=2",
    "ablation_seeds=1",
    "split={num_viewers: 30, least_history: 5, num_negatives: 20}",
    "mlp.most_epochs=2",
    "factors.num_factors=6",
    "published_sets=[ml-100k, ml-1m]",
    "ranker_sets=[ml-100k]",
    "lift_sets=[ml-100k]",
    "dimension_sets=[ml-100k]",
    "feedback_sets=[ml-100k, kuairand-27k]",
    "lift.split={num_viewers: 40, least_history: 3, num_negatives: 20}",
    "lift.num_learn=8",
    "lift.num_repeats=1",
    "lift.trees={num_rounds: 5, min_data_in_leaf: 5}",
    "stability.least_history=12",
    "spaces.sets=[ml-100k]",
    "spaces.towers.max_steps=2",
    "phoenix.sets=[ml-100k]",
    "phoenix.num_repeats=1",
    "phoenix.run.num_epochs=1",
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> StudyConfig:
    """Of a study of the planted archive alone."""
    folder = tmp_path_factory.mktemp("study")
    write_ml_100k(folder)
    return load(DEFAULT, StudyConfig, [*SMALL, f"data={folder}", f"reports={folder / 'reports'}"])


@pytest.fixture(scope="module")
def record(settings) -> dict:
    """What all parts write."""
    pytest.importorskip("lightgbm")
    return json.loads(study(settings).with_suffix(".json").read_text())


def test_all_parts_are_told(record, settings):
    """The record has every part with its cost, the page every section, and each plot is there."""
    assert tuple(record["parts"]) == PARTS
    page = (Path(settings.reports) / "fractalx.md").read_text()
    assert page == markdown(record)
    for words in (
        *("as published", "boosted trees", "Cold start", "two towers", "neural ranker"),
        *("H1", "H3", "each piece"),
    ):
        assert words in page
    pytest.importorskip("matplotlib")
    for name in (name for names in PLOTS.values() for name in names):
        assert (Path(settings.reports) / f"fractalx_{name}.png").stat().st_size > 5_000


def test_missing_sets_are_told(record):
    """Sets that are not there are left out, and the report says what to fetch."""
    assert set(record["left_out"]) == {"ml-1m", "kuairand-27k"}
    assert all("fetch" in why for why in record["left_out"].values())
    assert set(record["feedback"]["sets"]) == {"ml-100k"}


def test_no_set_at_all_is_no_error(settings, tmp_path):
    """Where no set is there the page says what to fetch, and no plot fails for it."""
    none = settings.model_copy(update={"data": str(tmp_path), "reports": str(tmp_path)})
    page = study(none)
    assert set(json.loads(page.with_suffix(".json").read_text())["left_out"]) >= {"ml-100k"}
    assert "fetch" in page.read_text()


def test_a_part_can_be_made_anew(record, settings):
    """One part again gives the same numbers and keeps the others; other settings drop them."""
    one = settings.model_copy(update={"parts": ("feedback",)})
    again = json.loads(study(one).with_suffix(".json").read_text())
    assert {part: again[part] for part in PARTS} == {part: record[part] for part in PARTS}
    other = one.model_copy(update={"factors": FactorConfig(num_factors=5)})
    kept = json.loads(study(other).with_suffix(".json").read_text())["parts"]
    assert list(kept) == ["phoenix", "feedback"]  # the first of which reads no factors
    study(settings)


def test_a_broken_report_is_told(settings, tmp_path):
    """A last report that cannot be read is named before any work."""
    (tmp_path / "fractalx.json").write_text("{")
    with pytest.raises(InputError, match=r"fractalx\.json: not JSON"):
        study(settings.model_copy(update={"reports": str(tmp_path)}))


def test_the_command_line_names_parts():
    """Parts stand behind --parts, settings anywhere; a misspelt one names the near miss."""
    found = command_line(["--parts", "rankers", "published", "num_seeds=2"])
    assert found.wanted == ("published", "rankers")
    assert found.num_seeds == 2
    with pytest.raises(ConfigError, match="did you mean 'published'"):
        command_line(["--parts", "publishd"])
    with pytest.raises(ConfigError, match="did you mean 'ml-100k'"):
        command_line(["ranker_sets=[ml-100]"])
    with pytest.raises(ConfigError, match=r"spaces\.sets: 'ml-1'; did you mean 'ml-1m'"):
        command_line(["spaces.sets=[ml-1]"])


def test_missed_bars_and_null_results_are_said(record):
    """A bar that is not reached is MISSED on the page, a difference by chance is null."""
    low = {key: {"mean": 0.0, "error": 0.01, "num": 9} for key in MEASURES}
    rankers = record["rankers"]["sets"]["ml-100k"]["spaces"]["als"]["rankers"]
    poor = {"rankers": {"sets": {"ml-100k": {"spaces": {"als": {"rankers": dict(rankers)}}}}}}
    of = poor["rankers"]["sets"]["ml-100k"]["spaces"]["als"]["rankers"]
    of["field, principal waves"] = low
    found = checks(poor)
    assert not found[0]["met"]
    assert "**MISSED**" in markdown(record | {"checks": found})
    chance = {"difference": 0.1, "low": 0.01, "high": 0.2, "p_holm": 0.06}
    assert verdict(chance) == "null"
    assert "**" not in interval(chance)
    assert verdict(chance | {"p_holm": 0.01}) == "gain"


def test_the_default_follows_from_the_gains(record):
    """A field that wins nowhere is off by default, and the code's default agrees with that."""
    pair = {"difference": 0.0, "low": -0.1, "high": 0.1, "p_holm": 1.0}
    names = ("features", "cold_start", "spaces", "phoenix")
    parts = json.loads(json.dumps({part: record[part] for part in names}))
    places = [of for part in parts.values() for of in part["sets"]["ml-100k"].values()]
    assert len(places) == len(names)
    for of in places:
        of["differences"]["ndcg_10"]["field − local"] = pair
    found = conclusion(parts)
    assert not found["field_wins"]
    assert found["agrees"]
    for of in places:
        won = pair | {"difference": 0.1, "low": 0.05, "p_holm": 0.001}
        of["differences"]["ndcg_10"]["field − local"] = won
    found = conclusion(parts)
    assert found["field_wins"]
    assert not found["agrees"]
    places[-1]["differences"]["ndcg_10"]["field − local"] = pair  # of the neural ranker
    assert not conclusion(parts)["field_wins"]


def test_the_ranker_is_held_against_kernels_without_waves(record):
    """Arms with field and kernels differ by the waves alone, and the claim says by how much."""
    field, kernel = (arms(16)[name].field for name in ("field", "kernel"))
    assert field.model_copy(update={"phase": False, "num_waves": kernel.num_waves}) == kernel
    (of,) = record["phoenix"]["sets"]["ml-100k"].values()
    assert list(of["arms"]) == ["base", "local", "kernel", "field"]
    assert of["by_length"]["viewers"]
    (claim,) = (
        claim
        for claim in record["conclusion"]["claims"]
        if claim["claim"]
        == "as inputs, it adds NDCG@10 to the neural ranker with kernels without waves"
    )
    expected = of["differences"]["ndcg_10"]["field − kernel"]["difference"]
    assert [found["difference"] for found in claim["found"].values()] == [expected]


@pytest.mark.skipif(
    not SHARED.exists() and not os.environ.get("CI"), reason="needs ../shared/data/ml-100k.zip"
)
def test_the_original_comes_out_again():
    """Cosine and the unguarded field of 4 scales have the original's numbers on ML-100K."""
    ratings = read("ml-100k", SHARED)
    split = published(ratings, SplitConfig())
    assert split.train.sum() == 98_950
    vectors = unit(factors(ratings, split.train, FactorConfig()).item)
    assert (~vectors.any(1)).sum() == 41
    scores = {"cosine": cosine(vectors, split), "field, S = 4": field(vectors, split, PUBLISHED)}
    for name, of in scores.items():
        found = summary(measures(of if name == "cosine" else of.total(), split))
        for key, value in zip(MEASURES, ORIGINAL["ml-100k"][name], strict=True):
            assert found[key]["mean"] == pytest.approx(value, abs=0.002)
