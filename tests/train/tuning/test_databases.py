"""Studies in a database: kept there, one tuner at a time, and told apart from what is none."""

from __future__ import annotations

import optuna
import pytest

from tests.train.tuning.test_study import climb, config
from train.tuning.study import JOURNAL, TUNER, StudyError, opened


def test_a_database_will_do(tmp_path):
    """Where storage names one, trials are kept there, and nothing else changes."""
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    before = climb(config(tmp_path, num_trials=3, storage=storage))
    after = climb(config(tmp_path, num_trials=5, storage=storage))

    assert (len(after), after[:3]) == (5, before)
    assert not (tmp_path / "hill" / JOURNAL).exists()


def test_one_tuner_at_a_time_in_a_database(tmp_path):
    """Also of other folders, until it ends; one that was killed is waited for, here not at all."""
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    here, there = (config(tmp_path / name, storage=storage) for name in ("here", "there"))
    with opened(here, {}) as study:
        sign = dict(study.user_attrs[TUNER])
        with pytest.raises(StudyError, match="another tuner works on this study"):
            climb(there)
    with opened(there, {}) as study:
        assert study.user_attrs[TUNER]["place"].endswith(str(there.folder))
    with opened(here, {}) as study:
        study.set_user_attr(TUNER, sign)  # as a killed one leaves it

    plain = optuna.load_study(study_name="hill", storage=storage)
    plain.set_user_attr(TUNER, sign)
    with opened(here, {}):  # its own folder's lock says that it is dead
        pass
    plain.set_user_attr(TUNER, sign)
    with pytest.raises(StudyError, match="if it was killed, try again in 60 s"):
        climb(there)
    plain.set_user_attr(TUNER, {**sign, "at_s": sign["at_s"] - 61})
    assert len(climb(there)) == there.num_trials


@pytest.mark.parametrize(
    "storage",
    ["nonsense", "", "redis://127.0.0.1", "sqlite:////nowhere/there/studies.db", "oracle://u@h/x"],
)
def test_a_database_that_cannot_be_used_is_told(tmp_path, storage):
    """The setting, and what is expected; never a traceback of the driver."""
    with pytest.raises(StudyError, match=r"storage: .*expected the URL of a database"):
        climb(config(tmp_path, storage=storage))
