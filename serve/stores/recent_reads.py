"""What a viewer is shown of the lists in `recent_lists`: rules, caps, and where to stop looking.

Every rule and cap looks at a post, its parents and the newer posts of its own list. So once all
posts since some moment are gathered, it is known exactly which of them are shown; a read guesses
that moment and moves it back until there are enough. Axes: n posts, L lists, m authors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from configs import Config
from serve.stores.lookup import positions
from serve.stores.recent_index import Ids, IdSet, Mask, spread
from serve.stores.recent_lists import NUM_LISTS, Held, num_newer
from serve.stores.recent_rows import Columns

_MARGIN = 1.5  # posts gathered for each that is expected to be shown
_MOST_DEEPER = 16.0  # times as many, if too few were


class ReadLimits(Config):
    """How far a read goes."""

    max_authors: PositiveInt = 5_000  # followed; the first of the list count
    max_excluded: PositiveInt = 20_000  # posts not to be shown again; the first of the list count
    max_scanned_per_list: PositiveInt = 300  # newest that are not deleted, of each list
    max_originals_per_author: NonNegativeInt = 20
    max_secondary_per_author: NonNegativeInt = 10  # replies and reposts
    max_videos_per_author: NonNegativeInt = 20


@dataclass(frozen=True)
class Request:
    """One read.

    Attributes:
        viewer_id: who reads.
        authors: whose posts; sorted, none twice. [m]
        excluded: posts to leave out.
        now_ms: the moment of the read.
        oldest_ms: what was created earlier is not there.
        max_results: posts wanted, at least 1.
        videos: only videos, of one list per author.
    """

    viewer_id: int
    authors: Ids
    excluded: Ids
    now_ms: int
    oldest_ms: int
    max_results: int
    videos: bool

    @cached_property
    def followed(self) -> IdSet:
        """The authors as a set."""
        return IdSet(self.authors)

    @cached_property
    def unwanted(self) -> IdSet:
        """The excluded posts as a set."""
        return IdSet(self.excluded)


def newest(held: Held, request: Request, limits: ReadLimits) -> tuple[Columns, NDArray]:
    """The newest posts that the rules let through: the columns, and rows of them, newest first.

    Equal times come by larger id first.
    """
    num = held.num  # before the columns; see Held
    c = held.columns
    begin, length, keys = _lists(held, request, limits)
    heads = c.created_at_ms[begin]
    late, late_keys = _late(c, held.num_sorted, num, request)
    late_ms = c.created_at_ms[late]
    target = int(_MARGIN * request.max_results)
    while True:
        since_ms = _since(c, begin, length, late_ms, target, request.oldest_ms)
        fresh = np.flatnonzero(heads >= since_ms)
        first = begin[fresh]
        which, slot = spread(num_newer(c, first, length[fresh], since_ms, 0))
        fresh_late = late_ms >= since_ms
        rows = np.concatenate([first[which] + slot, late[fresh_late]])
        gathered = len(rows)
        keys_of_rows = np.concatenate([keys[fresh][which], late_keys[fresh_late]])
        if request.videos or fresh_late.any():  # else they lie as they should
            order = np.lexsort((-c.post_id[rows], -c.created_at_ms[rows], keys_of_rows))
            rows, keys_of_rows = rows[order], keys_of_rows[order]
        rows = _shown(c, rows, keys_of_rows, request, limits)
        if len(rows) >= request.max_results or since_ms <= request.oldest_ms:
            break
        more = _MARGIN * request.max_results / max(len(rows), 1)
        target = int(gathered * min(max(more, 2.0), _MOST_DEEPER)) + 1
    order = np.lexsort((-c.post_id[rows], -c.created_at_ms[rows]))
    return c, rows[order[: request.max_results]]


def is_video(c: Columns, rows: NDArray, oldest_ms: int) -> Mask:
    """Whether posts [n] count as videos: no replies; reposts if what they repeat does."""
    parent = c.parent_row[rows]
    repost, has_parent = c.is_repost[rows], parent >= 0
    source = has_parent & (c.created_at_ms[parent] >= oldest_ms) & ~c.dead[parent]
    source &= c.has_video[parent] & ((c.parent_id[parent] == 0) | c.is_repost[parent])
    return np.where(
        repost, c.has_video[rows] | source, c.has_video[rows] & (c.parent_id[rows] == 0)
    )


def _lists(held: Held, request: Request, limits: ReadLimits) -> tuple[NDArray, NDArray, NDArray]:
    """First row, rows to look at and key of each sorted list with posts that are held.

    Keys order lists as they lie: 2 x author + which of the author's, or only 2 x author if both
    count as one.
    """
    if not len(held.authors) or not len(request.authors):
        return (np.zeros(0, np.int64),) * 3
    place, known = positions(held.authors, request.authors)
    which = np.arange(NUM_LISTS)
    lists = (NUM_LISTS * place[known][:, None] + which).ravel()
    keys = NUM_LISTS * np.flatnonzero(known)[:, None] + (0 if request.videos else which)
    keys = np.broadcast_to(keys, (len(lists) // NUM_LISTS, NUM_LISTS)).ravel()
    begin = held.start[lists]
    most = limits.max_scanned_per_list + held.num_dead[lists]
    length = np.minimum(held.start[lists + 1] - begin, most)
    some = np.flatnonzero(length > 0)
    some = some[held.columns.created_at_ms[begin[some]] >= request.oldest_ms]
    return begin[some], length[some], keys[some]


def _late(c: Columns, num_sorted: int, num: int, request: Request) -> tuple[NDArray, NDArray]:
    """Rows and keys of the authors' posts that are in no list yet and held."""
    author = c.author_id[num_sorted:num]
    rows = num_sorted + np.flatnonzero(request.followed.has(author))
    rows = rows[c.created_at_ms[rows] >= request.oldest_ms]
    place = np.searchsorted(request.authors, c.author_id[rows])
    secondary = (c.parent_id[rows] > 0) & (not request.videos)
    return rows, NUM_LISTS * place + secondary


def _since(
    c: Columns, begin: NDArray, length: NDArray, late_ms: Ids, target: int, oldest_ms: int
) -> int:
    """A moment since which there are at least `target` posts, or `oldest_ms`.

    Not much earlier than it need be, unless few lists have most of the newest posts.
    """
    depth, deepest = 1 + target // max(len(begin), 1), int(length.max(initial=0))
    while True:
        which, slot = spread(np.minimum(length, depth))
        created_at_ms = np.concatenate([c.created_at_ms[begin[which] + slot], late_ms])
        created_at_ms = created_at_ms[created_at_ms >= oldest_ms]
        at = len(created_at_ms) - target
        if at > 0:
            return int(np.partition(created_at_ms, at)[at])
        if depth >= deepest:
            return oldest_ms
        depth *= 4


def _shown(
    c: Columns, rows: NDArray, keys: NDArray, request: Request, limits: ReadLimits
) -> NDArray:
    """Which of `rows` are shown: all since some moment, list by list, newest first."""
    alive = np.flatnonzero(~c.dead[rows])
    if len(alive) > limits.max_scanned_per_list:
        alive = alive[_rank(keys[alive]) < limits.max_scanned_per_list]
    if len(request.excluded):
        alive = alive[~request.unwanted.has(c.post_id[rows[alive]])]
    rows, keys = rows[alive], keys[alive]
    allowed = _allowed(c, rows, request)
    if request.videos:
        allowed &= is_video(c, rows, request.oldest_ms)
    rows, keys = rows[allowed], keys[allowed]
    if request.videos:
        most: NDArray | int = limits.max_videos_per_author
    else:
        secondary = keys % NUM_LISTS == 1
        most = np.where(secondary, limits.max_secondary_per_author, limits.max_originals_per_author)
    return rows[_rank(keys) < most]


def _rank(keys: NDArray) -> NDArray:
    """Place of each element among the equal ones that lie together with it, from 0."""
    place = np.arange(len(keys))
    first = np.where(np.diff(keys, prepend=-1) != 0, place, 0)
    return place - np.maximum.accumulate(first)


def _allowed(c: Columns, rows: NDArray, request: Request) -> Mask:
    """Whether the viewer may see each post for what it answers or repeats.

    A repost is not of the viewer's own post, nor of one that is known to be deleted. What a reply
    answers is there, and is an original or a reply to what began the conversation by an author
    whose posts are asked for.
    """
    allowed = np.ones(len(rows), bool)
    secondary = np.flatnonzero(c.parent_id[rows] > 0)
    if not len(secondary):
        return allowed
    rows = rows[secondary]
    parent = c.parent_row[rows]
    known = parent >= 0
    held = known & (c.created_at_ms[parent] >= request.oldest_ms)
    dead = known & c.dead[parent]
    told = c.parent_author_id[rows]
    author = np.where((told > 0) | ~held, told, c.author_id[parent])
    deleted = dead & (c.marked_until_ms[parent] >= request.now_ms)
    to_original = c.parent_id[parent] == 0
    repost = c.is_repost[rows]
    keep = np.where(repost, ~deleted & (author != request.viewer_id), held & ~dead & to_original)
    deep = np.flatnonzero(~repost & held & ~dead & ~to_original & ~c.is_repost[parent])
    if len(deep):
        keep[deep] = request.followed.has(author[deep])
        keep[deep] &= _under_root(c, rows[deep], parent[deep], request.oldest_ms)
    allowed[secondary] = keep
    return allowed


def _under_root(c: Columns, rows: NDArray, parent: NDArray, oldest_ms: int) -> Mask:
    """Whether the reply that each reply [n] answers answers what began the conversation.

    Where that is not known, it is taken for an original that is there.
    """
    conversation, root = c.conversation_id[rows], c.parent_row[parent]
    original = (root >= 0) & (c.created_at_ms[root] >= oldest_ms) & ~c.dead[root]
    original &= c.parent_id[root] == 0
    return np.where(conversation > 0, conversation == c.parent_id[parent], original)
