"""`python -m train.prefix_study [--parts PART ...] [key=value ...]`: the study of prefix heads.

Trains every head that the parts ask for, one a CPU of the cluster, measures each on held-out
texts, and writes train/reports/prefix.json, its page and its plots. What a head was measured at is
kept, so that a study that was stopped goes on where it was, and parts can be run one by one: the
report keeps the parts that a command does not name, if its settings and texts are still theirs.
Nothing is chosen by test texts: the settings of a condition are the same on all sets, and the
epoch that a head keeps is the best on validation rows of its training texts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs import ConfigError, load
from pipelines.data.encode import Pool, over_actors
from pipelines.data.reader import InputError
from train.prefix import jobs
from train.prefix.checks import checks
from train.prefix.jobs import Job, Kept, Record, Runner, SetData
from train.prefix.page import PARTS
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
    before = _before(config, stories)
    arms = _arms(config, config.parts, data)
    wanted = [job for part in arms.values() for found in part.values() for job in found]
    unique = list(dict.fromkeys(wanted))
    kept = Kept(Path(config.out))
    num_new = sum(kept.load(job, data[job.set]) is None for job in unique)
    done = dict(zip(unique, jobs.results(unique, data, kept, runner), strict=True))
    head = header(" ".join(s["fingerprint"] for s in stories.values()), config.seeds)
    found: dict[str, Any] = {}
    made: dict[str, Any] = {}
    costs = _cost(arms, done)
    for name in StudyConfig().parts:
        if name in arms:
            runs: Runs = {arm: [done[job] for job in of] for arm, of in arms[name].items()}
            found[name] = plain(PARTS[name].results(_of(config, data), runs, stories))
            made[name] = {
                **costs[name],
                "heads_key": _key(arms[name], stories),
                "date": head["date"],
                "git_commit": head["git_commit"],
            }
        elif name in before["parts"]:
            found[name], made[name] = before[name], before["parts"][name]
    record = {
        "page": "train.prefix.page",
        "header": head,
        "parts": made,
        "this_command": {"seconds": time.monotonic() - started, "heads_trained": num_new},
        "settings": config.model_dump(mode="json", exclude={"reports", "parts"}),
        "data": before["data"] | stories,
        "left_out": before["left_out"] | left_out,
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


def _of(config: StudyConfig, known: Iterable[str]) -> StudyConfig:
    """The settings without the sets whose texts are not known."""
    sets = {name: sizes for name, sizes in config.sets.items() if name in set(known)}
    return config.model_copy(update={"sets": sets})


def _arms(config: StudyConfig, parts: Iterable[str], known: Iterable[str]) -> dict[str, Arms]:
    """What each part trains on the sets that are known."""
    config = _of(config, known)
    return {name: PARTS[name].arms(config) for name in parts}


def _key(arms: Arms, stories: Mapping[str, Any]) -> str:
    """The same for the same heads of the same texts."""
    keys = [job.key(stories[job.set]["fingerprint"]) for of in arms.values() for job in of]
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:12]


def _before(config: StudyConfig, stories: Mapping[str, Any]) -> dict[str, Any]:
    """The last report, with those parts alone that these settings and texts would make again."""
    nothing: dict[str, Any] = {"parts": {}, "data": {}, "left_out": {}}
    file = Path(config.reports) / "prefix.json"
    try:
        last = nothing | json.loads(file.read_text())
    except OSError:
        return nothing
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}); remove it to begin a new report") from None
    texts = last["data"] | stories
    others = [name for name in last["parts"] if name not in config.parts]
    same = [
        name
        for name, arms in _arms(config, others, texts).items()
        if _key(arms, texts) == last["parts"][name]["heads_key"]
    ]
    if gone := sorted(set(others) - set(same)):
        _log.warning("%s: left out: %s, made of other settings or texts", file, ", ".join(gone))
    return last | {
        "parts": {name: last["parts"][name] for name in same},
        "left_out": {name: why for name, why in last["left_out"].items() if name not in stories},
    }


def _cost(arms: Mapping[str, Arms], done: Mapping[Job, tuple[Record, Any]]) -> dict[str, Any]:
    """CPU time of each part: heads that an earlier part has trained are counted there."""
    seen: set[Job] = set()
    costs: dict[str, Any] = {}
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
    parser = argparse.ArgumentParser(prog="python -m train.prefix_study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", default=DEFAULT, help=f"default {DEFAULT}")
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help="only these parts")
    parser.add_argument("overrides", nargs="*", help="settings as a.b=value")
    args = parser.parse_intermixed_args(arguments)
    parts = [part for part in args.parts if "=" not in part]
    overrides = [*args.overrides, *(part for part in args.parts if "=" in part)]  # behind --parts
    if parts:
        overrides.append(f"parts=[{', '.join(parts)}]")
    return load(args.config, StudyConfig, overrides)


def main() -> int:
    """Study from the command line."""
    try:
        page = study(settings(sys.argv[1:]), over_actors, jobs.over_cluster)
    except (ConfigError, InputError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{page}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
