"""`python -m train.prefix_study [--parts PART ...] [key=value ...]`: the study of prefix heads.

Trains every head that the parts ask for, one a CPU of the cluster, measures each on held-out
texts, and writes train/reports/prefix.json, its page and its plots. What a head was measured at is
kept, so that a study that was stopped goes on where it was, and parts can be run one by one: the
report keeps the parts that a command does not name, if its settings and texts are still theirs.
Nothing is chosen by test texts: the settings of a condition are the same on all sets, and the
epoch that a head keeps is the best on validation rows of its training texts.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.data.encode import Pool, over_actors
from pipelines.data.reader import InputError
from train.prefix import jobs
from train.prefix.checks import checks
from train.prefix.earlier import NAME, Earlier, heads_key
from train.prefix.jobs import Job, Kept, Record, Runner, SetData
from train.prefix.parts import arms_of, results_of, set_of, sets, trend
from train.prefix.plots import draw
from train.prefix.study import CLINC, Arms, Runs, StudyConfig, set_data
from train.report import header, plain
from train.report_parts import command, settings_of
from train.report_plots import write_with_plots

DEFAULT = "configs/prefix/study.yaml"
_log = logging.getLogger(__name__)


def study(config: StudyConfig, pool: Pool, runner: Runner) -> Path:
    """Run the parts that the settings name; returns the page's path.

    Sets whose files are missing are left out, and the report says what to fetch.

    Args:
        config: of the study.
        pool: what encodes texts.
        runner: what trains heads.

    Raises:
        InputError: CLINC-150 or the encoder is missing, or the last report cannot be read.
    """
    started = time.monotonic()
    data, stories, left_out = _data(config, pool)
    wanted = [part for part in config.wanted if set_of(config, part) in data]
    before = Earlier.read(config, wanted, stories)
    arms = {part: arms_of(config, part) for part in wanted}
    unique = list(
        dict.fromkeys(job for part in arms.values() for of in part.values() for job in of)
    )
    kept = Kept(Path(config.out))
    num_new = sum(kept.load(job, data[job.set]) is None for job in unique)
    done = dict(zip(unique, jobs.results(unique, data, kept, runner), strict=True))
    head = header(" ".join(s["fingerprint"] for s in stories.values()), config.seeds)
    costs, origin = _cost(arms, done), {key: head[key] for key in ("date", "git_commit")}
    found, made, stories = dict(before.results), dict(before.parts), {**before.data, **stories}
    for part, of in arms.items():
        runs: Runs = {arm: [done[job] for job in wants] for arm, wants in of.items()}
        found[part] = plain(results_of(config, part, runs, stories))
        made[part] = {**costs[part], "heads_key": heads_key(of, stories), **origin}
    order = [part for part in config.all_parts if part in found]
    found = {part: found[part] for part in order} | _over_sets(config, found, stories)
    record = {
        "page": "train.prefix.page",
        "header": head,
        "parts": {part: made[part] for part in order},
        "this_command": {"seconds": time.monotonic() - started, "heads_trained": num_new},
        "settings": config.model_dump(mode="json", exclude={"reports", "parts"}),
        "data": stories,
        "left_out": {name: why for name, why in left_out.items() if name not in stories},
        "checks": checks(found),
        **found,
    }
    return write_with_plots(NAME, record, config.reports, draw)


def _data(
    config: StudyConfig, pool: Pool
) -> tuple[dict[str, SetData], dict[str, Any], dict[str, str]]:
    """What heads are made from, by set; what the report says of it; and which sets are missing."""
    data, stories, left_out = {}, {}, {}
    for name in dict.fromkeys(set_of(config, part) for part in config.wanted):
        try:
            data[name], stories[name] = set_data(name, config, pool)
        except InputError as error:
            if name == CLINC:
                raise
            _log.warning("%s: left out: %s", name, error)
            left_out[name] = str(error)
    return data, stories, left_out


def _over_sets(
    config: StudyConfig, found: Mapping[str, Any], stories: Mapping[str, Any]
) -> dict[str, Any]:
    """What all sets say together, where there are two or more."""
    names = config.set_conditions
    each = {
        texts: found[texts]
        for texts in (CLINC, *config.other_sets)
        if texts in found and set(names) <= set(found[texts]["conditions"])
    }
    if len(each) < 2:
        return {}
    return plain({"sets": sets.results(each, names), "trend": trend.results(each, names, stories)})


def _cost(
    arms: Mapping[str, Arms], done: Mapping[Job, tuple[Record, Any]]
) -> dict[str, dict[str, Any]]:
    """CPU time of each part: heads that an earlier part has trained are counted there."""
    seen: set[Job] = set()
    costs: dict[str, dict[str, Any]] = {}
    for name, part in arms.items():
        own = {job for found in part.values() for job in found} - seen
        seen |= own
        seconds = sum(done[job][0]["seconds"] for job in own)
        costs[name] = {"heads": len(own), "cpu_minutes": seconds / 60}
    return costs


def settings(arguments: Sequence[str]) -> StudyConfig:
    """What the command line asks for.

    Raises:
        ConfigError: a setting or a part that there is not.
    """
    return settings_of(arguments, StudyConfig, DEFAULT, "python -m train.prefix_study", __doc__)


def main() -> int:
    """Study from the command line."""
    return command(lambda given: study(settings(given), over_actors, jobs.over_cluster))


if __name__ == "__main__":
    sys.exit(main())
