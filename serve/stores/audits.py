"""Scores for audit: every post that was scored for a request, as rows of a Parquet log."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.feed.table import Candidates

_MULTIPLIER = "_multiplier"
INTERFERENCE = pa.struct(
    [
        pa.field("field", pa.float64()),
        pa.field("worth", pa.float64()),  # added to base_score; null = in shadow
        pa.field("constructive", pa.list_(pa.float32())),  # per scale, longest waves first
        pa.field("destructive", pa.list_(pa.float32())),
        pa.field("dimension", pa.float32()),  # of the viewer's history
        pa.field("ratio", pa.float32()),  # the same over the vectors' width
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),  # as in the event log
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("at_ms", pa.int64(), nullable=False),  # of the request, ms since 1970 UTC
        pa.field("surface", pa.int16(), nullable=False),  # 0 = unknown
        pa.field("bundle", pa.string(), nullable=False),  # version, as in a response
        pa.field("post_id", pa.int64(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),  # 1 = best, before any rule of the page
        pa.field("score", pa.float64()),  # base_score times every multiplier
        pa.field("base_score", pa.float64()),
        pa.field("multipliers", pa.map_(pa.string(), pa.float32()), nullable=False),  # by scorer
        # In the order of the bundle's actions; null = the ranker did not answer. Not float16:
        # reports are as rare as 1e-6, where it has two digits left, and weigh most.
        pa.field("p_action", pa.list_(pa.float32())),
        # Of the interference field, in shadow too; null = it was not computed.
        pa.field("interference", INTERFERENCE),
    ]
)


def audit(
    user_id: int, request_id: str, now_ms: int, surface: int, bundle: str, pool: Candidates
) -> pa.Table:
    """The scored posts [C] of one request, best first, as rows of SCHEMA."""
    num = len(pool)
    names = [name for name in pool if name.endswith(_MULTIPLIER)]
    each = np.stack([pool[name] for name in names], axis=1) if names else np.empty((num, 0))
    scorers = [name.removesuffix(_MULTIPLIER) for name in names]
    multipliers = pa.MapArray.from_arrays(
        pa.array(np.arange(num + 1) * len(names), pa.int32()),
        pa.array(scorers * num, pa.string()),
        pa.array(each.ravel().astype(np.float32)),
    )
    p_action = pa.nulls(num, SCHEMA.field("p_action").type)
    if "p_action" in pool:
        p_action = _lists(pool["p_action"])
    values = {
        "request_id": [request_id] * num,
        "user_id": np.full(num, user_id),
        "at_ms": np.full(num, now_ms),
        "surface": np.full(num, surface),
        "bundle": [bundle] * num,
        "post_id": pool.post_id,
        "rank": np.arange(1, num + 1),
        "score": pool["score"],
        "base_score": pool["base_score"],
        "multipliers": multipliers,
        "p_action": p_action,
        "interference": _interference(pool),
    }
    columns = [
        value if isinstance(value, pa.Array) else pa.array(value).cast(field.type)
        for field, value in zip(SCHEMA, (values[name] for name in SCHEMA.names), strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _interference(pool: Candidates) -> pa.Array:
    if "interference" not in pool:
        return pa.nulls(len(pool), INTERFERENCE)
    columns = []
    for part in INTERFERENCE:
        values = pool["interference" if part.name == "field" else f"interference_{part.name}"]
        if values.ndim == 2:
            columns.append(_lists(values.astype(np.float32)))
        else:
            columns.append(pa.array(values, part.type, from_pandas=True))  # NaN is null
    return pa.StructArray.from_arrays(columns, fields=list(INTERFERENCE))


def _lists(values: NDArray[np.float32]) -> pa.ListArray:
    """One list a row. [C, n]."""
    ends = pa.array(np.arange(len(values) + 1) * values.shape[1], pa.int32())
    return pa.ListArray.from_arrays(ends, pa.array(values.ravel()))
