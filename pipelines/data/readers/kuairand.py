"""KuaiRand (Gao et al., CIKM 2022): the log of a short-video feed, in its Pure, 1K and 27K layouts.

https://kuairand.com, CC BY-SA 4.0. Ids begin with 0 there, so users, videos, authors, tags and
tabs are shifted by one. Never read: the `video_features_statistic` files, which count what
happened in the test days too.

The platform files an impression under a local day (`date`, here `log_date`), which near midnight
can be the day after the one of `time_ms`. The published split is by that day.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow as pa

from pipelines.data import files, text
from pipelines.data.reader import UNMAPPED, Batch, Fragment, MissingInputError, Reader
from pipelines.schema import ACTION_NAMES

BUNDLED = str(Path(__file__).parents[1] / "bundled" / "kuairand_pure")
SIZES = ("pure", "1k", "27k")
FETCH = (
    "fetch KuaiRand-Pure.tar.gz, KuaiRand-1K.tar.gz or KuaiRand-27K.tar.gz from "
    "https://kuairand.com, unpack it, and give reader.path the folder that holds `data/`"
)
UTC8_MS = 8 * 3_600_000

FLAGS = {
    "is_click": "click",
    "is_like": "favorite",
    "is_follow": "follow_author",
    "is_comment": "reply",
    "is_forward": "share",
    "is_hate": "not_interested",
    "long_view": "vqv",
    "is_profile_enter": "profile_click",
}
_INTEGERS = (
    *("user_id", "video_id", "date", "hourmin", "time_ms"),
    *FLAGS,
    *("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "is_rand", "tab"),
)
LOG = {name: pa.int64() for name in _INTEGERS}
VIDEOS = {
    "video_id": pa.int64(),
    "author_id": pa.int64(),
    "upload_dt": pa.string(),
    "video_duration": pa.float64(),
    "tag": pa.string(),
}
USERS = {"user_id": pa.int64(), "follow_user_num": pa.int64(), "fans_user_num": pa.int64()}
FACTS = (
    *("user_active_degree", "is_live_streamer", "is_video_author", "register_days_range"),
    *(f"onehot_feat{i}" for i in range(18)),
)
HISTORIES = ("user_id", "last_time_ms", "watch_seq", "like_seq", "long_watch_seq")


class Kuairand(Reader):
    """Reads the copy that comes with the project, or an official download."""

    path: str = BUNDLED  # folder of the files, or the folder above its `data`
    random_log: bool = False  # official layouts: also the log of randomly exposed videos

    action_names: ClassVar[dict[str, str]] = {
        **{action: name.removeprefix("is_") for name, action in FLAGS.items()},
        "dwell_time": "play_time",
    }

    def fragments(self) -> list[Fragment]:
        """Side tables first, then the log in the order of time."""
        for folder in (f"{self.path}/data", self.path):
            bundled = f"{folder}/log_standard_2022-04-25_2022-05-08.parquet"
            if files.exists(bundled):
                return self._bundled(folder, bundled)
            for size in SIZES:
                if files.exists(f"{folder}/user_features_{size}.csv"):
                    return self._official(folder, size)
        raise MissingInputError(f"{self.path}: no user_features_{{pure,1k,27k}}.csv there; {FETCH}")

    def read(self, fragment: Fragment) -> Iterator[Batch]:
        """Stream one file, or one row group of the bundled log."""
        types, convert = {
            "events": (LOG, _events),
            "posts": (VIDEOS, _posts),
            "users": (USERS | dict.fromkeys(FACTS, pa.string()), _users),
            "histories": (dict.fromkeys(HISTORIES), _histories),
        }[fragment.table]
        if fragment.path.endswith(".parquet"):
            batches = files.read_parquet(fragment, list(types))
        else:
            batches = text.read_csv(fragment, types)
        for batch in batches:
            yield Batch(convert(pl.DataFrame(batch.table)), batch.row, batch.rejected)

    def _bundled(self, folder: str, log: str) -> list[Fragment]:
        names = {
            "posts": "video_features_basic_pure",
            "users": "user_features_pure",
            "histories": "user_history_before_2022-04-25_last50",
        }
        paths = {table: f"{folder}/{name}.parquet" for table, name in names.items()}
        for path in paths.values():
            files.find_files(path, "it comes with the project: restore it with git")
        found = [files.parquet_fragments(table, path)[0] for table, path in paths.items()]
        return [f for part in [*found, files.parquet_fragments("events", log)[0]] for f in part]

    def _official(self, folder: str, size: str) -> list[Fragment]:
        parts = ("_part1", "_part2") if size == "27k" else ("",)
        periods = ["standard_4_08_to_4_21", "standard_4_22_to_5_08"]
        logs = [f"log_{period}_{size}{part}.csv" for period in periods for part in parts]
        if self.random_log:
            logs.append(f"log_random_4_22_to_5_08_{size}.csv")
        wanted = [
            ("posts", f"video_features_basic_{size}.csv"),
            ("users", f"user_features_{size}.csv"),
            *(("events", name) for name in logs),
        ]
        for _, name in wanted:
            files.find_files(f"{folder}/{name}", FETCH)
        return [text.text_fragment(table, f"{folder}/{name}") for table, name in wanted]


def _events(raw: pl.DataFrame) -> pa.Table:
    """Rows of the log; rows that differ anywhere in the file stay different here."""
    unmapped = ["hourmin", "duration_ms", "profile_stay_time", "comment_stay_time", "is_rand"]
    return raw.select(
        pl.col("user_id").cast(pl.Int64) + 1,
        post_id=pl.col("video_id").cast(pl.Int64) + 1,
        shown_at_ms=pl.col("time_ms"),
        log_date=pl.col("date").cast(pl.String).str.to_date("%Y%m%d", strict=False),
        surface=pl.col("tab").cast(pl.Int64) + 1,
        dwell_s=(pl.col("play_time_ms") / 1000).cast(pl.Float32),
        **{action: pl.col(name) for name, action in FLAGS.items()},
        **{UNMAPPED: pl.struct(pl.col(unmapped).cast(pl.Int64)).hash(0)},
    ).to_arrow()


def _posts(raw: pl.DataFrame) -> pa.Table:
    uploaded = pl.col("upload_dt").str.to_datetime("%Y-%m-%d", strict=False)
    return raw.select(
        post_id=pl.col("video_id") + 1,
        author_id=pl.col("author_id") + 1,
        created_at_ms=uploaded.dt.epoch("ms") - UTC8_MS,
        duration_s=(pl.col("video_duration") / 1000).cast(pl.Float32),
        topic_ids=pl.col("tag").str.split(",").cast(pl.List(pl.Int64)) + 1,
    ).to_arrow()


def _users(raw: pl.DataFrame) -> pa.Table:
    """Users; the data set's own sentinels for "unknown" (negative, UNKNOWN) are left out."""
    facts = []
    for name in FACTS:
        value = pl.col(name).cast(pl.String).str.strip_suffix(".0")
        known = ~value.str.starts_with("-") & (value != "UNKNOWN")
        facts.append(pl.when(known).then(pl.lit(f"{name}=") + value))
    return raw.select(
        user_id=pl.col("user_id") + 1,
        num_followers=pl.col("fans_user_num"),
        num_following=pl.col("follow_user_num"),
        attributes=pl.concat_list(facts).list.drop_nulls(),
    ).to_arrow()


def _histories(raw: pl.DataFrame) -> pa.Table:
    """Videos watched before the log: click for each, favorite and vqv for some."""
    entry = raw.select("user_id", "last_time_ms", "watch_seq").explode("watch_seq")
    did = pl.lit(1 << ACTION_NAMES.index("click"), pl.Int64)
    for sequence, action in (("like_seq", "favorite"), ("long_watch_seq", "vqv")):
        done = raw.select("user_id", watch_seq=sequence).explode("watch_seq").select(_PAIR)
        bit = pl.lit(1 << ACTION_NAMES.index(action), pl.Int64)
        did += pl.when(_PAIR.is_in(done.to_series().drop_nulls().implode())).then(bit).otherwise(0)
    return (
        entry.with_columns(did=did)  # not inside agg: the pairs would be copied for every viewer
        .group_by("user_id", maintain_order=True)
        .agg(
            pl.col("did"),
            as_of_ms=pl.col("last_time_ms").first() + 1,
            post_ids=pl.col("watch_seq") + 1,
        )
        .select(pl.col("user_id") + 1, "as_of_ms", "post_ids", "did")
        .to_arrow()
    )


_PAIR = pl.col("user_id") * (1 << 32) + pl.col("watch_seq")  # one number for viewer and video
