r"""What was served, and what viewers did with it, become events to learn from.

    python -m pipelines.data.outcomes --impressions artifacts/events \
        --engagements artifacts/live/engagements --out artifacts/outcomes

An impression gets its outcome once its window has closed; until then it is left out and counted,
and comes with a later run. `attribution` says what belongs to what. A run reads all of its input
again, so an engagement that is told late changes what an earlier run said. The same rows give
the same events and in the same order, however they are spread over files.

What to know before training on it:

- False is said of an action that could have been told. Without --observed that is any action,
  from the first time that anybody told it: if a part of the clients never tells it, their
  viewers' False is untrue. Name with --observed what every client tells.
- A False is also what a lost message leaves behind.
- An act counts at the time when its post was shown, as in every log of events. With a long
  window histories and running rates hold acts up to that much early; `within_s` of the summary
  says how soon acts came, so that the window can be as short as they allow.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import AwareDatetime, Field, PositiveInt, field_validator
from rich.console import Console

from configs import Config, ConfigError, near_miss
from configs import check as check_settings
from pipelines.data import attribution, served, tables
from pipelines.data.attribution import ALWAYS, IMPRESSIONS, REASONS, WAITING, Rule
from pipelines.data.gather import write
from pipelines.data.reader import InputError
from pipelines.data.served import Parts
from pipelines.data.split import to_ms
from pipelines.schema import ACTION_NAMES, ENGAGEMENTS, EVENTS
from pipelines.whole import new_folder, save_json

SUMMARY = "summary.json"
UNATTRIBUTED = "unattributed.parquet"
WITHIN_S = (1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600)
_DISCRETE = [name for name in ACTION_NAMES if name != "dwell_time"]
_Counts = Counter[tuple[str, str]]  # by group and name, as in the summary


class OutcomeConfig(Config):
    """One run; places are files, folders or globs, on disk or at any fsspec URL."""

    impressions: list[str] = Field(min_length=1)  # of schema.EVENTS, as the feed writes them
    engagements: list[str] = Field(min_length=1)  # of schema.ENGAGEMENTS
    out: str = "artifacts/outcomes"
    # An act belongs to an impression if less time than this has passed.
    window_h: float = Field(default=24.0, gt=0, le=24 * 365)
    # Windows that end later are open; null = when the newest impression was shown.
    until: AwareDatetime | None = None
    # Actions that every client tells: not told is not done, and for dwell_time 0 s. null = each
    # action from the first time that it was told; dwell_time only where it was told.
    observed: list[str] | None = None
    partition_rows: PositiveInt = 131_072  # rows held at a time, about

    @field_validator("observed")
    @classmethod
    def _actions_exist(cls, observed: list[str] | None) -> list[str] | None:
        for name in observed or ():
            if name not in ACTION_NAMES:
                raise ValueError(f"{name!r}: no such action{near_miss(name, ACTION_NAMES)}")
        return observed


def outcomes(config: OutcomeConfig) -> dict[str, Any]:
    """Write `out/events/*.parquet`, `out/unattributed.parquet` and `out/summary.json`.

    Events are those of schema.EVENTS that the `logs` reader takes. Engagements that belong to no
    impression are in the second file, each with its reason.

    Returns:
        The summary. Counts of rows, each group adding up to what was read.

    Raises:
        InputError: input that breaks the contract, with file, row, column and value; no
            impression; an `until` in the future; an `out` that holds something else. `out` is
            then as it was.
    """
    out, now_ms = Path(config.out), int(time.time() * 1000)
    if config.until and to_ms(config.until) > now_ms:
        raise InputError(f"until {config.until}: in the future; no window has closed by then")
    if out.exists() and any(out.iterdir()) and not (out / SUMMARY).exists():
        raise InputError(f"{out}: holds files that this command did not write; give another --out")
    shown = tables.fragments(EVENTS, config.impressions, "--impressions must be what was served")
    told = tables.fragments(ENGAGEMENTS, config.engagements, "--engagements must be what was told")
    num_rows = sum(fragment.num_rows for fragment in (*shown, *told))
    with new_folder(out) as made:
        scratch = made / "scratch"
        for folder in (scratch, made / "events"):
            folder.mkdir()
        parts = Parts(scratch, max(1, -(-num_rows // config.partition_rows)))
        impressions = parts.deal("shown", served.impressions(shown, now_ms), IMPRESSIONS)
        engagements = parts.deal("told", served.engagements(told), ENGAGEMENTS.arrow)
        if parts.newest_ms is None:
            raise InputError(f"{', '.join(config.impressions)}: no impression is there")
        until_ms = to_ms(config.until) if config.until else parts.newest_ms
        observed = _observed(config.observed, engagements, parts)
        rule = Rule(round(config.window_h * 3_600_000), until_ms, observed)
        counts = _label(impressions, engagements, parts, rule, [f.path for f in shown], made)
        shutil.rmtree(scratch)
        summary = _summary(counts, rule, config.observed)
        save_json(made / SUMMARY, summary)
    return summary


def _observed(given: list[str] | None, engagements: list[str], parts: Parts) -> dict[str, int]:
    """`Rule.observed_from_ms` of the settings."""
    if given is not None:
        return {"dwell_time": 0} | dict.fromkeys(given, ALWAYS)
    first_ms: dict[str, int] = {}
    for partition in range(parts.num):
        rows = parts.read(engagements, partition, ENGAGEMENTS.arrow)
        once = attribution.unique_engagements(rows)
        for name, at_ms in once.group_by("action").agg(pl.col("at_ms").min()).iter_rows():
            first_ms[name] = min(at_ms, first_ms.get(name, at_ms))
    return {name: first_ms[name] for name in ACTION_NAMES if name in first_ms}


def _label(
    impressions: list[str],
    engagements: list[str],
    parts: Parts,
    rule: Rule,
    files: list[str],
    made: Path,
) -> _Counts:
    """Write what came of every impression, partition after partition; how many rows went where."""
    counts: _Counts = Counter()
    schema = attribution.unattributed_schema()
    with pq.ParquetWriter(made / UNATTRIBUTED, schema, compression="zstd") as unattributed:
        for partition in range(parts.num):
            rows = parts.read(impressions, partition, IMPRESSIONS)
            shown = attribution.unique_impressions(rows, files)
            all_told = parts.read(engagements, partition, ENGAGEMENTS.arrow)
            told = attribution.unique_engagements(all_told)
            attributed = attribution.attribute(told, shown, rule)
            table = attribution.label(shown, attributed, rule)
            write([table], EVENTS.arrow, str(made), f"events/part-{partition:05d}.parquet")
            left = attributed.filter(pl.col("reason").is_in(REASONS)).select(schema.names)
            unattributed.write_table(left.to_arrow().cast(schema))
            counts.update(_shown_counts(rows, shown, table))
            counts.update(_told_counts(all_told, attributed))
    return counts


def _shown_counts(rows: pl.DataFrame, unique: pl.DataFrame, labelled: pa.Table) -> _Counts:
    known = {name: pc.sum(labelled[name]).as_py() or 0 for name in _DISCRETE}
    known["dwell_time"] = len(labelled) - labelled["dwell_s"].null_count
    return Counter(
        {
            ("impressions", "read"): len(rows),
            ("impressions", "duplicates"): len(rows) - len(unique),
            ("impressions", "open"): len(unique) - len(labelled),
            ("impressions", "labelled"): len(labelled),
            **{("labels", name): num for name, num in known.items()},
        }
    )


def _told_counts(rows: pl.DataFrame, attributed: pl.DataFrame) -> _Counts:
    counting = attributed.filter(pl.col("reason").is_null())
    late_ms = (counting["at_ms"] - counting["shown_at_ms"]).to_numpy()
    reasons = attributed["reason"].drop_nulls().value_counts().iter_rows()
    return Counter(
        {
            ("engagements", "read"): len(rows),
            ("engagements", "duplicates"): len(rows) - len(attributed),
            ("engagements", "attributed"): len(counting),
            **{("engagements", reason): num for reason, num in reasons},
            **{("within_s", str(s)): int((late_ms <= s * 1000).sum()) for s in WITHIN_S},
        }
    )


def _summary(counts: _Counts, rule: Rule, given: list[str] | None) -> dict[str, Any]:
    names = {
        "impressions": ("read", "duplicates", "open", "labelled"),
        "engagements": ("read", "duplicates", "attributed", WAITING, *REASONS),
        "labels": ACTION_NAMES,
        "within_s": tuple(map(str, WITHIN_S)),
    }
    since = {name: f"from {at_ms} ms" for name, at_ms in rule.observed_from_ms.items()}
    return {
        "until_ms": rule.until_ms,
        "window_ms": rule.window_ms,
        "observed": since if given is None else given,
        **{group: {n: counts[group, n] for n in inside} for group, inside in names.items()},
    }


def show(summary: dict[str, Any], out: str, console: Console) -> None:
    """Print what went where."""
    for name in ("impressions", "engagements"):
        rows = summary[name]
        parts = [f"{num:,} {what}" for what, num in rows.items() if what != "read"]
        console.print(f"{name}: {rows['read']:,} read: {', '.join(parts)}", soft_wrap=True)
    done = [f"{name} {num:,}" for name, num in summary["labels"].items() if num]
    console.print(f"of the labelled: {', '.join(done) or 'nothing was done'}", soft_wrap=True)
    console.print(f"written to {out}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Label what was served, from the command line; 1 and a message when input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.data.outcomes",
        description="Give impressions their outcomes, as events to learn from.",
    )
    fields = OutcomeConfig.model_fields
    parser.add_argument("--impressions", nargs="+", default=["artifacts/events"])
    parser.add_argument("--engagements", nargs="+", default=["artifacts/live/engagements"])
    parser.add_argument("--out", default=fields["out"].default, help="folder to write")
    parser.add_argument("--window-h", default=fields["window_h"].default, help="hours")
    parser.add_argument("--until", help="2026-01-08T00:00:00Z; windows that end later are open")
    parser.add_argument("--observed", help="favorite,reply,...: what every client tells")
    values = vars(parser.parse_args(arguments))
    if values["observed"] is not None:
        values["observed"] = [name.strip() for name in values["observed"].split(",")]
    try:
        config = check_settings(values, OutcomeConfig, place="outcomes")
        show(outcomes(config), config.out, Console())
    except (ConfigError, InputError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
