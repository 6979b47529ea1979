"""Which labels posts and authors have, until when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from configs import near_miss
from pipelines.encoding import expand
from pipelines.feed.visibility import LABELS, Kind
from serve.stores.lookup import column, table_of

KINDS = ("post", "author")
SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),  # "post" or "author"
        pa.field("id", pa.int64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # one of visibility.LABELS
        pa.field("expires_at_ms", pa.int64()),  # ms since 1970 UTC, null = never
    ]
)
_NEVER = np.iinfo(np.int64).max


class LabelError(ValueError):
    """A table of labels that cannot be used; the text says where and why."""


class LabelStore:
    """Labels by id, one row each, in memory; they end by themselves."""

    def __init__(self, labels: pa.Table, place: str = "labels") -> None:
        """Index `labels`, the columns of SCHEMA; `place` is where they are from.

        Raises:
            LabelError: columns other than those, nulls, or a kind or label that there is not.
        """
        labels = _checked(labels, place)
        kind, label = (
            np.array([known.index(name) for name in labels[column_name].to_pylist()], np.int64)
            for column_name, known in (("kind", KINDS), ("label", LABELS))
        )
        ids = column(labels, "id", 0, np.int64)
        expires_at_ms = column(labels, "expires_at_ms", _NEVER, np.int64)
        self._rows = {}
        for number, name in enumerate(KINDS):
            rows = np.flatnonzero(kind == number)
            rows = rows[np.argsort(ids[rows], kind="stable")]
            self._rows[name] = (ids[rows], np.int64(1) << label[rows], expires_at_ms[rows])

    @classmethod
    def empty(cls) -> LabelStore:
        """Nothing is labelled."""
        return cls(SCHEMA.empty_table())

    @classmethod
    def read(cls, path: str | Path) -> LabelStore:
        """Labels of a file: Parquet, or JSON lines if its name ends in .jsonl.

        Raises:
            LabelError: as for the class, or the file cannot be read.
        """
        try:
            return cls(table_of(path, SCHEMA), str(path))
        except (OSError, pa.ArrowException) as error:
            raise LabelError(f"{path}: cannot read labels: {error}") from error

    def of(self, kind: Kind, ids: NDArray[np.int64], at_ms: int) -> NDArray[np.int64]:
        """Sets of labels that hold at `at_ms`, as masks over visibility.LABELS. [n] -> [n]."""
        known, bit, expires_at_ms = self._rows[kind]
        mask = np.zeros(len(ids), np.int64)
        first = np.searchsorted(known, ids)
        num = np.searchsorted(known, ids, side="right") - first
        if num.any():
            owner, slot = expand(num)
            row = first[owner] + slot
            np.bitwise_or.at(mask, owner, np.where(expires_at_ms[row] > at_ms, bit[row], 0))
        return mask


def _checked(labels: pa.Table, place: str) -> pa.Table:
    names = set(labels.schema.names)
    if "expires_at_ms" not in names and {"kind", "id", "label"} <= names:
        labels = labels.append_column("expires_at_ms", pa.nulls(len(labels), pa.int64()))
    for name in labels.schema.names:
        if name not in SCHEMA.names:
            raise LabelError(f"{place}: {name}: no such column{near_miss(name, SCHEMA.names)}")
    try:
        labels = labels.select(SCHEMA.names).cast(SCHEMA)
    except (KeyError, pa.ArrowException, ValueError) as error:
        raise LabelError(f"{place}: expected the columns {SCHEMA.names}: {error}") from error
    for name, known in (("kind", KINDS), ("label", LABELS)):
        for value in pc.unique(labels[name]).to_pylist():
            if value not in known:
                hint = near_miss(str(value), known)
                raise LabelError(f"{place}: column {name}: {value!r}: no such {name}{hint}")
    if pc.any(pc.less(labels["id"], 1)).as_py():
        raise LabelError(f"{place}: column id: ids are at least 1")
    return labels
