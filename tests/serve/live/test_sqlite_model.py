"""The embedded journal against a list: whatever is done in whatever order, they agree."""

from __future__ import annotations

import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from serve.live.messages import TOPICS, Message
from serve.live.sqlite import SqliteJournal, SqliteReader
from serve.live.sqlite_file import SqliteSettings
from tests.serve.live.happenings import engagement, post


class AgainstAList(RuleBasedStateMachine):
    """Two writers, a lone reader and a group: all that they see is what a list would give."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Message] = []
        self.alone_at = self.group_at = self.committed = 0

    @initialize()
    def begin(self) -> None:
        """Open everything on one new file."""
        self.folder = tempfile.TemporaryDirectory()
        self.place = SqliteSettings(path=f"{self.folder.name}/journal.db")
        self.writers = [SqliteJournal(self.place) for _ in range(2)]
        self.alone: SqliteReader = self.writers[0].reader(["posts", "engagements"])
        self.group: SqliteReader = self.writers[1].reader(["posts", "engagements"], group="g")

    @rule(who=st.integers(0, 1), numbers=st.lists(st.integers(1, 12), max_size=5))
    def write(self, who: int, numbers: list[int]) -> None:
        """Some of it was written before, perhaps by the other, or stands in the request twice."""
        request = [post(n) if n % 2 else engagement(1, n, f"post/{n - 1}/1000") for n in numbers]
        news = []
        for one in request:
            news.append(one.name not in {m.name for m in self.written})
            if news[-1]:
                self.written.append(one)
        assert self.writers[who].append(request) == news

    @rule(num=st.integers(1, 4))
    def read_alone(self, num: int) -> None:
        """What comes next, in order."""
        found = self.alone.poll(num, 0.0)
        assert found == self.written[self.alone_at : self.alone_at + num]
        self.alone_at += len(found)

    @rule()
    def go_on_from_position(self) -> None:
        """A new reader stands where the old one stood."""
        position = self.alone.position()
        self.alone.close()
        self.alone = self.writers[1].reader(TOPICS, after=position)

    @rule(num=st.integers(1, 4))
    def read_in_group(self, num: int) -> None:
        """A group is given the same as one that reads alone."""
        found = self.group.poll(num, 0.0)
        assert found == self.written[self.group_at : self.group_at + num]
        self.group_at += len(found)

    @rule()
    def commit(self) -> None:
        """What was polled is done with."""
        self.group.commit()
        self.committed = self.group_at

    @rule()
    def restart_group(self) -> None:
        """What was polled and not committed comes again."""
        self.group.close()
        self.group = self.writers[0].reader(TOPICS, group="g")
        self.group_at = self.committed

    @rule(who=st.integers(0, 1))
    def restart_writer(self, who: int) -> None:
        """A new process knows what the old one wrote."""
        self.writers[who].close()
        self.writers[who] = SqliteJournal(self.place)

    @invariant()
    def counts(self) -> None:
        """The lag is what was written and not read."""
        if hasattr(self, "alone"):
            assert self.alone.lag() == len(self.written) - self.alone_at
            assert self.group.lag() == len(self.written) - self.group_at

    def teardown(self) -> None:
        """Close what was opened."""
        if hasattr(self, "alone"):
            for one in (self.alone, self.group, *self.writers):
                one.close()
            self.folder.cleanup()


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
