"""A bound on the events of a batch, shared out among its histories."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.features import FeatureSpec


def fair_cap(lengths: NDArray[np.int64], budget: int) -> int:
    """The largest L for which sum(min(length, L)) is at most `budget`.

    So water fills vessels: the short histories stay whole and all longer ones are cut to one
    length. At most the longest length; 0 if not every history can have an event.

    Args:
        lengths: int64 [B], none negative.
        budget: events in all.
    """
    reaching = len(lengths) - np.bincount(lengths).cumsum()[:-1]  # [i]: longer than i
    return int(np.searchsorted(reaching.cumsum(), budget, side="right"))


def within(tokens_per_example: int | None, rows: pa.Table, spec: FeatureSpec) -> FeatureSpec:
    """`spec` with a history_len at which the batch holds at most its budget of events.

    Args:
        tokens_per_example: times the rows = the budget; None = as `spec` says.
        rows: of EXAMPLES, at least one.
        spec: whose history_len is the most that any history keeps.
    """
    if tokens_per_example is None:
        return spec
    lists = rows["history_post_id"].combine_chunks()
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    cap = fair_cap(np.minimum(lengths, spec.history_len), tokens_per_example * len(lengths))
    return spec.model_copy(update={"history_len": max(1, cap)})  # 0 = no history at all
