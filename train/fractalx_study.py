"""`python -m train.fractalx_study [--parts PART ...] [key=value ...]`: what the field adds.

Measures the interference field as published and as guarded, alone and as features of boosted
trees, beside popularity, cosine, nearest liked posts and the same kernels without waves, and
writes train/reports/fractalx.json, its page and its plots. Parts can be made one by one: the
report keeps those that a command does not name, if they were made by the same settings and data.
Sets whose files are missing are left out, and the report says what to fetch; the short-video log
comes with the project. One process, one thread, no Ray.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from train.interference.checks import checks
from train.interference.conclusion import conclusion
from train.interference.parts import SECTIONS
from train.interference.plots import draw
from train.interference.study import PARTS, StudyConfig, World
from train.report import header, plain
from train.report_parts import command, last_record, settings_key, settings_of, still_true
from train.report_plots import write_with_plots

NAME = "fractalx"
DEFAULT = "configs/fractalx/study.yaml"
_log = logging.getLogger(__name__)


def study(config: StudyConfig) -> Path:
    """Make the parts that the settings name; returns the page's path.

    Raises:
        InputError: the last report cannot be read.
    """
    torch.set_num_threads(1)
    world = World(config)
    head = header("", [config.split.seed, *range(config.num_seeds)])  # of the code that runs now
    _last(config)  # one that cannot be read is said before the work
    found: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for part in config.wanted:
        _log.info("%s", part)
        started = time.process_time()
        found[part] = plain(SECTIONS[part].results(world))
        made[part] = {
            "cpu_minutes": (time.process_time() - started) / 60,
            "settings_key": _key(config, part),
            **{name: head[name] for name in ("date", "git_commit")},
        }
    prints = {name: story["fingerprint"] for name, story in world.stories.items()}
    made = {part: {**of, "data": prints} for part, of in made.items()}
    last = _last(config)  # as it is now: other parts may have been made meanwhile
    stories = {**last.get("data", {}), **world.stories}
    known = {name: story["fingerprint"] for name, story in stories.items()}
    for part in still_true(last, config.wanted, partial(_key, config), known):
        found.setdefault(part, last[part])
        made.setdefault(part, last["parts"][part])
    head["data_fingerprint"] = " ".join(f"{n} {of['fingerprint']}" for n, of in stories.items())
    missing = {**last.get("left_out", {}), **world.left_out}
    order = [part for part in PARTS if part in found]
    record = {
        "page": "train.interference.page",
        "header": head,
        "parts": {part: made[part] for part in order},
        "settings": config.model_dump(mode="json", exclude={"reports", "parts"}),
        "data": stories,
        "left_out": {name: why for name, why in missing.items() if name not in stories},
        "checks": checks(found),
        **{part: found[part] for part in order},
        "conclusion": conclusion(found),
    }
    return write_with_plots(NAME, record, config.reports, draw)


def _key(config: StudyConfig, part: str) -> str:
    """The same for settings that make the same results of a part."""
    return settings_key(config, {*SECTIONS[part].SETTINGS, *(() if config.texts else ("texts",))})


def _last(config: StudyConfig) -> dict[str, Any]:
    return last_record(Path(config.reports) / f"{NAME}.json")


def settings(arguments: Sequence[str]) -> StudyConfig:
    """What the command line asks for.

    Raises:
        ConfigError: a setting or a part that there is not.
    """
    return settings_of(arguments, StudyConfig, DEFAULT, "python -m train.fractalx_study", __doc__)


def main() -> int:
    """Study from the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return command(lambda given: study(settings(given)))


if __name__ == "__main__":
    sys.exit(main())
