"""Which impression an engagement belongs to, and what came of each impression.

Plain functions over all rows of some viewers. The rule, for an engagement of a viewer with a post:

- Its impressions are those of this viewer and this post that were shown no later than it was done,
  and of these only those of the request that it names, if there are any.
- It belongs to the newest of them, if it was done before that one's window ended. So it belongs to
  one at most.

What an impression gets depends on nothing that was shown or done after its window ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.data.reader import InputError
from pipelines.schema import ACTION_NAMES, ACTIONS, DWELL_TIME, ENGAGEMENTS, EVENTS

ALWAYS = -1  # of `Rule.observed_from_ms`: before all times
# Of an impression: what the log says of it, then the file (a number) and row it came from.
_SHOWN = [f for f in EVENTS.arrow if f.name not in {*ACTION_NAMES, "dwell_s"}]
IMPRESSIONS = pa.schema([*_SHOWN, ("fragment", pa.int32()), ("row", pa.int64())])
_CONTENT = [field.name for field in _SHOWN]
_IN_ORDER = list(
    dict.fromkeys(("user_id", "shown_at_ms", "position", "request_id", "post_id", *_CONTENT))
)
_PAIR = ["user_id", "post_id"]
_NEVER = np.iinfo(np.int64).max
# Why an engagement belongs to no impression.
NO_IMPRESSION = "no impression"
BEFORE_SHOWN = "before shown"
TOO_LATE = "too late"
UNKNOWN_ACTION = "unknown action"
NOT_OBSERVED = "not observed"
REASONS = (NO_IMPRESSION, BEFORE_SHOWN, TOO_LATE, UNKNOWN_ACTION, NOT_OBSERVED)
WAITING = "waiting"  # it belongs to an impression whose window is open


@dataclass(frozen=True)
class Rule:
    """When an outcome is known, and which.

    Attributes:
        window_ms: an impression's window ends this long after it was shown.
        until_ms: windows that end later are open.
        observed_from_ms: action -> an impression whose window ends later has it observed; an
            action that is not there is observed by none, and dwell_time wherever it was told,
            unless it is ALWAYS. ms since 1970-01-01 UTC.
    """

    window_ms: int
    until_ms: int
    observed_from_ms: Mapping[str, int]


def unique_impressions(rows: pl.DataFrame, files: Sequence[str]) -> pl.DataFrame:
    """Each impression once, by viewer and time; of equal rows one stays.

    Args:
        rows: columns of IMPRESSIONS, whole viewers, in any order.
        files: name of each `fragment`, for messages.

    Raises:
        InputError: one event_id of one viewer names rows that differ.
    """
    kept = rows.sort(*_IN_ORDER, "fragment", "row").unique(
        _CONTENT, keep="first", maintain_order=True
    )
    named = kept.drop_nulls("event_id")
    clash = named.filter(pl.struct("user_id", "event_id").is_duplicated())
    if len(clash):
        same = clash.filter(event_id=clash["event_id"][0], user_id=clash["user_id"][0])
        first, second = sorted((files[f], r) for f, r in same.select("fragment", "row").rows())[:2]
        raise InputError(
            f"{second[0]}: row {second[1]}, column event_id: {clash['event_id'][0]!r}: "
            f"duplicate key: {first[0]} row {first[1]} differs"
        )
    return kept


def unique_engagements(rows: pl.DataFrame) -> pl.DataFrame:
    """Each engagement once; columns of schema.ENGAGEMENTS, whole viewers, in any order.

    Of rows with one event_id of one viewer the earliest counts: one that is told again without a
    time is stamped anew.
    """
    order = dict.fromkeys(("user_id", "event_id", "at_ms", *rows.columns))
    by_time = rows.sort(*order).unique(["user_id", "event_id"], keep="first", maintain_order=True)
    return by_time.sort("user_id", "at_ms", "event_id")


def attribute(engagements: pl.DataFrame, impressions: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """Where each engagement belongs.

    Args:
        engagements: of `unique_engagements`.
        impressions: of `unique_impressions`, the same viewers.
        rule: `observed_from_ms` holds the actions that count.

    Returns:
        The engagements in their order, with `at`, the row of the impression (null = none), its
        `shown_at_ms`, and `reason`: one of REASONS, WAITING, or null where it counts.
    """
    told = engagements.with_row_index("told")
    shown = impressions.select(*_PAIR, "request_id", "shown_at_ms").with_row_index("at")
    named = _newest(told.drop_nulls("request_id"), shown, [*_PAIR, "request_id"])
    others = told.join(named.drop_nulls("at"), on="told", how="anti")
    known = others.join(shown, on=_PAIR, how="semi").select("told", has=pl.lit(True))
    found = pl.concat(
        [
            named.drop_nulls("at").with_columns(has=pl.lit(True)),
            _newest(others, shown.drop("request_id"), _PAIR).join(known, on="told", how="left"),
        ]
    ).sort("told")
    end_ms = pl.col("shown_at_ms") + rule.window_ms
    reason = (
        pl.when(~pl.col("action").is_in(ACTION_NAMES))
        .then(pl.lit(UNKNOWN_ACTION))
        .when(~pl.col("action").is_in(list(rule.observed_from_ms)))
        .then(pl.lit(NOT_OBSERVED))
        .when(pl.col("has").is_null())
        .then(pl.lit(NO_IMPRESSION))
        .when(pl.col("at").is_null())
        .then(pl.lit(BEFORE_SHOWN))
        .when(pl.col("at_ms") >= end_ms)
        .then(pl.lit(TOO_LATE))
        .when(end_ms > rule.until_ms)
        .then(pl.lit(WAITING))
    )
    return found.with_columns(reason=reason).select(
        *engagements.columns, "at", "shown_at_ms", "reason"
    )


def label(impressions: pl.DataFrame, attributed: pl.DataFrame, rule: Rule) -> pa.Table:
    """Impressions whose window has closed, with what came of them.

    Args:
        impressions: of `unique_impressions`.
        attributed: what `attribute` gave for them.
        rule: the same.

    Returns:
        Columns of schema.EVENTS in the order of `impressions`. `dwell_s` adds up what was told;
        where nothing was it is null, or 0 if dwell_time is ALWAYS observed.
    """
    counting = attributed.filter(pl.col("reason").is_null())
    numbers = {name: number for number, name in enumerate(ACTION_NAMES)}
    action = counting["action"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy()
    at = counting["at"].to_numpy()
    did = np.zeros((len(ACTIONS), len(impressions)), bool)
    did[action, at] = True
    # In the order of `attributed`, so that the sum is the same to the bit.
    stayed = np.where(action == DWELL_TIME, counting["dwell_s"].fill_null(0).to_numpy(), 0)
    dwell_s = np.bincount(at, stayed, len(impressions)).astype(np.float32)
    end_ms = impressions["shown_at_ms"].to_numpy() + rule.window_ms
    columns = {f.name: impressions[f.name].to_arrow().cast(f.type) for f in _SHOWN}
    for number, name in enumerate(ACTION_NAMES):
        from_ms = rule.observed_from_ms.get(name, _NEVER)
        if number == DWELL_TIME:
            columns["dwell_s"] = pa.array(dwell_s, mask=~did[number] & (from_ms != ALWAYS))
        else:
            columns[name] = pa.array(did[number], mask=end_ms <= from_ms)
    table = pa.table([columns[name] for name in EVENTS.arrow.names], schema=EVENTS.arrow)
    return table.filter(pa.array(end_ms <= rule.until_ms))


def _newest(told: pl.DataFrame, shown: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Each engagement with the newest impression of its group that is not younger."""
    return told.sort("at_ms", maintain_order=True).join_asof(
        shown.sort("shown_at_ms", maintain_order=True),
        left_on="at_ms",
        right_on="shown_at_ms",
        by=by,
        strategy="backward",
        coalesce=False,
        check_sortedness=False,  # it is
    )


def unattributed_schema() -> pa.Schema:
    """Columns of schema.ENGAGEMENTS, then the `reason`, one of REASONS."""
    return ENGAGEMENTS.arrow.append(pa.field("reason", pa.string(), nullable=False))
