"""A report's page says what its record says, and nothing else."""

import json

import numpy as np
import pytest

from train.report import BENCH_REPORTS, REPORTS, header, markdown, write

FOLDERS = (REPORTS, BENCH_REPORTS)
RESULTS = {
    "header": {"date": "2026-01-01", "seeds": [0, 1]},
    "data": {"name": "made up", "rows": 28_905},
    "ranking": {
        "auc": {
            "click": {"model": 0.73456789, "post_rate": 0.5, "interval": (0.01, 0.02)},
            "like": {"model": float("nan"), "best_baseline": "a|b"},
        }
    },
    "took_s": np.float32(12.0),
    "runs": [{"rows": 10}, {"rows": 20}],
}
PAGE = """\
# study

Made from `study.json`; do not edit.

- date: 2026-01-01
- seeds: [0, 1]

- took s: 12

## data

- name: made up
- rows: 28,905

## ranking

### auc

| | model | post rate | interval | best baseline |
|---|---|---|---|---|
| click | 0.7346 | 0.5 | [0.01, 0.02] |  |
| like | – |  |  | a\\|b |

## runs

| | rows |
|---|---|
| 1 | 10 |
| 2 | 20 |
"""


def test_page_by_hand(tmp_path):
    """Values become lists, groups sections, groups of groups tables with rounded numbers."""
    assert write("study", RESULTS, tmp_path).read_text() == PAGE


def test_page_is_a_function_of_the_record(tmp_path):
    """The page can be made anew from the JSON file alone, and writing twice changes nothing."""
    page = write("study", RESULTS, tmp_path)
    record = (tmp_path / "study.json").read_text()
    assert markdown(json.loads(record)) == page.read_text()
    write("study", RESULTS, tmp_path)
    assert (tmp_path / "study.json").read_text() == record


def test_record_keeps_full_precision_and_order(tmp_path):
    """Rounding is for the page; the record has every digit, in the order given."""
    write("study", RESULTS, tmp_path)
    record = json.loads((tmp_path / "study.json").read_text())
    assert record["ranking"]["auc"]["click"]["model"] == 0.73456789
    assert record["ranking"]["auc"]["like"]["model"] is None
    assert list(record) == ["name", *RESULTS]


def test_header_names_what_is_preloaded(monkeypatch):
    """A library that stands before those of the packages is named, without its folder."""
    monkeypatch.setenv("LD_PRELOAD", "/a/one.so:/b/two.so /c/three.so")
    told = header("", seeds=[])["software"]
    assert told.endswith(", one.so preloaded, two.so preloaded, three.so preloaded")
    monkeypatch.delenv("LD_PRELOAD")
    assert "preloaded" not in header("", seeds=[])["software"]


def test_header_says_how_to_repeat():
    """Date, code, data, machine, seeds and command are all there."""
    found = header("abc", [7])
    assert found["data_fingerprint"] == "abc"
    assert found["seeds"] == [7]
    assert all(found[key] for key in ("date", "git_commit", "machine", "software", "command"))


@pytest.mark.parametrize(
    "file", [f for of in FOLDERS for f in sorted(of.rglob("*.json"))], ids=lambda file: file.stem
)
def test_committed_pages_are_up_to_date(file):
    """Each page, of a study or a bench, is the one made from its record."""
    assert file.with_suffix(".md").read_text() == markdown(json.loads(file.read_text()))


def test_every_page_has_a_record():
    """No page was written by hand."""
    pages = [page for folder in FOLDERS for page in folder.rglob("*.md")]
    assert [page for page in pages if not page.with_suffix(".json").exists()] == []
