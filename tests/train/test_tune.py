"""A search is refused before its first trial if it cannot work."""

from __future__ import annotations

import sys

import pytest

from configs import ConfigError, check, load
from train import tune
from train.tuning.runs import as_overrides, base_run, search
from train.tuning.settings import RunSearch, load_search
from train.tuning.space import extremes
from train.tuning.study import StudyError

TWO = "objectives={val_loss: minimize, auc: maximize}"


def config(**settings: object) -> RunSearch:
    """A search over the demo's ranker."""
    values = {"name": "t", "run": "configs/ranker/tiny.yaml", **settings}
    return check(values, RunSearch, place="test")


@pytest.mark.parametrize("name", ["tiny", "prefix"])
def test_shipped_search_names_real_settings(name):
    """Every setting that a shipped search sets is one of its run's, whatever it draws."""
    shipped = load_search(f"configs/tune/{name}.yaml")

    assert isinstance(shipped, RunSearch)
    run = base_run(shipped)
    for drawn in extremes(shipped.space):
        load(shipped.run, type(run), as_overrides(drawn))


@pytest.mark.parametrize("where", ["space", "fixed"])
def test_misspelt_setting_stops_the_search(where):
    """A setting that the run does not have is named, with the near miss, before Ray starts."""
    wrong = {"optim.lrr": 0.1 if where == "fixed" else {"choices": [0.1, 0.2]}}
    space = {"optim.lr": {"low": 0.1, "high": 0.2}}
    settings = {"space": wrong} if where == "space" else {"space": space, "fixed": wrong}

    with pytest.raises(ConfigError, match="lrr: no such setting; did you mean 'lr'"):
        search(config(**settings))


def test_a_prefix_head_is_judged_by_its_held_out_posts():
    """It has no validation loss, and the search says so before Ray starts."""
    space = {"fit.batch_size": {"choices": [64, 128]}}

    with pytest.raises(StudyError, match="a prefix head has no val_loss"):
        search(config(run="configs/prefix/posts.yaml", space=space))


@pytest.mark.parametrize(
    "where", [{"low": 2, "high": 1}, {"low": 0, "high": 1, "scale": "log"}, {"choices": [1]}]
)
def test_empty_ranges_are_refused(where):
    """A range without room, or a choice of one, is an error."""
    with pytest.raises(ConfigError):
        config(space={"optim.lr": where})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["kind=blnd"], "kind: 'blnd': no such search; did you mean 'blend'?"),
        (["sampler.knd=tpe"], "sampler.knd: no such setting; did you mean 'kind'?"),
        ([TWO, "sampler.kind=cmaes"], "cmaes: knows one objective"),
        ([TWO], "set pruner: none"),
        (["constraints.val_loss.at_mots=1"], "did you mean 'at_most'?"),
        (["constraints.val_loss.of_default=true"], "needs at_least or at_most"),
    ],
)
def test_the_command_names_the_near_miss(given, said, monkeypatch, capsys):
    """A wrong setting of the search itself ends the command with what is allowed."""
    monkeypatch.setattr(sys, "argv", ["tune", "configs/tune/tiny.yaml", *given])

    assert tune.main() == 2
    assert said in capsys.readouterr().err
