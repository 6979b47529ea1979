"""A data set in the layout of `python -m pipelines.data`, without Ray: small, slow and obvious."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.synthetic import World
from pipelines.schema import ACTION_NAMES, ACTIONS, DWELL_TIME, EXAMPLES

HISTORY_LEN = 32
OBSERVED = (1 << len(ACTIONS)) - 1


def examples(world: World, shares: tuple[float, float] = (0.7, 0.8)) -> dict[str, pa.Table]:
    """One example per request, split at these shares of the log's rows."""
    did = sum(
        world.events[name].to_numpy().astype(np.int64) << bit
        for bit, name in enumerate(ACTION_NAMES)
        if bit != DWELL_TIME
    )
    author = world.posts["author_id"].to_numpy()
    names = ("user_id", "post_id", "shown_at_ms", "surface", "dwell_s", "request_id")
    columns = {name: world.events[name].to_pylist() for name in names}
    pages: dict[str, list[int]] = {}
    for row, request in enumerate(columns["request_id"]):
        pages.setdefault(request, []).append(row)
    past: dict[int, list[int]] = {}
    cuts = [int(share * world.events.num_rows) for share in shares]
    split: dict[str, list[dict]] = {"train": [], "validate": [], "test": []}
    for rows in sorted(pages.values()):
        user, at_ms = columns["user_id"][rows[0]], columns["shown_at_ms"][rows[0]]
        seen = past.setdefault(user, [])
        old = [r for r in seen if columns["shown_at_ms"][r] < at_ms][-HISTORY_LEN:]
        seen.extend(rows)
        example = {"user_id": user, "at_ms": at_ms}
        for side, of in (("history_", old), ("", rows)):
            example |= {
                side + "post_id": [columns["post_id"][r] for r in of],
                side + "author_id": [int(author[columns["post_id"][r] - 1]) for r in of],
                side + "did": [int(did[r]) for r in of],
                side + "surface": [columns["surface"][r] for r in of],
                side + "dwell_s": [columns["dwell_s"][r] for r in of],
                (side + "at_ms" if side else "shown_at_ms"): [
                    columns["shown_at_ms"][r] for r in of
                ],
            }
        example["observed"] = [OBSERVED] * len(rows)
        name = ("train", "validate", "test")[np.searchsorted(cuts, rows[0], side="right")]
        split[name].append(example)
    return {name: pa.Table.from_pylist(rows, schema=EXAMPLES) for name, rows in split.items()}


def prepare(world: World, folder: Path) -> Path:
    """Write the world's examples, side tables and manifest; returns the folder."""
    for name, table in examples(world).items():
        part = folder / "examples" / f"split={name}"
        part.mkdir(parents=True)
        pq.write_table(table, part / "part-00000.parquet")
    for name in ("posts", "users", "follows"):
        pq.write_table(getattr(world, name), folder / f"{name}.parquet")
    manifest = {
        "name": "synthetic",
        "reader": "logs",
        "actions": list(ACTION_NAMES),
        "action_names": {},
        "fingerprint": "0" * 64,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
