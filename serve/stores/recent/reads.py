"""What a viewer is shown of the lists in `lists`: rules, caps, and where to stop looking.

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
from pipelines.encoding import expand
from serve.stores.recent.index import Ids, Mask, Places
from serve.stores.recent.lists import NUM_LISTS, Held
from serve.stores.recent.rows import Columns

_MARGIN = 1.5  # posts gathered for each that is expected to be shown
_SURPLUS = 4  # posts whose times are looked at for each that is to be gathered
_LEAST_DEEPER, _MOST_DEEPER = 4.0, 16.0  # times as many, if too few were


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
    def followed(self) -> Places:
        """Places of the authors."""
        return Places(self.authors)

    @cached_property
    def unwanted(self) -> Places:
        """Places of the excluded posts."""
        return Places(self.excluded)


def newest(held: Held, request: Request, limits: ReadLimits) -> tuple[Columns, NDArray]:
    """The newest posts that the rules let through: the columns, and rows of them, newest first.

    Equal times come by larger id first.
    """
    num = held.num  # before the columns; see Held
    c = held.columns
    lists, keys, head_ms = _lists(held, request)
    late, late_keys = _late(c, held.num_sorted, num, request)
    late_ms = c.created_at_ms[late]
    times_ms = np.concatenate([head_ms, late_ms])
    target = int(_MARGIN * request.max_results)
    while True:
        since_ms = _since(held, lists, times_ms, target, request, limits)
        fresh = (head_ms >= since_ms).nonzero()[0]
        begin, length = _spans(held, lists[fresh], limits)
        which, slot = expand(_num_since(c, begin, length, since_ms))
        fresh_late = (late_ms >= since_ms).nonzero()[0]
        rows = np.concatenate([begin[which] + slot, late[fresh_late]])
        gathered = len(rows)
        keys_of_rows = np.concatenate([keys[fresh[which]], late_keys[fresh_late]])
        if request.videos or len(fresh_late):  # else they lie as they should
            order = np.lexsort((-c.post_id[rows], -c.created_at_ms[rows], keys_of_rows))
            rows, keys_of_rows = rows[order], keys_of_rows[order]
        rows = _shown(c, rows, keys_of_rows, request, limits)
        if len(rows) >= request.max_results or since_ms <= request.oldest_ms:
            break
        more = _MARGIN * request.max_results / max(len(rows), 1)
        target = int(gathered * min(max(more, _LEAST_DEEPER), _MOST_DEEPER)) + 1
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


def _lists(held: Held, request: Request) -> tuple[NDArray, NDArray, NDArray]:
    """Number, key and newest time of each of the authors' sorted lists with posts that are held.

    Keys order lists as they lie: 2 x author + which of the author's, or only 2 x author if both
    count as one.
    """
    place = held.places.of(request.authors)
    author = (place >= 0).nonzero()[0]
    lists = np.repeat(NUM_LISTS * place[author], NUM_LISTS)
    keys = np.repeat(NUM_LISTS * author, NUM_LISTS)
    lists[1::NUM_LISTS] += 1
    if not request.videos:
        keys[1::NUM_LISTS] += 1
    head_ms = held.head_ms[lists]
    some = (head_ms >= request.oldest_ms).nonzero()[0]
    return lists[some], keys[some], head_ms[some]


def _spans(held: Held, lists: NDArray, limits: ReadLimits) -> tuple[NDArray, NDArray]:
    """First row, and rows to look at, of each sorted list."""
    begin = held.start[lists]
    length = held.start[lists + 1] - begin
    long = (length > limits.max_scanned_per_list).nonzero()[0]
    if len(long):
        most = limits.max_scanned_per_list + held.num_dead[lists[long]]
        length[long] = np.minimum(length[long], most)
    return begin, length


def _late(c: Columns, num_sorted: int, num: int, request: Request) -> tuple[NDArray, NDArray]:
    """Rows and keys of the authors' posts that are in no list yet and held."""
    place = request.followed.of(c.author_id[num_sorted:num])
    young = c.created_at_ms[num_sorted:num] >= request.oldest_ms
    late = ((place >= 0) & young).nonzero()[0]
    rows, keys = num_sorted + late, NUM_LISTS * place[late]
    return rows, keys if request.videos else keys + (c.parent_id[rows] > 0)


def _since(
    held: Held, lists: NDArray, times_ms: Ids, target: int, request: Request, limits: ReadLimits
) -> int:
    """A moment since which there are at least `target` posts, or that of the oldest.

    Not much earlier than need be: it is that of the `target`-th of several times as many posts, the
    first few of all lists. Among no more than `target`, the last may be of a list that slept.

    Args:
        held: the rows.
        lists: sorted lists. [L]
        times_ms: when the first post of each was created [L], then when others were.
        target: posts wanted.
        request: the read.
        limits: of the read.
    """
    created_at_ms, depth = times_ms, 1
    begin, length = None, None
    while len(created_at_ms) < _SURPLUS * target:
        if begin is None or length is None:
            begin, length = _spans(held, lists, limits)
        if depth >= length.max(initial=0):
            break
        depth *= 4
        which, slot = expand(np.minimum(length, depth))
        of_lists_ms = held.columns.created_at_ms[begin[which] + slot]
        created_at_ms = np.concatenate([of_lists_ms, times_ms[len(lists) :]])
        created_at_ms = created_at_ms[created_at_ms >= request.oldest_ms]
    at = len(created_at_ms) - target
    return int(np.partition(created_at_ms, at)[at]) if at >= 0 else request.oldest_ms


def _num_since(c: Columns, begin: NDArray, length: NDArray, since_ms: int) -> NDArray:
    """How many of the first `length` rows of each list [L] were created since a moment."""
    num, going_on, width = np.zeros_like(length), np.arange(len(length)), 4
    while len(going_on):
        slot = num[going_on, None] + np.arange(width)
        rows = np.minimum(begin[going_on, None] + slot, len(c.created_at_ms) - 1)
        since = (c.created_at_ms[rows] >= since_ms) & (slot < length[going_on, None])
        num[going_on] += np.count_nonzero(since, axis=1)  # newest first: those are the first
        going_on, width = going_on[since[:, -1]], 4 * width
    return num


def _shown(
    c: Columns, rows: NDArray, keys: NDArray, request: Request, limits: ReadLimits
) -> NDArray:
    """Which of `rows` are shown: all since some moment, list by list, newest first."""
    alive = (~c.dead[rows]).nonzero()[0]
    if len(alive) > limits.max_scanned_per_list:
        alive = alive[_rank(keys[alive]) < limits.max_scanned_per_list]
    if len(request.excluded):
        alive = alive[request.unwanted.of(c.post_id[rows[alive]]) < 0]
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
    first = np.zeros_like(place)
    first[1:] = np.where(keys[1:] != keys[:-1], place[1:], 0)
    return place - np.maximum.accumulate(first)


def _allowed(c: Columns, rows: NDArray, request: Request) -> Mask:
    """Whether the viewer may see each post for what it answers or repeats.

    A repost is not of the viewer's own post, nor of one that is known to be deleted. What a reply
    answers is there, and is an original or a reply to what began the conversation by an author
    whose posts are asked for.
    """
    allowed = np.ones(len(rows), bool)
    secondary = (c.parent_id[rows] > 0).nonzero()[0]
    if not len(secondary):
        return allowed
    rows = rows[secondary]
    parent, repost = c.parent_row[rows], c.is_repost[rows]
    known = parent >= 0
    held = known & (c.created_at_ms[parent] >= request.oldest_ms)
    dead = known & c.dead[parent]
    there = held & ~dead
    author = c.parent_author_id[rows]
    untold = ((author == 0) & held).nonzero()[0]
    author[untold] = c.author_id[parent[untold]]
    to_original = c.parent_id[parent] == 0
    keep = np.where(repost, author != request.viewer_id, there & to_original)
    gone = (repost & dead).nonzero()[0]
    keep[gone] &= c.marked_until_ms[parent[gone]] < request.now_ms
    deep = (there & ~repost & ~to_original & ~c.is_repost[parent]).nonzero()[0]
    keep[deep] = request.followed.of(author[deep]) >= 0
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
