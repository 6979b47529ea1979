"""What was served and told, small enough to judge row by row, and the plainest judge of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from pipelines.data.outcomes import OutcomeConfig, outcomes
from pipelines.schema import ACTION_NAMES, DAY_MS, ENGAGEMENTS, EVENTS

Row = dict[str, Any]

MINUTE_MS = 60_000
START_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
WINDOW_MS = 10 * MINUTE_MS
OUTCOMES = (*(name for name in ACTION_NAMES if name != "dwell_time"), "dwell_s")


def page(request_id: str, user_id: int, minute: int, post_ids: Sequence[int]) -> list[Row]:
    """One served page as the feed logs it."""
    shown_at_ms = START_MS + minute * MINUTE_MS
    return [
        {
            "event_id": f"{request_id}/{position}",
            "user_id": user_id,
            "post_id": post_id,
            "shown_at_ms": shown_at_ms,
            "log_date": shown_at_ms // DAY_MS,
            "surface": 0,
            "position": position,
            "request_id": request_id,
        }
        for position, post_id in enumerate(post_ids)
    ]


def told(event_id: str, user_id: int, post_id: int, minute: int, action: str, **more: Any) -> Row:
    """One engagement; `dwell_s` and `request_id` are what they are given."""
    at_ms = START_MS + minute * MINUTE_MS
    row = {"event_id": event_id, "user_id": user_id, "post_id": post_id, "at_ms": at_ms}
    return row | {"action": action, "dwell_s": None, "request_id": None} | more


@st.composite
def served(draw: st.DrawFn) -> list[Row]:
    """Up to six pages of two viewers and three posts within half an hour."""
    ids = st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True)
    pages = draw(
        st.lists(st.tuples(st.integers(1, 2), st.integers(0, 30), ids), min_size=1, max_size=6)
    )
    return [row for at, one in enumerate(pages) for row in page(f"r{at}", *one)]


@st.composite
def engaged(draw: st.DrawFn) -> list[Row]:
    """Up to twelve engagements with the same, some told twice, some misnamed, some unheard of."""
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        action = draw(st.sampled_from(["favorite", "reply", "dwell_time", "applause"]))
        dwell_s = draw(st.integers(0, 8)) / 3 if action == "dwell_time" else None
        row = told(
            f"e{draw(st.integers(0, 15))}",
            *(draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(0, 45)), action),
            dwell_s=dwell_s,
            request_id=draw(st.sampled_from([None, *(f"r{at}" for at in range(7))])),
        )
        rows.append(row)
    return rows


def write(folder: Path, rows: Sequence[Row], schema: pa.Schema, num_files: int = 1) -> Path:
    """Write rows to files in turn."""
    folder.mkdir(parents=True)
    for at in range(num_files):
        table = pa.Table.from_pylist(list(rows[at::num_files]), schema)
        pq.write_table(table, folder / f"{at}.parquet")
    return folder


def label(
    folder: Path, shown: Sequence[Row], engagements: Sequence[Row], seed: int = 0, **more: Any
) -> Row:
    """Run the command's function; rows lie in files by `seed`, and one file lies there twice."""
    rng = random.Random(seed)
    for name, rows, schema in (
        ("shown", shown, EVENTS.arrow),
        ("told", engagements, ENGAGEMENTS.arrow),
    ):
        mixed = rng.sample(list(rows), len(rows))
        place = write(folder / name, mixed, schema, rng.randint(1, 3))
        (place / "again.parquet").write_bytes((place / "0.parquet").read_bytes())
    config = OutcomeConfig.model_validate(
        {
            "impressions": [str(folder / "shown")],
            "engagements": [str(folder / "told")],
            "out": str(folder / "out"),
            "window_h": WINDOW_MS / 3_600_000,
            "partition_rows": rng.randint(6, 40),
            **more,
        }
    )
    return outcomes(config)


def labelled(folder: Path) -> dict[str, Row]:
    """What was written, by event_id; each is there once."""
    rows = pq.read_table(folder / "out/events").to_pylist()
    by_id = {row["event_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


class Naive:
    """The rule, one row at a time."""

    def __init__(
        self,
        shown: Sequence[Row],
        engagements: Sequence[Row],
        until_ms: int,
        observed: Sequence[str] | None = None,
    ) -> None:
        self.shown = list({row["event_id"]: row for row in shown}.values())
        self.until_ms = until_ms
        once: dict[tuple, Row] = {}
        for row in sorted(engagements, key=self._order):
            once.setdefault((row["user_id"], row["event_id"]), row)
        self.engagements = list(once.values())
        self.observed = observed
        self.first_ms: dict[str, int] = {}
        for row in self.engagements:
            known = self.first_ms.get(row["action"], row["at_ms"])
            self.first_ms[row["action"]] = min(row["at_ms"], known)
        self.reasons: Counter[str] = Counter()
        self.acts: dict[str, list[Row]] = {row["event_id"]: [] for row in self.shown}
        for row in self.engagements:
            self._judge(row)

    @property
    def outcomes(self) -> dict[str, Row]:
        """Labels of the impressions whose window has closed, by event_id."""
        closed = [r for r in self.shown if r["shown_at_ms"] + WINDOW_MS <= self.until_ms]
        return {row["event_id"]: self._outcome(row) for row in closed}

    def _judge(self, row: Row) -> None:
        mine = [s for s in self.shown if all(s[c] == row[c] for c in ("user_id", "post_id"))]
        before = [s for s in mine if s["shown_at_ms"] <= row["at_ms"]]
        before = [s for s in before if s["request_id"] == row["request_id"]] or before
        age = ("shown_at_ms", "position", "request_id")
        newest = max(before, key=lambda s: [s[c] for c in age], default=None)
        if row["action"] not in ACTION_NAMES:
            reason = "unknown action"
        elif self.observed is not None and row["action"] not in (*self.observed, "dwell_time"):
            reason = "not observed"
        elif not mine:
            reason = "no impression"
        elif newest is None:
            reason = "before shown"
        elif row["at_ms"] - newest["shown_at_ms"] >= WINDOW_MS:
            reason = "too late"
        elif newest["shown_at_ms"] + WINDOW_MS > self.until_ms:
            reason = "waiting"
        else:
            reason = "attributed"
            self.acts[newest["event_id"]].append(row)
        self.reasons[reason] += 1

    def _outcome(self, shown: Row) -> Row:
        acts = self.acts[shown["event_id"]]
        done = {row["action"] for row in acts}
        end_ms = shown["shown_at_ms"] + WINDOW_MS
        outcome: Row = {}
        for name in OUTCOMES[:-1]:
            if self.observed is None:
                seen = name in self.first_ms and self.first_ms[name] < end_ms
            else:
                seen = name in self.observed
            outcome[name] = name in done if seen else None
        stays = [row["dwell_s"] for row in acts if row["action"] == "dwell_time"]
        zero = 0.0 if "dwell_time" in (self.observed or ()) else None
        outcome["dwell_s"] = sum(stays) if stays else zero
        return outcome

    @staticmethod
    def _order(row: Row) -> tuple:
        values = (row[c] for c in ("at_ms", "post_id", "action", "dwell_s", "request_id"))
        return tuple(
            (value is not None, "" if value is None else value) for value in values
        )  # null is least
