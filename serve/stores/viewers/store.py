"""What every store of viewers promises: newest engagements and pages served, by viewer.

Whoever writes may write the same again, and engagements in any order: the store ends up the same.
That stands on names, an engagement's `event_id` and a page's `request_id`; of two things of one
viewer with one name the first counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveInt

from configs import Config
from pipelines.schema import ENGAGEMENTS


class Bounds(Config):
    """How much is kept of viewers; what is over is given up, oldest first."""

    num_engagements: PositiveInt = 256  # of one viewer
    num_posts: PositiveInt = 400  # on the pages of one viewer; a page is kept whole or not
    retention_s: PositiveInt = 30 * 86_400  # of a viewer about whom nothing new was written


class ViewerStoreError(RuntimeError):
    """The store cannot be read or written now; the text says which and why. Try again later."""


@dataclass(frozen=True)
class Page:
    """One page that a viewer was shown.

    Attributes:
        request_id: names it.
        surface: where it was shown, 0 = unknown.
        at_ms: when; ms since 1970.
        post_id: top first. int64 [n].
    """

    request_id: str
    surface: int
    at_ms: int
    post_id: NDArray[np.int64]


class ViewerStore(Protocol):
    """Used on one event loop; every call may fail with ViewerStoreError.

    Attributes:
        shared: whether other processes see the same.
    """

    shared: bool

    async def add_engagements(self, engagements: pa.Table) -> None:
        """Keep engagements of any viewers: columns of schema.ENGAGEMENTS, in any order."""

    async def engagements(self, user_id: int) -> pa.Table:
        """The viewer's newest: columns of schema.ENGAGEMENTS by at_ms, then event_id."""

    async def add_page(self, user_id: int, page: Page) -> None:
        """Keep one page that was just shown."""

    async def pages(self, user_id: int) -> list[Page]:
        """The viewer's newest, by at_ms, then request_id."""

    async def close(self) -> None:
        """Give back what is held."""


def table_of(rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows of engagements, values in the order of schema.ENGAGEMENTS, as its columns."""
    columns = zip(*rows, strict=True) if rows else [()] * len(ENGAGEMENTS.arrow)
    fields = zip(columns, ENGAGEMENTS.arrow, strict=True)
    arrays = [pa.array(values, field.type) for values, field in fields]
    return pa.Table.from_arrays(arrays, schema=ENGAGEMENTS.arrow)


def before(pages: Sequence[Page], post_id: int) -> Sequence[Page]:
    """What had been shown when the newest page with the post was made, of pages oldest first.

    A post on no page leaves out nothing.
    """
    for newest in range(len(pages) - 1, -1, -1):
        if post_id in pages[newest].post_id:
            return pages[:newest]
    return pages


def posts_of(pages: Sequence[Page]) -> NDArray[np.int64]:
    """The posts of some pages in order; one on two pages twice. int64 [n]."""
    return np.concatenate([np.empty(0, np.int64), *(page.post_id for page in pages)])
