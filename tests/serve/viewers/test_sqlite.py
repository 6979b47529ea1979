"""The embedded store of viewers, in a file and in memory."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from serve.stores.viewers import SqliteSettings, SqliteViewers, make_viewer_store
from serve.stores.viewers.store import ViewerStoreError, posts_of
from tests.serve.viewers.contract import AT_MS, engaged, every_promise, in_store, page, table


@pytest.fixture(params=["file", "memory"])
def open_store(request, tmp_path):
    """Opens a new and empty store."""
    number = itertools.count()

    def open_store(now_ms=None, **settings):
        path = str(tmp_path / "new" / f"{next(number)}.db") if request.param == "file" else None
        settings = SqliteSettings(path=path, **settings)
        return SqliteViewers(settings, now_ms) if now_ms else make_viewer_store(settings)

    return open_store


@every_promise
def test_the_embedded_store_keeps_its_promises(promise, open_store):
    """Every promise of a store of viewers holds, in a file and in memory."""
    promise(open_store)


def test_viewers_are_bounded(open_store):
    """The viewers written about last stay, and one left alone for too long goes, with everything.

    Whether they are too many is looked at when another one comes.
    """
    now_ms = AT_MS

    async def test(store):
        nonlocal now_ms
        for user_id in (1, 2, 1, 3):
            now_ms += 1
            await store.add_page(user_id, page(f"{now_ms}", [user_id]))
            await store.add_engagements(table([engaged(f"{now_ms}", user_id=user_id)]))
        kept = [len(await store.pages(u)) + len(await store.engagements(u)) for u in (1, 2, 3)]
        assert kept == [4, 0, 2]
        now_ms += 61_000
        await store.add_page(3, page("again", [3]))
        await store.add_page(4, page("new", [4]))
        assert [len(await store.pages(user_id)) for user_id in (1, 3, 4)] == [0, 2, 1]

    in_store(
        lambda **bounds: open_store(now_ms=lambda: now_ms, **bounds),
        test,
        num_viewers=2,
        retention_s=60,
    )


def test_what_is_in_a_file_outlives_the_process(tmp_path):
    """A store that is opened again knows what it knew."""
    settings = SqliteSettings(path=str(tmp_path / "viewers.db"))

    async def write(store):
        await store.add_page(1, page("r", [3, 4]))
        await store.add_engagements(table([engaged("a")]))

    async def read(store):
        assert posts_of(await store.pages(1)).tolist() == [3, 4]
        assert (await store.engagements(1)).to_pylist() == [engaged("a")]

    in_store(lambda: SqliteViewers(settings), write)
    in_store(lambda: SqliteViewers(settings), read)


def _write(path: str, name: str) -> None:
    async def write(store):
        for at in range(25):
            await store.add_page(1, page(f"{name}{at:02}", [at], AT_MS + at))

    in_store(lambda: SqliteViewers(SqliteSettings(path=path, busy_timeout_ms=60_000)), write)


def test_replicas_share_a_file(tmp_path):
    """Processes that write at the same time lose nothing of each other's, from the first moment."""
    path = str(tmp_path / "viewers.db")
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_write, args=(path, name)) for name in "ab"]
    for other in others:
        other.start()
    _write(path, "c")
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    num = in_store(lambda: SqliteViewers(SqliteSettings(path=path)), lambda store: store.pages(1))
    assert len(num) == 75


def test_a_page_does_not_wait_for_a_write(tmp_path):
    """While another replica holds the file for writing, reads are answered and writes refused."""
    path = tmp_path / "viewers.db"

    async def test(store):
        await store.add_page(1, page("r", [3]))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ViewerStoreError, match=r"viewers\.db: database is locked"):
            await store.add_page(1, page("s", [4]))
        assert posts_of(await store.pages(1)).tolist() == [3]
        other.execute("COMMIT")
        other.close()
        await store.add_page(1, page("s", [4]))
        assert posts_of(await store.pages(1)).tolist() == [3, 4]

    in_store(lambda: SqliteViewers(SqliteSettings(path=str(path), busy_timeout_ms=1)), test)


@pytest.mark.parametrize("content", ["not a database, but long enough to look like one" * 9, None])
def test_another_file_is_refused(tmp_path, content):
    """A file that holds something else is named, and left as it is."""
    path = tmp_path / "other.db"
    if content is None:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE bills (amount)")
        other.close()
    else:
        path.write_text(content)
    held = path.read_bytes()
    with pytest.raises(ViewerStoreError, match=r"other\.db: "):
        SqliteViewers(SqliteSettings(path=str(path)))
    if content is not None:
        assert path.read_bytes() == held


def test_a_closed_store_says_so(tmp_path):
    """After `close` calls fail as they do when a store is down."""

    async def test():
        store = SqliteViewers(SqliteSettings(path=str(Path(tmp_path) / "viewers.db")))
        await store.close()
        with pytest.raises(ViewerStoreError, match="closed"):
            await store.pages(1)

    asyncio.run(test())
