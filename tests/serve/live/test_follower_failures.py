"""What fails holds up nothing else, and is told all once it works again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve.live.messages import Message
from serve.live.sqlite import SqliteJournal
from tests.serve.live.followers import Failing, Out, following
from tests.serve.live.happenings import Seen, eventually, poison, post


def test_poison_is_put_aside_once(
    journal: SqliteJournal, letters: Path, caplog: pytest.LogCaptureFixture
):
    """What cannot be read is kept with the reason and holds nothing up, nor after a restart."""
    wrong = Message("posts", "wrong", 5, b'{"kind": "post", "post_id": 0, "author_id": 1}')
    journal.append([poison("p1"), post(1), wrong, post(2), poison("p2")])
    for _ in range(2):
        view = Seen()
        with following(journal, letters, view, max_messages=1) as follower:
            eventually(lambda: follower.caught_up)
            assert view.told == ["post/1", "post/2"]
            assert (follower.num_poison, follower.num_applied) == (3, 2)
            assert follower.problem is None
    kept = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [one["key"] for one in kept] == ["p1", "wrong", "p2"]
    assert "post_id" in kept[1]["reason"]
    assert kept[1]["body"] == wrong.body.decode()
    assert "body_base64" in kept[0]
    assert "engagements p1: cannot be read" in caplog.text


def test_a_failing_view_holds_up_no_other(journal: SqliteJournal, letters: Path):
    """Others are told everything once meanwhile; it gets everything, in order, when it works."""
    good, bad = Seen(), Failing()
    expected = [f"post/{n}" for n in range(1, 21)]
    journal.append([post(n) for n in range(1, 21)])
    with following(journal, letters, bad, good, group="g", max_messages=3) as follower:
        eventually(lambda: good.told == expected)
        eventually(lambda: bad.tries > 2)
        assert "Failing: " in str(follower.problem)
        assert "the store is out" in str(follower.problem)
        assert not follower.caught_up
        bad.out.clear()
        eventually(lambda: bad.told == expected)
        eventually(lambda: follower.caught_up and follower.problem is None)
    assert good.told == expected


@pytest.mark.parametrize("group", [None, "g"])
@pytest.mark.parametrize("copies", [False, True])
def test_a_view_that_is_out_for_long_is_told_all(
    journal: SqliteJournal, letters: Path, group: str | None, copies: bool
):
    """Past what is kept for it the journal is read again: all are told everything, and once."""
    good, bad = Seen(), Failing()
    expected = [f"post/{n}" for n in range(1, 31)]
    with following(
        Out(journal) if copies else journal,
        letters,
        *(good, bad),
        group=group,
        max_messages=2,
        max_waiting=5,
    ) as follower:
        for n in range(1, 31):
            journal.append([post(n)])
        eventually(lambda: good.told == expected)
        bad.out.clear()
        eventually(lambda: len(set(bad.told)) == 30)
        eventually(lambda: follower.caught_up and follower.problem is None)
        eventually(lambda: follower.lag == 0)
        assert follower.num_applied == 30
    assert good.told == bad.told == expected


def test_a_journal_that_is_out_is_a_problem_until_it_is_back(journal: SqliteJournal, letters: Path):
    """Dead at the start or later: not caught up, it says why, and it goes on by itself."""
    dead = Out(journal)
    dead.out.set()
    journal.append([post(1)])
    view = Seen()
    with following(dead, letters, view) as follower:
        eventually(lambda: follower.problem == "the journal is out")
        assert not follower.caught_up
        dead.out.clear()
        eventually(lambda: follower.caught_up and follower.problem is None)
        dead.out.set()
        eventually(lambda: follower.problem == "the journal is out")
        assert follower.caught_up
        journal.append([post(2)])
        dead.out.clear()
        eventually(lambda: view.told == ["post/1", "post/2"])
