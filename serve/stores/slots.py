"""Which slots viewers were shown lately, so that one kind is not on every page."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping


class SlotStore:
    """When the viewers seen last were shown each kind of slot, in the memory of this process.

    Each replica knows what it showed itself, and forgets on restart.
    """

    def __init__(self, num_viewers: int) -> None:
        """Remember at most `num_viewers` viewers; the longest unshown is forgotten first."""
        self._num_viewers = num_viewers
        self._shown_ms: OrderedDict[int, dict[str, int]] = OrderedDict()

    def of(self, user_id: int) -> Mapping[str, int]:
        """Kind -> when it was last shown, ms since 1970."""
        return self._shown_ms.get(user_id, {})

    def add(self, user_id: int, kinds: Iterable[str], at_ms: int) -> None:
        """Remember what was just shown; nothing leaves no trace."""
        shown = dict.fromkeys(kinds, at_ms)
        if not shown:
            return
        self._shown_ms.setdefault(user_id, {}).update(shown)
        self._shown_ms.move_to_end(user_id)
        if len(self._shown_ms) > self._num_viewers:
            self._shown_ms.popitem(last=False)
