"""What the data job promises of its output, on the bundled log and on a small one."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from configs import ConfigError, load
from pipelines.data import job
from pipelines.data.__main__ import main
from pipelines.data.job import DataConfig, one_by_one, prepare
from pipelines.data.reader import InputError
from pipelines.data.spread import over_ray
from pipelines.schema import ACTION_NAMES, EXAMPLES, FOLLOWS, POSTS, SPLITS, USERS

from .small_log import EVENTS_ROWS, config, event, read, tables_of, write_parquet, write_small

DAYS = {"validate_from": dt.date(2026, 1, 2), "test_from": dt.date(2026, 1, 3)}
KUAIRAND = "configs/data/kuairand.yaml"
LOG = "pipelines/data/bundled/kuairand_pure/log_standard_2022-04-25_2022-05-08.parquet"


@pytest.fixture(scope="module")
def kuairand(tmp_path_factory) -> Path:
    """The bundled log as the job writes it, here in this process."""
    out = tmp_path_factory.mktemp("kuairand") / "out"
    prepare(load(KUAIRAND, DataConfig, [f"out={out}", "examples.history_len=20"]))
    return out


def test_the_published_split(kuairand):
    """Rows of train, validate and test are those on which the reference figures stand."""
    manifest = json.loads((kuairand / "manifest.json").read_text())
    candidates = [manifest["splits"][split]["candidates"] for split in SPLITS]
    assert candidates == [180_384, 13_580, 28_905]
    assert manifest["rows"]["events"] == {
        "read": 228_329,
        "duplicates": 5_460,
        "rejected": 0,
        "kept": 222_869,
    }


def test_manifest_counts_are_those_of_the_tables(kuairand):
    """Counts, ranges and fingerprint in the manifest are what the tables hold."""
    manifest = json.loads((kuairand / "manifest.json").read_text())
    for split in SPLITS:
        shown = read(kuairand, split, "shown_at_ms")["shown_at_ms"]
        flat = shown.explode()
        assert manifest["splits"][split] == {
            "examples": len(shown),
            "candidates": len(flat),
            "first_ms": flat.min(),
            "last_ms": flat.max(),
        }
    for name in ("posts", "users"):
        assert manifest["rows"][name]["kept"] == len(pl.read_parquet(kuairand / f"{name}.parquet"))
    lines = [
        f"{hashlib.sha256(data).hexdigest()} {path}\n" for path, data in tables_of(kuairand).items()
    ]
    assert manifest["fingerprint"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert manifest["actions"] == list(ACTION_NAMES)
    assert manifest["action_names"]["favorite"] == "like"


def test_tables_have_the_columns_of_the_contract(kuairand):
    """Every table is read back with exactly the columns that schema.py names."""
    for split in SPLITS:
        [path, *_] = (kuairand / f"examples/split={split}").iterdir()
        assert pl.Schema(EXAMPLES) == pl.read_parquet_schema(path)
    for name, table in (("posts", POSTS), ("users", USERS), ("follows", FOLLOWS)):
        assert pl.Schema(table.arrow) == pl.read_parquet_schema(kuairand / f"{name}.parquet")


def test_nothing_in_training_is_newer_than_test(kuairand):
    """The newest training row, candidate or history, is older than the oldest test row."""
    oldest = read(kuairand, "test", "shown_at_ms")["shown_at_ms"].list.min().min()
    train = read(kuairand, "train", "shown_at_ms", "history_at_ms")
    assert train["shown_at_ms"].list.max().max() < oldest
    assert train["history_at_ms"].list.max().max() < oldest


def test_no_history_reaches_into_its_example(kuairand):
    """Every entry of every history is strictly older than the first candidate."""
    for split in SPLITS:
        rows = read(kuairand, split, "at_ms", "shown_at_ms", "history_at_ms")
        newest = rows["history_at_ms"].list.max().fill_null(0)
        assert (newest < rows["at_ms"]).all()
        assert (rows["shown_at_ms"].list.first() == rows["at_ms"]).all()


def test_candidates_are_the_log(kuairand):
    """The candidates of all splits, with what came of them, are the rows of the raw log."""
    raw = pl.read_parquet(LOG).unique()
    likes = 1 << ACTION_NAMES.index("favorite")
    columns = ("post_id", "shown_at_ms", "did", "dwell_s", "surface")
    found = pl.concat([read(kuairand, split, "user_id", *columns) for split in SPLITS])
    found = found.explode(columns).select(
        pl.col("user_id") - 1,
        pl.col("post_id") - 1,
        "shown_at_ms",
        (pl.col("did") & likes != 0).alias("like"),
        (pl.col("dwell_s") * 1000).round().cast(pl.Int64),
        pl.col("surface").cast(pl.Int64) - 1,
    )
    expected = raw.select(
        pl.col("user_id").cast(pl.Int64),
        pl.col("video_id").cast(pl.Int64),
        "time_ms",
        pl.col("is_like") == 1,
        pl.col("play_time_ms").cast(pl.Int64),
        pl.col("tab").cast(pl.Int64),
    )
    names = found.columns
    expected = expected.rename(dict(zip(expected.columns, names, strict=True)))
    assert found.sort(names).equals(expected.sort(names))


def test_authors_and_first_histories(kuairand):
    """The first example of a viewer has the watched videos from before the log, and no others."""
    names = ("user_id", "history_post_id", "history_author_id", "history_at_ms")
    first = read(kuairand, "train", *names).filter(pl.col("user_id") == 1).row(0, named=True)
    folder = Path(LOG).parent
    before = pl.read_parquet(folder / "user_history_before_2022-04-25_last50.parquet")
    watched = before.filter(user_id=0)["watch_seq"].to_list()[0]
    authors = dict(
        pl.read_parquet(folder / "video_features_basic_pure.parquet")
        .select("video_id", "author_id")
        .iter_rows()
    )
    assert first["history_post_id"] == [video + 1 for video in watched]
    assert first["history_author_id"] == [authors[video] + 1 for video in watched]
    assert set(first["history_at_ms"]) == {0}


def test_order_of_work_does_not_matter(tmp_path):
    """Fragments and partitions may finish in any order: the tables are the same to the byte."""
    folder = write_small(tmp_path)
    (folder / "events.parquet").unlink()
    for at, row in enumerate(EVENTS_ROWS):
        write_parquet(folder / f"events/{at}.parquet", [row])
    settings = config(folder, partition_rows=3)

    def backwards(what, function, items):
        return reversed(list(one_by_one(what, function, items)))

    forward = prepare(settings)
    tables = tables_of(folder / "out")
    assert forward["partitions"] == 4
    assert prepare(settings, backwards) == forward
    assert tables_of(folder / "out") == tables


def test_small_log_by_hand(tmp_path):
    """Ten rows, written out: visits, histories, authors and masks as one would draw them."""
    prepare(config(write_small(tmp_path)))
    names = ("user_id", "post_id", "author_id", "history_post_id", "did", "observed")
    found = read(tmp_path / "out", "test", *names)
    click = 1 << ACTION_NAMES.index("click")
    seen = click | 1 << ACTION_NAMES.index("dwell_time")
    assert found.rows() == [
        (1, [11], [111], [11, 12, 13, 14, 15], [0], [seen]),
        (2, [15, 16], [115, 116], [12, 11], [0, click], [seen, seen]),
    ]


def test_split_by_day_that_leaks_is_refused(tmp_path):
    """When the log's days would put newer rows into train than into test, the run stops."""
    late_train = event(1, 11, 9, log_date=DAYS["validate_from"] - dt.timedelta(days=1))
    early_test = event(1, 12, 1, log_date=DAYS["test_from"])
    write_parquet(tmp_path / "events.parquet", [late_train, early_test])
    with pytest.raises(InputError, match="train has a row shown at"):
        prepare(config(tmp_path, split=DAYS))


def test_days_need_a_log_date(tmp_path):
    """A split by day refuses rows that say no day."""
    write_small(tmp_path)
    with pytest.raises(InputError, match="row 1, column log_date: None: null"):
        prepare(config(tmp_path, split=DAYS))


def test_a_crash_leaves_the_old_output(tmp_path, monkeypatch):
    """A run that dies midway leaves what was there before, whole, and nothing beside it."""
    settings = config(write_small(tmp_path))
    prepare(settings)
    beside = sorted(tmp_path.iterdir())
    before = tables_of(tmp_path / "out")
    monkeypatch.setattr(job, "gather", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(settings)
    assert tables_of(tmp_path / "out") == before
    assert sorted(tmp_path.iterdir()) == beside


def test_what_a_killed_run_left_is_cleared(tmp_path):
    """A half-made folder is in the way of no later run, and nothing of it is in the output."""
    settings = config(write_small(tmp_path))
    (tmp_path / "out.partial/scratch").mkdir(parents=True)
    (tmp_path / "out.partial/half.parquet").write_text("half")
    prepare(settings)
    assert "half.parquet" not in tables_of(tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


def test_foreign_folders_are_left_alone(tmp_path):
    """A folder with other files in it is not overwritten."""
    write_small(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds files that this job did not write"):
        prepare(config(tmp_path))


def test_scratch_is_deleted(tmp_path):
    """Nothing but the declared tables and the manifest is left."""
    prepare(config(write_small(tmp_path)))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {"posts.parquet", "users.parquet", "follows.parquet"}
    assert names == tables | {
        "manifest.json",
        "examples",
        "profiles",
        "rates",
        "rejected",
        "sequences",
    }


def test_unknown_reader(tmp_path):
    """A reader that there is not is an error that names the near miss."""
    with pytest.raises(ConfigError, match=r"'kuai_rand'; did you mean 'kuairand'\?"):
        prepare(config(tmp_path, reader={"name": "kuai_rand", "events": ""}))


@pytest.mark.parametrize("path", sorted(Path("configs/data").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_settings_are_valid(path):
    """Every file in configs/data can be loaded, and its reader made."""
    assert job.make_reader(load(path, DataConfig).reader)


def test_command_line_reports_errors(capsys):
    """A wrong setting ends the command with code 1 and one readable message."""
    assert main([KUAIRAND, "splitt.test_from=2022-05-07"]) == 1
    assert "did you mean 'split'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.ray
def test_ray_writes_the_same_bytes(tmp_path):
    """The job on a cluster, twice, and in one process: byte-identical tables and manifests."""
    import ray

    from pipelines.runtime import connect

    connect(num_cpus=2)
    try:
        overrides = [f"out={tmp_path / 'out'}", "partition_rows=40000"]
        settings = load(KUAIRAND, DataConfig, overrides)
        expected, tables = prepare(settings), tables_of(tmp_path / "out")
        for _ in range(2):
            shutil.rmtree(tmp_path / "out")
            assert prepare(settings, over_ray) == expected
            assert tables_of(tmp_path / "out") == tables
        bad = write_small(tmp_path / "bad")
        write_parquet(bad / "events.parquet", [*EVENTS_ROWS, event(1, 99, 1)])
        with pytest.raises(InputError, match="row 11, column post_id: 99: dangling id"):
            prepare(config(bad), over_ray)
    finally:
        ray.shutdown()
