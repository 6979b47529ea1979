"""Every study and bench writes its numbers once, as JSON; the page for people is made from that.

`reports/NAME.json` is the record, `reports/NAME.md` a pure function of it: never edited by hand,
made anew with `python -m train.report`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.whole import save_text
from train import git

REPORTS = Path(__file__).parent / "reports"  # of studies
BENCH_REPORTS = Path(__file__).parents[1] / "tests" / "bench" / "reports"


def header(data_fingerprint: str, seeds: Sequence[int]) -> dict[str, Any]:
    """What a reader needs to repeat a study: when, from which code and data, where, how.

    The command is this process's own.
    """
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {module.name.removesuffix('.__main__')}" if module else sys.argv[0]
    # A library may have been put before those of the packages: README, "AMD processors".
    preloaded = [Path(n).name for n in re.split("[: ]", os.environ.get("LD_PRELOAD", ""))]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "git_commit": git.commit(),
        "data_fingerprint": data_fingerprint,
        "machine": f"{_cpu()}, {os.cpu_count()} CPUs, {_gpu()}",
        "software": ", ".join(
            [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
            + [f"{name} preloaded" for name in preloaded if name]
        ),
        "seeds": list(seeds),
        "command": " ".join([program, *sys.argv[1:]]),
    }


def add_out(parser: argparse.ArgumentParser, folder: Path = BENCH_REPORTS) -> None:
    """Give a bench's command the option that says where its report goes, `folder` unless told."""
    parser.add_argument("--out", type=Path, default=folder, help="folder of the report")


def write(name: str, results: dict[str, Any], folder: str | Path = REPORTS) -> Path:
    """Write `folder/NAME.json` and the page made from it; returns the page's path.

    Args:
        name: of the study; the title of the page.
        results: plain values, nested; "header" as `header` gives it. Order is kept, full
            precision too; NaN and infinities, which JSON lacks, become null.
        folder: of the reports.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"name": name, **plain(results)}
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    page = folder / f"{name}.md"
    save_text(folder / f"{name}.json", text)
    save_text(page, markdown(record))
    return page


def markdown(record: dict[str, Any]) -> str:
    """The page of a record as `write` keeps it.

    A group of groups of values is a table with a row each, and so is a list of groups; other
    groups are sections; plain values are a list. Numbers are rounded to four digits here and
    nowhere else. A record whose "page" names a module has the page that its `markdown` makes.
    """
    if "page" in record:
        return str(importlib.import_module(record["page"]).markdown(record))
    body = {key: value for key, value in record.items() if key not in ("name", "header")}
    lines = [f"# {record['name']}", "", f"Made from `{record['name']}.json`; do not edit.", ""]
    lines += _values(record.get("header", {}))
    lines += _section(body, level=2)
    return "\n".join(lines).rstrip() + "\n"


def _section(group: dict[str, Any], level: int) -> Iterator[str]:
    """Lines of a group: its plain values, then each group in it under a heading."""
    inner = {key: _numbered(value) for key, value in group.items()}
    yield from _values({k: v for k, v in inner.items() if not isinstance(v, dict)})
    for key, value in inner.items():
        if not isinstance(value, dict):
            continue
        yield from (f"{'#' * level} {words(key)}", "")
        yield from _table(value) if _is_table(value) else _section(value, level + 1)


def _numbered(value: Any) -> Any:
    """A list of groups as a group named 1, 2, ...; anything else as it is."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return {str(number): item for number, item in enumerate(value, start=1)}
    return value


def _is_table(group: dict[str, Any]) -> bool:
    rows = list(group.values())
    return bool(rows) and all(
        isinstance(row, dict) and not any(isinstance(v, dict) for v in row.values()) for row in rows
    )


def _table(group: dict[str, dict[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(column for row in group.values() for column in row))
    yield f"| | {' | '.join(map(words, columns))} |"
    yield "|---" * (len(columns) + 1) + "|"
    for key, row in group.items():
        yield f"| {words(key)} | {' | '.join(text(row.get(c, '')) for c in columns)} |"
    yield ""


def _values(group: dict[str, Any]) -> list[str]:
    return [f"- {words(key)}: {text(value)}" for key, value in group.items()] + [""] * bool(group)


def words(key: str) -> str:
    """A key as people read it."""
    return key.replace("_", " ")


def text(value: Any) -> str:
    """A plain value as people read it: numbers to four digits, null as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text, value)) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{words(key)} {text(item)}" for key, item in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")


def plain(value: Any) -> Any:
    """Numpy and paths as JSON's own types."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _gpu() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"


def main() -> None:
    """Make every page anew from its record."""
    for file in sorted([*REPORTS.rglob("*.json"), *BENCH_REPORTS.rglob("*.json")]):
        save_text(file.with_suffix(".md"), markdown(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
