"""A follower tells every view all that happened, in order and once."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.live.sqlite import SqliteJournal
from tests.serve.live.followers import Out, following
from tests.serve.live.happenings import Seen, deletion, engagement, eventually, post


@pytest.mark.parametrize("max_messages", [1, 3, 1_000])
def test_every_view_is_told_everything_in_order(
    journal: SqliteJournal, letters: Path, max_messages: int
):
    """Batches of any size, down to one, lead to the same, and to being caught up."""
    journal.append([post(n) for n in range(1, 8)])
    views = Seen(), Seen()
    with following(journal, letters, *views, max_messages=max_messages) as follower:
        eventually(lambda: follower.caught_up)
        assert views[0].told == [f"post/{n}" for n in range(1, 8)]
        journal.append([deletion(3), engagement(1, 1, "liked")])
        eventually(lambda: follower.num_applied == 9)
        eventually(lambda: len(views[1].told) == 9)
        eventually(lambda: follower.lag == 0 or follower.problem)
        assert follower.problem is None
    assert views[0].told == views[1].told
    assert views[0].told[7:] == ["deletion/3", "1/liked"]
    assert not letters.exists()


def test_an_empty_journal_is_caught_up(journal: SqliteJournal, letters: Path):
    """Where nothing happened yet there is nothing to wait for."""
    with following(journal, letters, Seen()) as follower:
        eventually(lambda: follower.caught_up)
        assert follower.lag == 0


def test_repeats_are_dropped(journal: SqliteJournal, letters: Path):
    """A journal that gives each message twice leads to views that are told once."""
    view = Seen()
    journal.append([post(1), engagement(1, 1, "post/1")])
    with following(Out(journal), letters, view) as follower:
        eventually(lambda: follower.caught_up)
        assert follower.num_applied == 2
    assert view.told == ["post/1", "1/post/1"]


def test_a_post_after_its_deletion_is_told_later(journal: SqliteJournal, letters: Path):
    """A view may take a batch's posts first and its deletions then, and ends where order does."""
    view = Seen()
    journal.append([post(1), deletion(1, 2), post(2), post(1, at_ms=3), deletion(1, 4), post(3)])
    with following(journal, letters, view) as follower:
        eventually(lambda: follower.caught_up)
    told = ["post/1", "post/2", "deletion/1", "post/1", "post/3", "deletion/1"]
    assert (view.told, view.batches) == (told, 2)


def test_gathering_makes_few_batches(journal: SqliteJournal, letters: Path):
    """Once caught up, a follower that gathers waits until there is a batch."""
    view = Seen()
    with following(journal, letters, view, gather_s=3600.0, max_messages=10) as follower:
        eventually(lambda: follower.caught_up)
        for n in range(1, 21):
            journal.append([post(n)])
        eventually(lambda: len(view.told) == 20)
    assert view.batches == 2
