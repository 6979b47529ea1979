"""Readers of public data: every layout gives the contract, or the reader says what to fetch."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from pipelines.data.check import columns
from pipelines.data.reader import UNMAPPED, MissingInputError, make_reader, reader_names
from pipelines.data.readers.kuairand import FACTS, LOG, USERS, VIDEOS
from pipelines.schema import TABLES

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


def test_movielens_ratings_keep_their_stars(tmp_path):
    """Beside events, ratings come with half stars and in the order of the file."""
    lines = "userId,movieId,rating,timestamp\n7,3,3.5,20\n7,2,0.5,10\n"
    for name, text in (ML_25M | {"ratings.csv": lines}).items():
        (tmp_path / name).write_text(text)
    reader = make_reader({"name": "movielens", "path": str(tmp_path)})
    assert reader.ratings().rows() == [(7, 3, 20, 3.5), (7, 2, 10, 0.5)]


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
