"""A replica that starts from a snapshot knows what one knows that reads the whole journal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.live.follower import Follower
from serve.live.snapshots import Snapshots, SnapshotSettings, Start
from serve.live.sqlite import SqliteJournal
from serve.live.state import LiveState
from serve.stores.recent import RecentPosts
from tests.serve.live.happenings import deletion, engagement, eventually, post
from tests.serve.live.states import (
    MESSAGES,
    act,
    apply,
    begin,
    known,
    saved,
    shown,
    started,
    state,
)


@settings(max_examples=30, deadline=None)
@given(MESSAGES, st.integers(0, 14), st.integers(1, 14))
def test_a_snapshot_and_the_rest_are_the_journal(tmp_path_factory, messages, cut, size):
    """Wherever it was made, and however the rest is batched: posts, counts, relations, order.

    And so after another bundle was loaded.
    """
    folder = tmp_path_factory.mktemp("snapshots")
    whole, first = state(), state()
    store = shown(whole)
    apply(whole, messages)
    shown(first)
    apply(first, messages[:cut], size)
    saved(first, folder, {"a": cut})
    second, start = started(folder)
    assert (start.after, start.told[:10]) == ({"a": cut}, "a snapshot")
    assert start.seen == {("posts", "p"): ("a", 3), ("posts", "q"): None}
    again = shown(second)
    apply(second, messages[cut:], size)
    assert known(second, again) == known(whole, store)
    assert known(whole, shown(whole)) == known(second, again)


def altered(path: Path, part: str, change: Callable[[bytes], bytes | None]) -> None:
    """Change one part of a snapshot as a program would that wrote it so; None = leave it out."""
    with ZipFile(path) as parts:
        bodies = {name: parts.read(name) for name in parts.namelist()}
    with ZipFile(path, "w") as parts:
        for name, body in bodies.items():
            changed = change(body) if name == part else body
            if changed is not None:
                parts.writestr(name, changed)


def with_column(body: bytes) -> bytes:
    """A table that a later program would write."""
    table = pq.read_table(pa.BufferReader(body))
    sink = pa.BufferOutputStream()
    pq.write_table(table.append_column("new", pa.array(np.zeros(len(table)))), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("part", "change", "name", "why"),
    [
        ("about.json", lambda body: body.replace(b'"format":2', b'"format":1'), "a", "version"),
        ("about.json", lambda body: body.replace(b'"reply"', b'"share"'), "a", "version"),
        ("about.json", lambda body: b"{}", "a", "damaged: about.json"),
        ("posts.parquet", with_column, "a", "damaged: posts"),
        ("posts.parquet", lambda body: None, "a", "damaged: posts"),
        ("recent.npz", lambda body: body[:100], "a", "damaged: recent"),
        ("", None, "b", "of journal a, and this is b"),
    ],
)
def test_what_protects_holds_though_a_snapshot_is_no_place_to_go_on_from(
    tmp_path: Path, part, change, name, why
):
    """The whole journal is read, the reason told; deletions and relations are known at once."""
    live = state()
    shown(live)
    apply(live, [post(3), deletion(1), act(1, 2, "block_author", 3_000)])
    saved(live, tmp_path, {"a": 3})
    (path,) = tmp_path.glob("*.zip")
    altered(path, part, change)
    found, start = started(tmp_path, name)
    assert (start.after, start.seen) == (None, {})
    assert start.told.startswith("the whole journal: ")
    assert why in start.told
    assert not shown(found).has(1)
    assert found.relations.blocked_by(2).tolist() == [1]
    assert found.stats()["new_posts"] == 0


def test_a_version_that_was_deleted_does_not_come_back_from_the_journal(tmp_path: Path):
    """Where deletions are all that could be read, a post is hidden until its newest is told of."""
    live, told = state(), [post(3, text="rain"), deletion(3), post(3, at_ms=3_000, text="snow")]
    shown(live)
    apply(live, told)
    saved(live, tmp_path, {"a": 3})
    found, _ = started(tmp_path, "b")
    store = shown(found)
    for one, is_known in zip(told, (False, False, True), strict=True):
        apply(found, [one])
        assert store.has(3) == is_known
    assert not store.mention(np.array([3]), ("rain",))[0]


def test_no_damage_stops_the_start_or_goes_unseen(tmp_path: Path):
    """Whichever bit of its directory flips: all is known, or the journal is read from the start."""
    live = state()
    store = shown(live)
    apply(live, [post(3, text="rain"), deletion(1), act(1, 2, "block_author", 3_000), post(4, 2)])
    saved(live, tmp_path, {"a": 4})
    (path,) = tmp_path.glob("*.zip")
    body, all_known = path.read_bytes(), known(live, store)
    refused = 0
    for at in range(body.index(b"PK\x01\x02"), len(body), 7):
        flipped = bytearray(body)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        found, start = started(tmp_path)
        refused += start.after is None
        if start.after is not None:
            assert start.after == {"a": 4}
            assert known(found, shown(found)) == all_known
    assert refused


def test_without_a_snapshot_the_whole_journal_is_read(tmp_path: Path):
    """And the reason is told; what lies in the folder and is no snapshot is left alone."""
    (tmp_path / "backup.zip").write_bytes(b"x")
    (tmp_path / "1-of-mine.zip").write_bytes(b"x")
    live, start = started(tmp_path)
    assert (start.after, start.seen) == (None, {})
    assert start.told == f"the whole journal: no snapshot in {tmp_path}"
    shown(live)
    for n in range(3):
        saved(live, tmp_path, {"a": n})
    assert len(list(tmp_path.glob("*.zip"))) == 2 + 2


def test_the_one_before_serves_when_the_last_is_damaged(tmp_path: Path):
    """Two are kept."""
    live = state()
    shown(live)
    for n in range(3):
        apply(live, [post(3 + n)])
        saved(live, tmp_path, {"a": n})
    _, newest = paths = sorted(tmp_path.glob("*.zip"))
    assert len(paths) == 2
    newest.write_bytes(b"PK")
    _, start = started(tmp_path)
    assert start.after == {"a": 1}


def test_a_clock_that_was_ahead_ends_no_snapshots(tmp_path: Path):
    """What was written in the future is followed by what is written now, and that counts."""
    live = state()
    shown(live)
    saved(live, tmp_path, {"a": 1})
    (path,) = tmp_path.glob("*.zip")
    ahead_s = time.time() + 365 * 86_400
    path = path.rename(tmp_path / f"{int(1_000 * ahead_s):013d}-{'a' * 12}.zip")
    os.utime(path, (ahead_s, ahead_s))
    saved(live, tmp_path, {"a": 2}, every_s=300.0)
    assert started(tmp_path)[1].after == {"a": 2}


def test_one_is_made_when_one_is_due(tmp_path: Path):
    """Replicas that share the folder make one every `every_s`, not each one of its own."""
    live = state()
    shown(live)
    for n, num in ((1, 1), (2, 1), (3, 2)):
        if n == 3:
            (path,) = tmp_path.glob("*.zip")
            os.utime(path, (time.time() - 301, time.time() - 301))
        saved(live, tmp_path, {"a": n}, every_s=300.0)
        assert len(list(tmp_path.glob("*.zip"))) == num


def test_what_a_killed_process_left_is_cleared(tmp_path: Path):
    """Once it is an hour old; one that may still be written to stays."""
    names = [f"{n:013d}-{'a' * 12}.zip.7.partial" for n in (1, 2)]
    for name in names:
        (tmp_path / name).write_bytes(b"PK")
    os.utime(tmp_path / names[0], (time.time() - 3_700, time.time() - 3_700))
    live = state()
    shown(live)
    saved(live, tmp_path, {"a": 1})
    assert [path.name for path in tmp_path.glob("*.partial")] == names[1:]


def test_a_bundle_that_is_older_has_all_counted_that_is_known(tmp_path: Path):
    """Back to what is kept; where counts were let go the whole journal is read again."""
    for most, after in ((10, {"a": 3}), (1, None)):
        live, folder = state(max_counted=most), tmp_path / str(most)
        shown(live, as_of_ms=5_000)
        acts = [act(1, 2, "block_author", 3_000), *(act(n, 2, "reply", 2_000 + n) for n in (1, 2))]
        apply(live, [deletion(1), *acts], size=1)
        saved(live, folder, {"a": 3})
        again, start = started(folder, as_of_ms=1_000)
        store = shown(again)
        assert start.after == after
        assert ("whole journal" in start.told) == (after is None)
        assert not store.has(1)
        assert again.relations.blocked_by(2).tolist() == [1]
        assert again.counts.of(np.array([2])).sum() == (2 if after else 0)


def test_a_clock_that_was_ahead_hides_no_recent_posts(tmp_path: Path):
    """Put right, it takes in what is published then; what was there before is there again."""
    now_ms = 100 * 86_400_000
    ahead = LiveState(RecentPosts(), lambda: now_ms)
    shown(ahead)
    apply(ahead, [post(3, 7, now_ms)])
    later_ms = now_ms + 3 * 86_400_000
    assert ahead.recent.read(9, [7], (), later_ms, 9).post_id.tolist() == []
    for saved_ms, found in ((now_ms, [4, 3]), (later_ms, [4])):
        ahead._now_ms = lambda saved_ms=saved_ms: saved_ms
        saved(ahead, tmp_path, {"a": saved_ms})
        live, _ = started(tmp_path, live=LiveState(RecentPosts(), lambda: now_ms))
        assert live.newest_ms == now_ms
        shown(live)
        apply(live, [post(4, 7, now_ms)])
        assert live.recent.read(9, [7], (), now_ms, 9).post_id.tolist() == found


def test_what_is_frozen_stays_as_it_was():
    """Relations become a table only when they are written, and are those of the moment before."""
    live = state()
    shown(live)
    apply(live, [act(1, 2, "block_author", 3_000)])
    frozen = live.freeze()
    apply(live, [act(1, 1, "block_author", 3_000), act(2, 1, "block_author", 3_000)])
    assert frozen.tables["relations"]().num_rows == 1


def follow(journal: SqliteJournal, folder: Path, until: Callable[[LiveState], bool]) -> Start:
    """What a replica does from its start on until it is killed."""
    live = state()
    settings = SnapshotSettings(directory=str(folder), every_s=0.01)
    start = begin(live, settings, journal, 1_000)
    snapshots = Snapshots(settings, live.freeze, journal)
    shown(live)
    follower = Follower(
        journal,
        [live],
        after=start.after,
        seen=start.seen,
        checkpoint=snapshots.checkpoint,
        dead_letters=str(folder / "letters.jsonl"),
    )
    eventually(lambda: follower.caught_up and until(live))
    follower.close()
    snapshots.close()
    return start


def test_what_protects_outlives_the_journal(journal: SqliteJournal, tmp_path: Path):
    """Deletions and blocks are known after a restart though the journal let go of them."""
    folder = tmp_path / "snapshots"
    told = [deletion(1), act(1, 2, "block_author", 3_000), engagement(1, 2, "e")]
    journal.append(told)
    start = follow(journal, folder, lambda live: bool(list(folder.glob("*.zip"))))
    assert start.told.startswith("the whole journal: no snapshot")
    with journal._file.use("trim") as connection:
        connection.execute("DELETE FROM messages")
    journal.append([post(5)])

    def all_is_known(live: LiveState) -> bool:
        store = live._fed[0][0]
        assert live.counts.of(np.array([2])).sum() == 1
        assert live.relations.blocked_by(2).tolist() == [1]
        return store.has(5) and not store.has(1)

    assert follow(journal, folder, all_is_known).after
