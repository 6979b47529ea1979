"""`python -m train.prefix_study [--parts PART ...] [key=value ...]`: the study of prefix heads.

Trains every head that the parts ask for, one a CPU of the cluster, measures each on held-out
texts, and writes train/reports/prefix.json, its page and its plots. What a head was measured at is
kept, so that a study that was stopped goes on where it was, and parts can be run one by one.
Nothing is chosen by test texts: the settings of a condition are the same on all sets, and the
epoch that a head keeps is the best on validation rows of its training texts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from configs import ConfigError, load
from pipelines.data.encode import Pool, over_actors
from pipelines.data.reader import InputError
from train.prefix import jobs
from train.prefix.checks import checks
from train.prefix.jobs import Job, Kept, Record, Runner, SetData
from train.prefix.plots import draw
from train.prefix.study import Arms, Runs, StudyConfig, set_data
from train.report import header, plain, write

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
        InputError: CLINC-150 or the encoder is missing.
    """
    started = time.monotonic()
    data, stories, left_out = _data(config, pool)
    config = config.model_copy(
        update={"sets": {name: sizes for name, sizes in config.sets.items() if name in data}}
    )
    parts = {name: importlib.import_module(f"train.prefix.parts.{name}") for name in config.parts}
    arms: dict[str, Arms] = {name: part.arms(config) for name, part in parts.items()}
    wanted = [job for part in arms.values() for found in part.values() for job in found]
    unique = list(dict.fromkeys(wanted))
    kept = Kept(Path(config.out))
    num_new = sum(kept.load(job, data[job.set]) is None for job in unique)
    done = dict(zip(unique, jobs.results(unique, data, kept, runner), strict=True))
    found: dict[str, Any] = {}
    for name, part in parts.items():
        runs: Runs = {arm: [done[job] for job in of] for arm, of in arms[name].items()}
        found[name] = plain(part.results(config, runs, stories))
    record = {
        "page": "train.prefix.page",
        "header": header(" ".join(s["fingerprint"] for s in stories.values()), config.seeds),
        "cost": {
            "parts": _cost(arms, done),
            "this_command_s": time.monotonic() - started,
            "heads_trained_by_it": num_new,
        },
        "settings": config.model_dump(mode="json"),
        "data": stories,
        "left_out": left_out,
        "checks": checks(found),
        **found,
    }
    page = write("prefix", record, config.reports)
    try:
        draw(json.loads(page.with_suffix(".json").read_text()), page.parent)
    except ImportError as error:
        _log.warning("no plots: %s", error)
    return page


def _data(
    config: StudyConfig, pool: Pool
) -> tuple[dict[str, SetData], dict[str, Any], dict[str, str]]:
    """What heads are made from, by set; what the report says of it; and which sets are missing."""
    data, stories, left_out = {}, {}, {}
    needed = {"sets", "trend"} & set(config.parts)
    for name in config.sets if needed else ("clinc",):
        try:
            data[name], stories[name] = set_data(name, config, pool)
        except InputError as error:
            if name == "clinc":
                raise
            _log.warning("%s: left out: %s", name, error)
            left_out[name] = str(error)
    return data, stories, left_out


def _cost(arms: dict[str, Arms], done: dict[Job, tuple[Record, Any]]) -> dict[str, Any]:
    """CPU time of each part: heads that an earlier part has trained are counted there."""
    seen: set[Job] = set()
    costs: dict[str, Any] = {}
    for name, part in arms.items():
        own = {job for found in part.values() for job in found} - seen
        seen |= own
        seconds = sum(done[job][0]["seconds"] for job in own)
        costs[name] = {"heads": len(own), "cpu_minutes": seconds / 60}
    heads = sum(cost["heads"] for cost in costs.values())
    minutes = sum(cost["cpu_minutes"] for cost in costs.values())
    return {**costs, "all": {"heads": heads, "cpu_minutes": minutes}}


def main() -> int:
    """Study from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.prefix_study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", default=DEFAULT, help=f"default {DEFAULT}")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these parts")
    parser.add_argument("overrides", nargs="*", help="settings as a.b=value")
    args = parser.parse_intermixed_args()
    parts, overrides = args.parts or [], list(args.overrides)
    overrides += [part for part in parts if "=" in part]  # argparse takes them for parts
    parts = [part for part in parts if "=" not in part]
    if parts:
        overrides.append(f"parts=[{', '.join(parts)}]")
    try:
        config = load(args.config, StudyConfig, overrides)
        page = study(config, over_actors, jobs.over_cluster)
    except (ConfigError, InputError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{page}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
