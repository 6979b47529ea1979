"""`python -m train CONFIG [key=value ...]`: train one model on Ray, or run a study of several.

A file that says `study: KIND` is a study: a run per seed, measured beside its baselines on the
same rows, written to train/reports/. Of the kind `prefix` it is the runs alone, see
train/prefix/runs.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from configs import ConfigError, load
from train.loop import TrainConfig
from train.prefix.posts import PostsRun, fit_posts
from train.prefix.runs import PrefixRuns, train_heads
from train.runs import read_run
from train.studies.ranking import RankingStudy, ranking
from train.studies.retrieval import RetrievalStudy, retrieval
from train.worker import fit

# What a file's `study` may say -> its settings and what runs it.
STUDIES: dict[str, tuple[type[Any], Callable[[Any], Path]]] = {
    "prefix_posts": (PostsRun, fit_posts),
    "prefix": (PrefixRuns, train_heads),
    "ranking": (RankingStudy, ranking),
    "retrieval": (RetrievalStudy, retrieval),
}


def main() -> int:
    """Train or study, then print where the result is and how it went."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("config", help="a file of configs/ranker/, retrieval/ or prefix/")
    parser.add_argument("overrides", nargs="*", help="settings as a.b=value")
    args = parser.parse_args()
    started = time.monotonic()
    try:
        kind = study_kind(args.config)
        made = _study(kind, args.config, args.overrides) if kind else _run(args)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{made}: {'written' if kind else 'trained'} in {time.monotonic() - started:.0f} s")
    return 0


def study_kind(path: str) -> str | None:
    """What a file's `study` says; None where it says nothing or cannot be read.

    Raises:
        ConfigError: no such study.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError):
        return None  # loading it as a run says what is wrong
    kind = values.get("study") if isinstance(values, dict) else None
    if kind is not None and kind not in STUDIES:
        raise ConfigError(f"{path}: study: {kind!r} is none of {', '.join(STUDIES)}")
    return kind


def _study(kind: str, path: str, overrides: Sequence[str]) -> Path:
    settings, run = STUDIES[kind]
    return run(load(path, settings, overrides))


def _run(args: argparse.Namespace) -> Path:
    folder = fit(load(args.config, TrainConfig, args.overrides))
    _, story = read_run(folder)
    for epoch in story["epochs"]:
        scalars = {name: value for name, value in epoch.items() if not isinstance(value, dict)}
        print("  ".join(f"{name} {value:.4g}" for name, value in scalars.items()))
    return folder


if __name__ == "__main__":
    sys.exit(main())
