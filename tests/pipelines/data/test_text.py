"""Text is streamed in blocks without losing count of its rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines.data import text
from pipelines.data.reader import Batch, Fragment, InputError


def test_text_blocks_count_rows(tmp_path, monkeypatch):
    """Rows keep their numbers over block borders, bad rows and a last line without an end."""
    monkeypatch.setattr(text, "BLOCK_BYTES", 16)
    lines = ["a,b", *(f"{i},{i}.5" for i in range(1, 20)), "x,1", "20,3,4", "21,7"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    fragment = Fragment("events", str(tmp_path / "t.csv"), 0)
    batches: list[Batch] = list(text.read_csv(fragment, {"a": pa.int64(), "b": pa.float64()}))
    rows = [int(row) for batch in batches for row in batch.row]
    values = [a for batch in batches for a in batch.table["a"].to_pylist()]
    refused = {bad.row: (bad.column, bad.reason) for batch in batches for bad in batch.rejected}
    assert rows == [*range(1, 20), 22]
    assert values == [*range(1, 20), 21]
    assert refused == {20: ("a", "expected int64"), 21: ("(line)", "3 columns; expected 2")}


def test_csv_without_a_column(tmp_path):
    """A CSV file that lacks a column is refused with the columns it has."""
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    fragment = Fragment("events", str(tmp_path / "t.csv"), 0)
    with pytest.raises(InputError, match=r"column 'c' is missing \(have: a, b\)"):
        list(text.read_csv(fragment, {"c": pa.int64()}))
