"""A study that outlives the process that runs it: opened, resumed, judged.

Trials are kept by Optuna, in a journal file unless a database is named. One tuner at a time works
on a study: a lock on its folder sees to that, and in a database, which tuners of other folders may
share, a sign of life there. So a trial that is under way when another opens it is of a process that
died: it counts as failed and is tried again first. Finished trials are never repeated.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from train.tuning.settings import Search
from train.tuning.space import values

JOURNAL = "journal.log"
MEASURES, IDENTITY, TUNER = "measures", "identity", "tuner"
_BEAT_S, _DEAD_S = 15.0, 60.0  # between signs of life; without one so long, a tuner is dead
# Settings that change neither what a trial is nor what it is worth.
_FREE = {
    *("out", "storage", "num_trials", "num_workers", "max_concurrent", "num_fields", "write"),
    *("num_test_requests", "name"),
}
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class StudyError(ValueError):
    """A study that cannot be gone on with; the text says which and why."""


@contextmanager
def opened(search: Search, made_of: Mapping[str, Any]) -> Iterator[Study]:
    """The study of a search, new or as it was left; nobody else opens it meanwhile.

    Args:
        search: its settings.
        made_of: what else decides what a trial is worth, such as the data's fingerprint.

    Raises:
        StudyError: another process works on it, it is of other settings, or its database cannot
            be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search.folder.mkdir(parents=True, exist_ok=True)
    identity = _identity(search, made_of)
    with _alone(search.folder), _alone_in_database(_study(search), search) as study:
        before = study.user_attrs.get(IDENTITY)
        if before is None:
            study.set_user_attr(IDENTITY, identity)
        elif before != identity:
            raise StudyError(f"{search.folder}: {_differences(before, identity)}")
        study.sampler = _sampler(search, len(study.trials))
        _try_again(study)
        yield study


def _study(search: Search) -> Study:
    try:
        return optuna.create_study(
            study_name=search.name,
            storage=_storage(search),
            directions=list(search.objectives.values()),
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise StudyError(
            f"storage: {reason}; expected the URL of a database that is up and whose driver is "
            "installed, such as sqlite:///studies.db or postgresql+psycopg://user@host/name"
        ) from error


def fingerprint(study: Study) -> str:
    """Names all that decides what the study's trials are worth. 16 hex digits."""
    content = json.dumps(study.user_attrs[IDENTITY], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def finished(study: Study) -> list[FrozenTrial]:
    """Trials that came to an end, pruned ones too; they count towards `num_trials`."""
    return study.get_trials(deepcopy=False, states=_FINISHED)


def note(
    trial: Trial, search: Search, measured: Mapping[str, float], default: Mapping[str, float]
) -> list[float]:
    """Write down what a trial measured and how far it is out of bounds.

    Args:
        trial: under way.
        search: of the study.
        measured: by measure.
        default: what the untuned settings give.

    Returns:
        The objectives' values, in their order.

    Raises:
        StudyError: an objective or a bounded measure was not measured.
    """
    trial.set_user_attr(MEASURES, dict(measured))
    for name, bound in search.constraints.items():
        value = _measure(measured, name, "constraints")
        trial.set_constraint(name, bound.excess(value, default.get(name, float("nan"))))
    return [_measure(measured, name, "objectives") for name in search.objectives]


def feasible(trial: FrozenTrial) -> bool:
    """Whether the trial is complete and within all bounds."""
    return trial.state == TrialState.COMPLETE and all(x <= 0 for x in trial.constraints.values())


def front(study: Study, search: Search) -> list[FrozenTrial]:
    """Trials within bounds of which none is beaten in every objective, the best first.

    Of several objectives that is the one that is least far from the best of each, in shares of
    the range that the front spans; of equals the earlier.
    """
    fit = [trial for trial in study.get_trials(deepcopy=False) if feasible(trial)]
    if not fit:
        return []
    signs = [1 if way == "maximize" else -1 for way in search.objectives.values()]
    points = np.array([trial.values for trial in fit]) * signs
    beaten = [((points >= mine).all(1) & (points > mine).any(1)).any() for mine in points]
    best = np.flatnonzero(~np.array(beaten))
    span = np.ptp(points[best], axis=0)
    shares = (points[best].max(axis=0) - points[best]) / np.where(span > 0, span, 1.0)
    return [fit[at] for at in best[np.argsort((shares**2).sum(axis=1), kind="stable")]]


def settings_of(trial: FrozenTrial | Trial, search: Search) -> dict[str, Any]:
    """The settings that a trial's parameters stand for."""
    return values(search.space, trial.params)


def _measure(measured: Mapping[str, float], name: str, place: str) -> float:
    if name not in measured:
        raise StudyError(f"{place}.{name}: not measured (have: {', '.join(sorted(measured))})")
    value = float(measured[name])
    if value != value:
        raise StudyError(f"{place}.{name}: nothing to measure it on")
    return value


def _identity(search: Search, made_of: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in search.model_dump(mode="json").items() if k not in _FREE}
    return json.loads(json.dumps({**kept, **made_of}))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    what = "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names)
    return f"the study there is another: {what}; give this one another name"


def _storage(search: Search) -> BaseStorage:
    if search.storage is not None:
        return RDBStorage(search.storage)
    path = search.folder / JOURNAL
    _mend(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _mend(path: Path) -> None:
    """Take away what a process that was killed left: its lock, and half a line."""
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)


def _sampler(search: Search, num_before: int) -> BaseSampler:
    # After a restart other random numbers than before it, or they would propose the same again.
    seed, kind, startup = search.seed + num_before, search.sampler.kind, search.sampler.num_startup
    if kind == "cmaes":
        independent = RandomSampler(seed=seed)  # of choices, which CMA-ES cannot move
        return CmaEsSampler(
            n_startup_trials=startup,
            independent_sampler=independent,
            warn_independent_sampling=False,
            seed=seed,
        )
    if kind == "nsga2":
        return NSGAIISampler(population_size=search.sampler.population, seed=seed)
    if kind == "random":
        return RandomSampler(seed=seed)
    return TPESampler(n_startup_trials=startup, seed=seed)


def _try_again(study: Study) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go of when a process dies."""
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StudyError(f"{folder}: another tuner works on this study") from error
        yield


@contextmanager
def _alone_in_database(study: Study, search: Search) -> Iterator[Study]:
    """Give signs of life in the database that keeps the study, if one does.

    Two that open it within the same moment are not told apart.
    """
    if search.storage is None:
        yield study
        return
    place = f"{socket.gethostname()}:{search.folder.resolve()}"
    last = study.user_attrs.get(TUNER)
    # Who was in this very folder is dead: the folder's lock is ours.
    if last and last["place"] != place and (age_s := time.time() - last["at_s"]) < _DEAD_S:
        raise StudyError(
            f"storage: another tuner works on this study: {last['place']}, {age_s:.0f} s ago; if "
            f"it was killed, try again in {_DEAD_S:.0f} s"
        )
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(_BEAT_S):
            with suppress(Exception):  # a database may be away for a while
                study.set_user_attr(TUNER, {"place": place, "at_s": time.time()})

    study.set_user_attr(TUNER, {"place": place, "at_s": time.time()})
    alive = threading.Thread(target=live, daemon=True)
    alive.start()
    try:
        yield study
    finally:
        ended.set()
        alive.join()
        study.set_user_attr(TUNER, None)
