"""The study from end to end on the made-up pool: record, page, plots, checks and claims."""

from __future__ import annotations

import json

import pytest

from configs import ConfigError, check
from tests.train.preference.planted import planted
from train.preference.checks import checks
from train.preference.claims import claims
from train.preference.plots import names
from train.preference.study import SETS, StudyConfig, main, study
from train.report import markdown


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Of a study of few seeds and pairs."""
    folder = tmp_path_factory.mktemp("study")
    values = {
        "data": str(folder / "nothing"),
        "reports": str(folder),
        "sets": ["synthetic", "ml_100k"],
        "real": ["movielens"],
        "seeds": [42],
        "budgets": [25, 100],
        "num_budget_seeds": 2,
        "num_random_pairs": 5,
        "num_workers": 1,
        "fit": {"num_epochs": 3},
        "steps": [5, 50],
        "num_curve_seeds": 1,
    }
    page = study(check(values, StudyConfig, place="test"))
    return json.loads(page.with_suffix(".json").read_text()), page


def test_a_page_is_made_from_its_record(record):
    """The page has every check and claim with its verdict, and is a function of the record."""
    found, page = record
    text = page.read_text()
    assert text == markdown(found)
    assert text.count("**MISSED**") == sum(not of["met"] for of in found["checks"])
    for of in found["claims"]:
        assert of["claim"] in text


def test_plots_are_written(record):
    """Every plot that the page shows is there."""
    pytest.importorskip("matplotlib")
    found, page = record
    for name in names(found):
        assert (page.parent / f"preference_{name}.png").stat().st_size > 5_000
        assert f"preference_{name}.png" in page.read_text()


def test_missing_sets_are_told(record):
    """What is not there is named with what to fetch, and its checks are left out."""
    found, page = record
    assert set(found["left_out"]) == {"ml_100k", "real_movielens"}
    assert "grouplens.org" in page.read_text()
    assert not any("ML-100K" in of["check"] for of in found["checks"])


def test_checks_and_claims_are_those_of_the_results(record):
    """Judged again from the record alone they are the same; a wrong figure is missed."""
    found, _ = record
    assert checks(found) == found["checks"]
    assert claims(found) == found["claims"]
    d1 = [of for of in found["checks"] if of["check"].startswith("D1 synthetic: held-out")]
    assert len(d1) == 3
    assert all(of["met"] for of in d1)
    found["protocol"]["accuracy"]["user"] = 0.5
    assert not checks(found)[0]["met"]


def test_settings_that_are_not_there_are_refused(capsys):
    """A misspelt set is an error that names the near miss."""
    assert main(["sets=[synthetc]"]) == 2
    assert "did you mean 'synthetic'" in capsys.readouterr().err
    assert main(["sets=[]", "num_workers=1", "real=[movilens]"]) == 2
    assert "did you mean 'movielens'" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        check({"sead": 1}, StudyConfig, place="test")


@pytest.mark.parametrize(
    "override", ["seeds=[]", "budgets=[]", "budgets=[100, 25]", "steps=[50]", "steps=[50, 50]"]
)
def test_settings_that_no_figure_comes_of_are_refused(override, tmp_path):
    """No seeds, budgets that do not grow and a single number of steps stop before the work."""
    assert main(["sets=[]", "real=[]", "num_workers=1", f"reports={tmp_path}", override]) == 2


def test_a_bundle_that_is_none_is_refused(tmp_path, capsys):
    """A wrong bundle is an error in words, not a traceback."""
    log = ["sets=[]", "real=[kuairand]", "num_workers=1", f"reports={tmp_path}"]
    assert main([*log, f"bundle={tmp_path}"]) == 2
    assert "not a bundle" in capsys.readouterr().err


def test_a_set_too_small_for_a_slate_is_left_out(tmp_path, monkeypatch):
    """Of a sample of few items nothing is said, and the page tells why."""
    monkeypatch.setitem(SETS, "mind", lambda _: planted(4))
    values = {"sets": ["mind"], "real": [], "num_workers": 1, "reports": str(tmp_path)}
    page = study(check(values, StudyConfig, place="test"))
    assert "mind was left out: mind: 4 items, and a slate has 10" in page.read_text()
