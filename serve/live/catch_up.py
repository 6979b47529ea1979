"""When a reader of the journal has caught up: readiness that cannot wait for ever."""

from __future__ import annotations


class CatchUp:
    """Counts down what lay in the journal, in rounds that each are at most half of the last.

    A round is as many messages as were not read when it began. It ends when so many were read and
    applied, whatever they held, or when nothing is left. If the next would not be shorter by half,
    messages come as fast as they are read and no waiting brings the end nearer: that is caught
    up, too. So there are few rounds, each ends, and nothing depends on how many partitions or
    how large batches are, or on a signal that may be missed.

    Attributes:
        done: whether what lay there at the start is applied. It stays true.
    """

    def __init__(self) -> None:
        self.done = False
        self._round: int | None = None  # messages of this round; none has begun
        self._left = 0
        self._applied = True
        self._idle = False

    def read(self, num: int) -> None:
        """So many messages were read; they are not applied yet."""
        self._left -= num
        self._idle = num == 0
        self._applied = self._applied and num == 0

    def applied(self) -> None:
        """All that was read is applied."""
        self._applied = True

    @property
    def asks(self) -> bool:
        """Whether to say with `counted` what is left."""
        return not self.done and self._applied and (self._left <= 0 or self._idle)

    def counted(self, lag: int) -> None:
        """So many messages are not read now."""
        if self.done or not self._applied:
            return
        if lag == 0:
            self.done = True
        elif self._left <= 0:
            self.done = self._round is not None and lag > self._round / 2
            self._round = self._left = lag
