"""A study outlives its tuner: what was finished stays, what was cut short is tried again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from configs import check
from train.tuning.blends import run_trials, search
from train.tuning.results import TRIALS, save_results, table
from train.tuning.settings import BlendSearch
from train.tuning.space import distributions
from train.tuning.study import JOURNAL, StudyError, feasible, fingerprint, front, opened

ROOT = Path(__file__).parents[3]
PATIENCE_S = 240  # a busy machine is no failure


class Hill:
    """Measures a hill with its top at x = 0.3, in two chunks that agree."""

    num_at_once, num_chunks = 2, 2

    def submit(self, settings: dict, chunk: int) -> Future:
        """Like `blends.Here`."""
        found: Future = Future()
        x = settings["weights.favorite"]
        measured = {"ndcg_10": np.array([1 - (x - 0.3) ** 2]), "value_10": np.array([x])}
        found.set_result(measured)
        return found


def config(out: Path, **settings: object) -> BlendSearch:
    """A search over the hill."""
    values = {
        "kind": "blend",
        "name": "hill",
        "out": str(out),
        "space": {"weights.favorite": {"low": 0.0, "high": 1.0}},
        "num_trials": 12,
        "sampler": {"num_startup": 4},
    }
    return check(values | settings, BlendSearch, place="test")


def climb(settings: BlendSearch, default: dict[str, float] | None = None) -> list[FrozenTrial]:
    """Run the trials that are left; returns all."""
    with opened(settings, {}) as study:
        run_trials(study, settings, Hill(), default or {})
        return study.get_trials()


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "nsga2", "random"])
def test_a_stopped_search_goes_on(tmp_path, kind):
    """Whatever proposes: trials of before count and stand, and no settings come twice."""
    sampler = {"kind": kind, "num_startup": 4, "population": 4}
    before = climb(config(tmp_path, num_trials=7, sampler=sampler))
    after = climb(config(tmp_path, num_trials=15, sampler=sampler))

    assert [len(before), len(after)] == [7, 15]
    assert after[:7] == before
    assert len({trial.params["weights.favorite"] for trial in after}) == 15
    assert climb(config(tmp_path, num_trials=15, sampler=sampler)) == after


def test_the_top_is_found(tmp_path):
    """Forty trials come near it; a bound keeps the best away from what is outside."""
    free, bound = (
        config(tmp_path / name, num_trials=40, pruner="none", constraints=constraints)
        for name, constraints in (("free", {}), ("bound", {"value_10": {"at_least": 0.6}}))
    )
    climb(free)
    trials = climb(bound)

    with opened(free, {}) as study:
        assert abs(front(study, free)[0].params["weights.favorite"] - 0.3) < 0.05
    with opened(bound, {}) as study:
        best = front(study, bound)[0]
    assert 0.6 <= best.params["weights.favorite"] < 0.7
    for trial in trials:
        assert feasible(trial) == (trial.params["weights.favorite"] >= 0.6)


def test_bounds_may_count_in_what_the_untuned_give(tmp_path):
    """At most half of the default's 0.8 is at most 0.4."""
    bound = {"value_10": {"at_most": 0.5, "of_default": True}}
    for trial in climb(config(tmp_path, constraints=bound, pruner="none"), {"value_10": 0.8}):
        assert feasible(trial) == (trial.params["weights.favorite"] <= 0.4)


def test_nothing_beats_the_front(tmp_path):
    """Of two objectives that pull apart all trials in between are kept, the balanced one first."""
    both = {"ndcg_10": "maximize", "value_10": "maximize"}
    settings = config(tmp_path, objectives=both, num_trials=30)
    trials = climb(settings)

    with opened(settings, {}) as study:
        best = front(study, settings)
        save_results(study, settings)
        rows = table(study, settings)
    drawn = {trial.params["weights.favorite"] for trial in best}
    kept = {t.params["weights.favorite"] for t in trials if t.params["weights.favorite"] > 0.35}
    assert kept <= drawn
    assert min(drawn) < best[0].params["weights.favorite"] < max(drawn)
    assert rows["measure.value_10"].to_list() == rows["weights.favorite"].to_list()
    assert {TRIALS, "summary.md", "history.png", "slices.png", "front.png"} <= {
        path.name for path in settings.folder.iterdir()
    }


def test_slow_trials_are_pruned(tmp_path):
    """What is below the median after its first chunk goes no further, and counts as finished."""
    trials = climb(config(tmp_path, num_trials=20, sampler={"kind": "random", "num_startup": 4}))
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]

    assert len(trials) == 20
    assert 0 < len(pruned) < 16
    assert all(len(trial.intermediate_values) == 1 for trial in pruned)


def test_another_search_does_not_go_on_with_a_study(tmp_path):
    """Other settings, or other data, are named; more trials are no other settings."""
    settings = config(tmp_path)
    with opened(settings, {"data": 1}) as study:
        name = fingerprint(study)

    with pytest.raises(StudyError, match="data was 1, is 2"), opened(settings, {"data": 2}):
        pass
    other = config(tmp_path, objectives={"value_10": "maximize"})
    with pytest.raises(StudyError, match="objectives was"), opened(other, {"data": 1}):
        pass
    with opened(config(tmp_path, num_trials=99), {"data": 1}) as study:
        assert fingerprint(study) == name


def test_one_tuner_at_a_time(tmp_path):
    """A study that somebody works on is refused; afterwards it is free."""
    settings = config(tmp_path)
    busy = pytest.raises(StudyError, match="another tuner")
    with opened(settings, {}), busy, opened(settings, {}):
        pass
    with opened(settings, {}):
        pass


def test_what_was_cut_short_is_tried_first(tmp_path):
    """A trial that a dead process left under way fails, and its settings come next."""
    settings = config(tmp_path)
    space = distributions(settings.space)
    with opened(settings, {}) as study:
        left = study.ask(space).params

    with opened(settings, {}) as study:
        again = study.ask(space)

    assert again.params == left
    assert [t.state for t in study.get_trials()] == [TrialState.FAIL, TrialState.RUNNING]


def test_half_a_line_is_mended(tmp_path):
    """A process that died while it wrote leaves neither its lock nor its half line in the way."""
    settings = config(tmp_path, num_trials=3)
    before = climb(settings)
    path = settings.folder / JOURNAL
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    os.symlink(path, f"{path}.lock")

    after = climb(config(tmp_path, num_trials=5))

    assert after[:3] == before
    assert len(after) == 5
    for line in path.read_text().splitlines():
        json.loads(line)


def test_a_killed_tuner_repeats_nothing(search_of, tmp_path):
    """SIGKILL in the middle of a study; the next tuner keeps what was finished, to the digit."""
    settings = search_of(num_trials=100_000, num_chunks=1, pruner="none", write=None)
    (tmp_path / "blend.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [sys.executable, "-m", "train.tune", str(tmp_path / "blend.yaml")]
    tuner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _wait_for(settings.folder / JOURNAL, b'"op_code":6', 3, tuner)
    finally:
        tuner.send_signal(signal.SIGKILL)
        tuner.wait()
    before = _trials(tmp_path, settings)
    done = [trial for trial in before if trial.state == TrialState.COMPLETE]
    cut_short = [trial.params for trial in before if trial.state == TrialState.RUNNING]

    after = []
    more = search_of(num_trials=len(done) + 3, num_chunks=1, pruner="none", write=None)
    search(more, lambda study, _: after.extend(study.get_trials()))

    assert len(done) >= 3
    assert [t for t in after if t.number in {d.number for d in done}] == done
    complete = [trial for trial in after if trial.state == TrialState.COMPLETE]
    assert len(complete) == len(done) + 3
    assert len({json.dumps(trial.params) for trial in complete}) == len(complete)
    # Settings are written one by one: of a trial killed between two, those that were are kept.
    for params in cut_short:
        assert any(params.items() <= trial.params.items() for trial in complete)
    assert not [trial for trial in after if trial.state == TrialState.RUNNING]


def _wait_for(path: Path, text: bytes, times: int, process: subprocess.Popen) -> None:
    """Until a file that a process writes holds a text so often."""
    until = time.monotonic() + PATIENCE_S
    while not path.exists() or path.read_bytes().count(text) < times:
        assert process.poll() is None, f"ended by itself: {process.returncode}"
        assert time.monotonic() < until, f"{path}: waited in vain"
        time.sleep(0.01)


def _trials(tmp_path: Path, settings: BlendSearch) -> list[FrozenTrial]:
    """What stands in the journal, as Optuna reads it without touching it."""
    from optuna.storages.journal import JournalFileBackend

    copy = tmp_path / "copy.log"
    whole = (settings.folder / JOURNAL).read_bytes()
    copy.write_bytes(whole[: whole.rfind(b"\n") + 1])
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(copy)))
    return optuna.load_study(study_name=settings.name, storage=storage).get_trials()
