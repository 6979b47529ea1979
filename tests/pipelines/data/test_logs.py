"""The reader of own tables: one meaning for all formats and places, and clear refusals."""

from __future__ import annotations

import datetime as dt
import gzip
import sys

import fsspec
import polars as pl
import pyarrow as pa
import pytest

from configs import ConfigError
from pipelines.data.job import prepare
from pipelines.data.reader import InputError, MissingInputError

from .small_log import EVENTS_ROWS, POSTS_ROWS, config, tables_of, write_lines, write_parquet


def test_logs_formats_agree(tmp_path):
    """Parquet, JSON lines, compressed lines, a folder of parts and a glob give the same tables."""
    plain, lines = tmp_path / "plain", tmp_path / "lines"
    for folder in (plain, lines):
        folder.mkdir()
    write_parquet(plain / "events.parquet", EVENTS_ROWS)
    write_parquet(plain / "posts.parquet", POSTS_ROWS)
    prepare(config(plain))
    write_lines(lines / "events/part-0.jsonl", EVENTS_ROWS[:4])
    rest = write_lines(lines / "rest.jsonl", EVENTS_ROWS[4:])
    (lines / "events/part-1.jsonl.gz").write_bytes(gzip.compress(rest.read_bytes()))
    (lines / "events/_SUCCESS").write_text("")
    write_lines(lines / "posts.jsonl", POSTS_ROWS)
    prepare(config(lines))
    expected = tables_of(plain / "out")
    assert tables_of(lines / "out") == expected
    prepare(config(lines, reader={"events": str(lines / "events/part-*")}))
    assert tables_of(lines / "out") == expected


def test_glob_that_matches_folders(tmp_path):
    """A folder that a glob matches is read whole, each file once; hidden ones are left out."""
    write_lines(tmp_path / "log/a.jsonl", EVENTS_ROWS[:3])
    write_lines(tmp_path / "log/dt=1/b.jsonl", EVENTS_ROWS[3:5])
    write_lines(tmp_path / "log/dt=1/hour=2/c.jsonl", EVENTS_ROWS[5:])
    write_lines(tmp_path / "log/_old/d.jsonl", EVENTS_ROWS)
    for glob in ("*", "[ad]*"):
        reader = {"events": f"{tmp_path}/log/{glob}"}
        assert prepare(config(tmp_path, reader=reader))["rows"]["events"] == {
            "read": 10,
            "duplicates": 0,
            "rejected": 0,
            "kept": 10,
        }


def test_days_in_json_lines(tmp_path):
    """Days are text in JSON lines, and can be split by as those of a Parquet file."""
    write_lines(
        tmp_path / "events.jsonl", [{**row, "log_date": "2026-01-01"} for row in EVENTS_ROWS]
    )
    days = {"validate_from": dt.date(2026, 1, 2), "test_from": dt.date(2026, 1, 3)}
    assert prepare(config(tmp_path, split=days))["splits"]["train"]["candidates"] == 10


@pytest.mark.parametrize("damage", ["truncated", "corrupt"])
def test_damaged_gzip(damage, tmp_path):
    """A compressed file that ends early or does not unpack is named, not a traceback."""
    path = write_lines(tmp_path / "events.jsonl", EVENTS_ROWS)
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    broken = packed[:-20] if damage == "truncated" else packed[:20] + b"\xff" * 20 + packed[40:]
    (tmp_path / "events.jsonl.gz").write_bytes(broken)
    with pytest.raises(InputError, match=r"events\.jsonl\.gz: row 1 or later cannot be read"):
        prepare(config(tmp_path))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nope://log/*.parquet", "nope://.*: not a URL that fsspec can open .*nope"),
        ("s3://log/*.parquet", r"s3://.*: a package is missing \(Install s3fs"),
    ],
)
def test_url_that_cannot_be_opened(url, message, tmp_path, monkeypatch):
    """A URL of an unknown kind is an error; one that needs a package names the package."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=message):
        prepare(config(tmp_path, reader={"events": url}))


def test_logs_over_a_url(tmp_path):
    """A table may be at any fsspec URL."""
    write_parquet(tmp_path / "events.parquet", EVENTS_ROWS)
    fsspec.filesystem("memory").pipe(
        "/log/events.parquet", (tmp_path / "events.parquet").read_bytes()
    )
    url = config(tmp_path, reader={"events": "memory://log/*.parquet"}, out=str(tmp_path / "url"))
    assert prepare(url)["fingerprint"] == prepare(config(tmp_path))["fingerprint"]


def test_logs_with_an_own_action(tmp_path):
    """A company's own flag becomes an action after those of the schema, with its weight."""
    rows = [{**row, "saved": True} for row in EVENTS_ROWS]
    write_parquet(tmp_path / "events.parquet", rows, saved=pa.bool_())
    with pytest.raises(InputError, match="unknown column 'saved'"):
        prepare(config(tmp_path))
    manifest = prepare(config(tmp_path, reader={"extra_actions": {"saved": 0.7}}))
    assert manifest["actions"][-1] == "saved"
    assert manifest["action_weights"][-1] == 0.7
    examples = pl.read_parquet(tmp_path / "out/examples/*/*.parquet")
    assert (examples["did"].explode() & 1 << 19 != 0).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["click"], "'click' is a column of events already"),
        (["user_id"], "'user_id' is a column of events already"),
        (["dwell_time"], "named twice"),
        ([f"a{at}" for at in range(45)], "64 actions: at most 63 fit a mask"),
    ],
)
def test_own_action_that_cannot_be(names, message, tmp_path):
    """An own action whose name is taken, or that no mask has room for, names the setting."""
    write_parquet(tmp_path / "events.parquet", EVENTS_ROWS)
    with pytest.raises(ConfigError, match=f"reader: extra_actions: .*{message}"):
        prepare(config(tmp_path, reader={"extra_actions": dict.fromkeys(names, 1.0)}))


def test_other_files_are_not_guessed_at(tmp_path):
    """A file of a kind that is not a table is an error, not skipped."""
    write_parquet(tmp_path / "events/a.parquet", EVENTS_ROWS)
    (tmp_path / "events/notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt: not a table; allowed: \.parquet"):
        prepare(config(tmp_path))


def test_a_table_of_several_places(tmp_path):
    """Rows of a list of places make one table, equal ones once; each place must hold something."""
    plain, places = tmp_path / "plain", tmp_path / "places"
    write_parquet(plain / "events.parquet", EVENTS_ROWS)
    write_parquet(plain / "posts.parquet", POSTS_ROWS)
    write_parquet(places / "events.parquet", EVENTS_ROWS)
    write_parquet(places / "old.parquet", POSTS_ROWS[:4])
    write_lines(places / "live/new.jsonl", [*POSTS_ROWS[3:], POSTS_ROWS[-1]])
    posts = [str(places / name) for name in ("live", "old.parquet")]
    manifest = prepare(config(places, reader={"posts": posts}))
    prepare(config(plain))

    assert manifest["rows"]["posts"] == {"read": 8, "duplicates": 2, "rejected": 0, "kept": 6}
    assert tables_of(places / "out") == tables_of(plain / "out")
    with pytest.raises(MissingInputError, match=r"nowhere: no such file; reader\.posts must be"):
        prepare(config(places, reader={"posts": [*posts, str(places / "nowhere")]}))


def test_a_post_of_two_places_that_differs(tmp_path):
    """Two places that say different things of one post are an error that names both."""
    write_parquet(tmp_path / "events.parquet", EVENTS_ROWS)
    write_parquet(tmp_path / "old.parquet", POSTS_ROWS)
    write_parquet(tmp_path / "live.parquet", [POSTS_ROWS[0] | {"author_id": 7}])
    posts = [str(tmp_path / f"{name}.parquet") for name in ("old", "live")]
    with pytest.raises(
        InputError, match=r"live\.parquet: row 1, column post_id: 11: .*old\.parquet"
    ):
        prepare(config(tmp_path, reader={"posts": posts}))


def test_deleted_posts_lose_their_text_alone(tmp_path):
    """A deleted post keeps its author, topics and events; nobody reads what it said."""
    rows = [{**row, "text": "words", "language": "en", "topic_ids": [3]} for row in POSTS_ROWS]
    write_parquet(tmp_path / "events.parquet", EVENTS_ROWS)
    write_parquet(tmp_path / "posts.parquet", rows)
    write_parquet(
        tmp_path / "taken.parquet",
        [{"post_id": 12, "deleted_at_ms": 5}, {"post_id": 99, "deleted_at_ms": 6}],
    )
    before = prepare(config(tmp_path))
    tables = tables_of(tmp_path / "out")
    after = prepare(config(tmp_path, reader={"deletions": str(tmp_path / "taken.parquet")}))
    posts = pl.read_parquet(tmp_path / "out/posts.parquet")

    assert posts.filter(post_id=12).select("author_id", "topic_ids", "text", "language").rows() == [
        (112, [3], None, None)
    ]
    assert posts["text"].null_count() == 1
    assert after["rows"] == before["rows"]
    changed = {name for name, data in tables_of(tmp_path / "out").items() if data != tables[name]}
    assert changed == {"posts.parquet"}
