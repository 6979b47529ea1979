"""Readers: every layout gives the contract, and says what to fetch when files are not there."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import sys
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from configs import ConfigError
from pipelines.data import text
from pipelines.data.check import columns
from pipelines.data.job import prepare
from pipelines.data.reader import (
    UNMAPPED,
    Batch,
    Fragment,
    InputError,
    MissingInputError,
    make_reader,
    reader_names,
)
from pipelines.data.readers.kuairand import FACTS, LOG, USERS, VIDEOS
from pipelines.schema import TABLES

from .small_log import EVENTS_ROWS, POSTS_ROWS, config, tables_of, write_lines, write_parquet

SHARED = Path("../shared/data")
needs_shared = pytest.mark.skipif(
    not SHARED.exists() and not os.environ.get("CI"), reason="needs ../shared"
)


def read_all(settings: dict) -> dict[str, pl.DataFrame]:
    """Every table of a reader, its columns held against the contract."""
    reader = make_reader(settings)
    found: dict[str, list[pa.Table]] = {}
    for fragment in reader.fragments():
        table = TABLES[fragment.table]
        for batch in reader.read(fragment):
            given = batch.table.select([n for n in batch.table.column_names if n != UNMAPPED])
            columns(given.schema, table, fragment.path)
            assert not batch.rejected
            assert len(batch.row) == len(given)
            found.setdefault(fragment.table, []).append(given)
    return {name: pl.DataFrame(pa.concat_tables(parts)) for name, parts in found.items()}


def test_readers_are_found_by_their_files():
    """The folder is the registry."""
    assert reader_names() == ["deskdrop", "kuairand", "logs", "movielens"]


def test_bundled_kuairand():
    """The copy that comes along: counts, shifted ids, and all tables but follows."""
    tables = read_all({"name": "kuairand"})
    sizes = {name: len(table) for name, table in tables.items()}
    assert sizes == {"posts": 7_583, "users": 27_285, "histories": 26_469, "events": 228_329}
    assert min(tables["events"]["user_id"].min(), tables["posts"]["post_id"].min()) == 1
    assert tables["events"]["favorite"].sum() == 3_915


def kuairand_csv(folder: Path, size: str, logs: list[str]) -> Path:
    """An official layout with one video, one user and one impression a log."""
    data = folder / "data"
    data.mkdir()
    user = {**dict.fromkeys(USERS, 5), **dict.fromkeys(FACTS, "0"), "user_id": 0}
    user |= {"user_active_degree": "full_active", "is_live_streamer": "-124"}
    video = dict.fromkeys(VIDEOS, 7) | {"video_id": 3, "upload_dt": "2022-04-10", "tag": '"39,12"'}
    shown = dict.fromkeys(LOG, 0) | {
        "video_id": 3,
        "date": 20220409,
        "time_ms": 1_649_500_000_000,
        "is_click": 1,
        "play_time_ms": 2_500,
        "tab": 1,
    }
    rows = {f"user_features_{size}": user, f"video_features_basic_{size}": {**video, "extra": 1}}
    rows |= {name: {**shown, "video_id": 3, "user_id": 0} for name in logs}
    for name, row in rows.items():
        lines = [",".join(row), ",".join(map(str, row.values()))]
        (data / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("size", ["pure", "1k", "27k"])
def test_official_kuairand(size, tmp_path):
    """The official CSV layouts are read in the order of time, the random log only when asked."""
    parts = ["_part1", "_part2"] if size == "27k" else [""]
    periods = ["standard_4_08_to_4_21", "standard_4_22_to_5_08"]
    logs = [f"log_{period}_{size}{part}" for period in periods for part in parts]
    extra = f"log_random_4_22_to_5_08_{size}"
    kuairand_csv(tmp_path, size, [*logs, extra])
    settings = {"name": "kuairand", "path": str(tmp_path)}
    tables = read_all(settings)
    assert len(tables["events"]) == len(logs)
    assert len(read_all({**settings, "random_log": True})["events"]) == len(logs) + 1
    read = [f.path for f in make_reader(settings).fragments() if f.table == "events"]
    assert [Path(path).stem for path in read] == logs
    row = tables["events"].row(0, named=True)
    assert (row["user_id"], row["post_id"], row["click"], row["favorite"]) == (1, 4, 1, 0)
    assert (row["dwell_s"], row["surface"], str(row["log_date"])) == (2.5, 2, "2022-04-09")
    assert tables["posts"]["topic_ids"].to_list() == [[40, 13]]
    facts = tables["users"]["attributes"].to_list()[0]
    assert "user_active_degree=full_active" in facts
    assert not any(fact.startswith("is_live_streamer") for fact in facts)


def test_kuairand_says_what_to_fetch(tmp_path):
    """A folder without the files names the archive, its site and where to put it."""
    with pytest.raises(MissingInputError, match=r"(?s)KuaiRand-1K.*kuairand\.com.*reader\.path"):
        make_reader({"name": "kuairand", "path": str(tmp_path)}).fragments()
    kuairand_csv(tmp_path, "1k", ["log_standard_4_08_to_4_21_1k"])
    with pytest.raises(MissingInputError, match=r"log_standard_4_22_to_5_08_1k\.csv: no such file"):
        make_reader({"name": "kuairand", "path": str(tmp_path)}).fragments()


ML_1M = {
    "ratings.dat": "1::2::5::978300760\n1::3::1::978300761\n",
    "movies.dat": "2::Amélie: a (2001)::Comedy|Children's\n3::Plain, old (1950)::Drama\n",
    "users.dat": "1::F::25::4::55455\n",
}
ML_25M = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,2,5.0,978300760\n1,3,1.0,978300761\n",
    "movies.csv": "movieId,title,genres\n2,Amélie: a (2001),Comedy|Children\n"
    '3,"Plain, old (1950)",Drama\n',
}
ML_100K = {
    "u.data": "1\t2\t5\t978300760\n1\t3\t1\t978300761\n",
    "u.item": "2|Amélie: a (2001)|01-Jan-2001||url|0|0|0|0|1|1" + "|0" * 13 + "\n"
    "3|Plain, old (1950)|01-Jan-1950||url|0|0|0|0|0|0|0|0|1" + "|0" * 10 + "\n",
    "u.user": "1|25|F|4|55455\n",
}


@pytest.mark.parametrize("layout", [ML_1M, ML_25M, ML_100K], ids=["1m", "25m", "100k"])
@pytest.mark.parametrize("zipped", [True, False])
def test_movielens_layouts(layout, zipped, tmp_path):
    """The same two ratings in each layout, folder or archive, give the same events and posts."""
    encoding = "utf-8" if layout is ML_25M else "latin-1"
    path = tmp_path / ("ml.zip" if zipped else "ml")
    contents = {name: text.encode(encoding) for name, text in layout.items()}
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in contents.items():
                archive.writestr(f"ml-x/{name}", data)
    else:
        path.mkdir()
        for name, data in contents.items():
            (path / name).write_bytes(data)
    tables = read_all({"name": "movielens", "path": str(path)})
    assert tables["events"].rows() == [
        (1, 2, 978_300_760_000, True, True, False),
        (1, 3, 978_300_761_000, True, False, True),
    ]
    posts = tables["posts"].select("post_id", "text", pl.col("topic_ids").list.sort())
    assert posts.rows() == [(2, "Amélie: a (2001)", [4, 5]), (3, "Plain, old (1950)", [8])]
    if "users" in tables:
        assert tables["users"]["attributes"].to_list() == [["gender=F", "age=25", "occupation=4"]]


@needs_shared
@pytest.mark.parametrize(("name", "num_rows"), [("latest-small", 100_836), ("100k", 100_000)])
def test_movielens_archives(name, num_rows):
    """The real archives are read whole."""
    tables = read_all({"name": "movielens", "path": str(SHARED / f"ml-{name}.zip")})
    assert len(tables["events"]) == num_rows


@needs_shared
def test_movielens_without_times():
    """A copy of 1M that lost its times is refused with the reason, or read by places."""
    path = str(SHARED / "ml-1m.zip")
    with pytest.raises(MissingInputError, match="which needs ranks: true"):
        make_reader({"name": "movielens", "path": path}).fragments()
    reader = make_reader({"name": "movielens", "path": path, "ranks": True})
    events = [f for f in reader.fragments() if f.table == "events"]
    first = pl.DataFrame(next(reader.read(events[0])).table).head(5)
    assert first["post_id"].to_list() == [3186, 1270, 1721, 1022, 2340]
    assert (first["shown_at_ms"].diff().drop_nulls() == 1000).all()


def test_movielens_says_what_to_fetch():
    """A path that is not there names the archives and their site."""
    reader = make_reader({"name": "movielens", "path": "/nowhere/ml-25m.zip"})
    with pytest.raises(MissingInputError, match=r"(?s)no such file.*grouplens\.org"):
        reader.fragments()


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
    import fsspec

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
