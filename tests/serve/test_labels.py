"""The store of labels answers as a loop over its rows would, and refuses what it cannot read."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.feed.visibility import LABELS, mask_of
from serve.stores.labels import SCHEMA, LabelError, LabelStore

IDS = st.integers(1, 9)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["post", "author"]),
            "id": IDS,
            "label": st.sampled_from(LABELS),
            "expires_at_ms": st.none() | st.integers(95, 105),
        }
    ),
    max_size=12,
)


@given(ROWS, st.lists(IDS), st.sampled_from(["post", "author"]))
def test_labels_hold_until_they_expire(rows, wanted, kind):
    """A post has the labels of its rows whose end has not come; one without an end stays."""
    store = LabelStore(pa.Table.from_pylist(rows, schema=SCHEMA))
    masks = store.of(kind, np.array(wanted, np.int64), at_ms=100)
    for one, mask in zip(wanted, masks.tolist(), strict=True):
        held = [
            row["label"]
            for row in rows
            if (row["kind"], row["id"]) == (kind, one)
            and (row["expires_at_ms"] is None or row["expires_at_ms"] > 100)
        ]
        assert mask == mask_of(held)


def test_an_empty_store_knows_no_labels():
    """The default: nothing is labelled."""
    assert LabelStore.empty().of("post", np.array([1, 2]), 0).tolist() == [0, 0]


def test_labels_are_read_from_files(tmp_path):
    """Parquet and JSON lines say the same; an end may be left out."""
    rows = [{"kind": "post", "id": 7, "label": "spam"}]
    rows += [{"kind": "author", "id": 5, "label": "suspended"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("labels.parquet", "labels.jsonl"):
        store = LabelStore.read(tmp_path / name)
        assert store.of("post", np.array([5, 7]), 0).tolist() == [0, mask_of(["spam"])]
        assert store.of("author", np.array([5, 7]), 0).tolist() == [mask_of(["suspended"]), 0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"kind": "posts"}, "column kind: 'posts': no such kind; did you mean 'post'?"),
        ({"label": "spamm"}, "column label: 'spamm': no such label; did you mean 'spam'?"),
        ({"id": 0}, "column id: ids are at least 1"),
        ({"id": None}, "expected the columns"),
        ({"until": 3}, "until: no such column"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, said):
    """Unknown kinds, labels and columns stop start-up with the file and the near miss."""
    path = tmp_path / "labels.parquet"
    full = {"kind": "post", "id": 1, "label": "spam", **row}
    pq.write_table(pa.Table.from_pylist([full]), path)
    with pytest.raises(LabelError) as error:
        LabelStore.read(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    """A path that leads nowhere stops start-up."""
    with pytest.raises(LabelError, match=r"none.parquet: cannot read labels"):
        LabelStore.read(tmp_path / "none.parquet")
