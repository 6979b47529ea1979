"""`python -m train.preference.study [--parts PART ...] [key=value ...]`: whose preferences count.

Who gains and who loses when weights are learned for one stakeholder, and what foretells it: on
the public sets whose files are in the folder `data`, on the made-up pool, on what people showed,
and on a ranker of a made-up world. Writes train/reports/preference.json, its page and its plots;
published figures stand beside ours with a verdict each.

Parts can be made one by one: the report keeps those that a command does not name, if they were
made by the same settings; their data are not looked at again. What is missing is left out, and the
report says what to fetch. No Ray. Of a study of all parts a check holds the time against ten
minutes.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipelines.data.reader import InputError
from train.preference import protocol
from train.preference.checks import checks, in_time
from train.preference.claims import claims
from train.preference.parts import MAKE
from train.preference.plots import draw
from train.preference.settings import PARTS, READS, REAL, SETS, StudyConfig
from train.report import header, plain
from train.report_parts import command, last_record, settings_key, settings_of, still_true
from train.report_plots import write_with_plots

NAME = "preference"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """A part that was made: its results, the fingerprint of its data, and what it took."""

    results: Any
    print: str
    seconds: dict[str, float] = field(default_factory=dict)


def study(config: StudyConfig) -> Path:
    """Make the parts that the settings name and the files allow; returns the page's path.

    Raises:
        InputError: the last report cannot be read.
        BundleError, ValueError: of the bundle whose ranker is asked.
    """
    file = Path(config.reports) / f"{NAME}.json"
    last_record(file)  # one that cannot be read is said before the work
    started = time.monotonic()
    head = header("", config.seeds)  # of the code that runs now
    made, missing = _make_all(config)
    wall = time.monotonic() - started
    last = last_record(file)  # as it is now: other parts may have been made meanwhile
    prints = {part: of.print for part, of in made.items()}
    found = {part: plain(of.results) for part, of in made.items()}
    parts = {
        part: {
            **of.seconds,
            "settings_key": _key(config, part),
            "data": {part: of.print},
            **{name: head[name] for name in ("date", "git_commit")},
        }
        for part, of in made.items()
    }
    for part in still_true(last, config.wanted, partial(_key, config), prints):
        found[part], parts[part] = _of(last, part), last["parts"][part]
    parts = {part: parts[part] for part in PARTS if part in parts}
    head["data_fingerprint"] = " ".join(f"{name} {of['data'][name]}" for name, of in parts.items())
    left_out = {**last.get("left_out", {}), **missing}
    results = {
        "sets": {name: found[name] for name in SETS if name in found},
        **{part: found.get(part) for part in PARTS if part not in (*SETS, *REAL)},
        "audit": plain(protocol.audits()),
        "real": {name: found[name] for name in REAL if name in found},
    }
    record = {
        "page": "train.preference.page",
        "header": head,
        "parts": parts,
        "settings": config.model_dump(mode="json", exclude={"reports", "parts"}),
        "wall_seconds": wall,
        "left_out": {name: why for name, why in left_out.items() if name not in found},
        "checks": checks(results) + (in_time(wall) if config.wanted == PARTS else []),
        "claims": claims(results),
        **results,
    }
    return write_with_plots(NAME, record, config.reports, draw)


def _of(record: Mapping[str, Any], part: str) -> Any:
    """Where a report holds a part."""
    group = "sets" if part in SETS else "real" if part in REAL else None
    return record[group][part] if group else record[part]


def _key(config: StudyConfig, part: str) -> str:
    return settings_key(config, READS[part])


def _make_all(config: StudyConfig) -> tuple[dict[str, Made], dict[str, str]]:
    """The parts that could be made, and of those that could not what to fetch."""
    # The last parts take longest: begun first they do not keep one worker busy alone.
    works = {part: partial(_make, part, config) for part in reversed(config.wanted)}
    done = _run(works, config.num_workers)
    missing = {part: of for part, of in done.items() if isinstance(of, str)}
    for part, why in missing.items():
        _log.warning("%s: left out: %s", part, why)
    return {part: of for part, of in done.items() if isinstance(of, Made)}, missing


def _make(part: str, config: StudyConfig) -> Made | str:
    started, busy = time.monotonic(), time.process_time()
    try:
        results, print_ = MAKE[part](config)
    except InputError as error:
        return str(error)
    wall, cpu = time.monotonic() - started, time.process_time() - busy
    return Made(results, print_, {"wall_seconds": wall, "cpu_minutes": cpu / 60})


def _run(works: Mapping[str, Callable[[], Made | str]], num_workers: int) -> dict[str, Made | str]:
    """What each gives; in one process, or in as many as there are workers."""
    if num_workers == 1:
        return {name: work() for name, work in works.items()}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, spawn, torch.set_num_threads, (1,)) as pool:
        futures = {name: pool.submit(work) for name, work in works.items()}
        return {name: future.result() for name, future in futures.items()}


def settings(arguments: Sequence[str]) -> StudyConfig:
    """What the command line asks for.

    Raises:
        ConfigError: a setting or a part that there is not.
    """
    return settings_of(arguments, StudyConfig, None, "python -m train.preference.study", __doc__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Study from the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return command(lambda given: study(settings(given)), arguments)


if __name__ == "__main__":
    sys.exit(main())
