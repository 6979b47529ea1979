"""`python -m train.tune CONFIG [key=value ...]`: search settings, on past days, with Optuna.

A file of the kind `run` searches the settings of a training run, one trial a `python -m train`;
one of the kind `blend` those that order a feed, on logged visits that are answered again offline.
A search that was stopped goes on where it was, and num_trials counts what was finished before.
"""

from __future__ import annotations

import argparse
import sys

from optuna.study import Study

from train.tuning.blend_results import finish
from train.tuning.blends import Bench, search
from train.tuning.results import SUMMARY, save_results
from train.tuning.settings import BlendSearch, RunSearch, load_search
from train.tuning.study import front


def main() -> int:
    """Search, write results beside the study, print the best and how to use it."""
    parser = argparse.ArgumentParser(prog="python -m train.tune", description=__doc__)
    parser.add_argument("config", help="a file of configs/tune/")
    parser.add_argument("overrides", nargs="*", help="settings as a.b=value")
    args = parser.parse_args()
    try:
        config = load_search(args.config, args.overrides)
        if isinstance(config, RunSearch):
            tune_run(config)
        else:
            tune_blend(config)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{config.folder / SUMMARY}: results")
    return 0


def tune_run(config: RunSearch) -> None:
    """Search a run's settings."""
    from train.tuning import runs  # brings Ray, which a blend does without

    def end(study: Study) -> None:
        best = front(study, config)
        command = runs.best_command(config, best[0]) if best else None
        save_results(study, config, [f"```sh\n{command}\n```"] if command else [])
        print(f"best: {command}" if command else "no trial is within all bounds")

    runs.search(config, end)


def tune_blend(config: BlendSearch) -> None:
    """Search a feed's blend."""

    def end(study: Study, bench: Bench) -> None:
        written = finish(study, bench, config)
        print(f"{written}: bundle written" if written else "no bundle written; see the results")

    search(config, end)


if __name__ == "__main__":
    sys.exit(main())
