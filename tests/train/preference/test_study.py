"""The study from end to end on the made-up pool: record, page, plots, checks and claims."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from configs import ConfigError, check
from pipelines.data.reader import InputError
from tests.train.preference.planted import planted
from train.preference.checks import checks
from train.preference.claims import claims
from train.preference.parts import MAKE, SPACES
from train.preference.plots import names
from train.preference.settings import PARTS, READS, SETS, StudyConfig
from train.preference.study import main, settings, study
from train.report import markdown

WORLD = {
    "world": {"num_users": 150, "num_authors": 50, "num_posts": 1_500, "num_events": 9_000},
    "emb_size": 8,
    "num_epochs": 1,
    "seeds": [0],
    "num_viewers": 10,
}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Of a study of few seeds and pairs."""
    folder = tmp_path_factory.mktemp("study")
    values = {
        "data": str(folder / "nothing"),
        "reports": str(folder),
        "parts": ["synthetic", "ml_100k", "protocol", "movielens", "world"],
        "seeds": [42],
        "budgets": [25, 100],
        "num_budget_seeds": 2,
        "num_random_pairs": 5,
        "num_workers": 1,
        "fit": {"num_epochs": 3},
        "steps": [5, 50],
        "num_curve_seeds": 1,
        "world": WORLD,
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


def test_a_ranker_of_a_made_up_world_is_verified(record):
    """Each seed's ranker is asked of viewers and has all tables; the page has the section."""
    found, page = record
    (one,) = found["world"]["seeds"].values()
    assert one["viewers"] == 10
    assert one["met"] in (True, False)  # blocks were learned
    assert "## A ranker that was told of blocks" in page.read_text()
    met = [of["met"] for of in found["checks"] if of["check"].startswith("D9")]
    assert len(met) == 2
    assert met[0] == one["met"]


def test_missing_sets_are_told(record):
    """What is not there is named with what to fetch, and its checks are left out."""
    found, page = record
    assert set(found["left_out"]) == {"ml_100k", "movielens"}
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
    """A misspelt part is an error that names the near miss."""
    assert main(["--parts", "synthetc"]) == 2
    assert "did you mean 'synthetic'" in capsys.readouterr().err
    assert main(["--parts", "movilens", "num_workers=1"]) == 2
    assert "did you mean 'movielens'" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        check({"sead": 1}, StudyConfig, place="test")


def test_rules_for_actions_need_actions(capsys):
    """The constrained loss on genres is refused before the work, with what is allowed instead."""
    assert main(["fit.loss=constrained"]) == 2
    assert "allowed: with --parts synthetic" in capsys.readouterr().err
    assert settings(["--parts", "synthetic", "protocol", "fit.loss=constrained"]).fit.loss


@pytest.mark.parametrize(
    "override",
    [
        *("seeds=[]", "budgets=[]", "budgets=[100, 25]", "steps=[50]", "steps=[50, 50]"),
        *("seeds=[-1]", "seed=-1", "fit.order_seed=-1", "world.seeds=[]", "world.seeds=[-1]"),
        "world.world.num_days=5",
    ],
)
def test_settings_that_no_figure_comes_of_are_refused(override, tmp_path):
    """No or negative seeds, budgets that do not grow, too few steps or days: said before work."""
    assert main(["--parts", "protocol", "num_workers=1", f"reports={tmp_path}", override]) == 2


def test_every_part_can_be_made_and_says_what_it_reads():
    """The names of parts, of what makes them and of what they read are the same."""
    assert list(MAKE) == list(PARTS) == list(READS)
    assert set(SPACES) == set(SETS)
    for read in READS.values():
        assert set(read) <= set(StudyConfig.model_fields)


def counted(monkeypatch, **results: Any) -> list[str]:
    """Parts that give what is said here, their number or an InputError; returns those made."""
    made: list[str] = []

    def of(name: str, result: Any, _: StudyConfig) -> tuple[Any, str]:
        made.append(name)
        if isinstance(result, Exception):
            raise result
        return result, "print"

    for name, result in results.items():
        monkeypatch.setitem(MAKE, name, partial(of, name, result))
    return made


def test_parts_asked_for_add_to_the_report(record, tmp_path, monkeypatch):
    """Others stay as they were, with their commit and date, while their settings are the same."""
    whole, _ = record
    made = counted(
        monkeypatch,
        protocol=whole["protocol"],
        world=whole["world"],
        movielens=InputError("movielens: fetch it"),
    )
    given = ["num_workers=1", f"reports={tmp_path}"]

    def now() -> dict[str, Any]:
        return json.loads((tmp_path / "preference.json").read_text())

    assert main(["--parts", "protocol", *given]) == 0
    assert main(["--parts", "world", "movielens", *given]) == 0
    assert made == ["protocol", "world", "movielens"]
    assert list(now()["parts"]) == ["protocol", "world"]
    assert now()["protocol"] == whole["protocol"]
    assert now()["left_out"] == {"movielens": "movielens: fetch it"}
    assert any(of["check"].startswith("D1") for of in now()["checks"])
    assert main(["--parts", "world", "num_curve_seeds=2", *given]) == 0
    assert list(now()["parts"]) == ["world"]  # a curve of two seeds is another protocol
    assert now()["protocol"] is None
    assert now()["left_out"]


def test_a_study_of_all_parts_is_held_against_the_time(tmp_path, monkeypatch):
    """Where parts are named nothing is said of how long all take."""
    counted(monkeypatch, **{part: InputError(f"{part}: fetch it") for part in PARTS})
    timed = []
    for parts in ([], ["--parts", "world"]):
        assert main([*parts, "num_workers=1", f"reports={tmp_path}"]) == 0
        found = json.loads((tmp_path / "preference.json").read_text())["checks"]
        timed.append([of["check"] for of in found if of["check"] == "the study of all parts"])
    assert timed == [["the study of all parts"], []]


def test_a_report_that_cannot_be_read_is_not_overwritten(tmp_path, capsys):
    """What is no JSON stops the study before the work."""
    (tmp_path / "preference.json").write_text("no report")
    assert main(["--parts", "protocol", "num_workers=1", f"reports={tmp_path}"]) == 2
    assert "not JSON" in capsys.readouterr().err


def test_a_bundle_that_is_none_is_refused(tmp_path, capsys):
    """A wrong bundle is an error in words, not a traceback."""
    log = ["--parts", "kuairand", "num_workers=1", f"reports={tmp_path}"]
    assert main([*log, f"bundle={tmp_path}"]) == 2
    assert "not a bundle" in capsys.readouterr().err


def test_a_set_too_small_for_a_slate_is_left_out(tmp_path, monkeypatch):
    """Of a sample of few items nothing is said, and the page tells why."""
    monkeypatch.setitem(SPACES, "mind", lambda _: planted(4))
    values = {"parts": ["mind"], "num_workers": 1, "reports": str(tmp_path)}
    page = study(check(values, StudyConfig, place="test"))
    assert "mind was left out: mind: 4 items, and a slate has 10" in page.read_text()
