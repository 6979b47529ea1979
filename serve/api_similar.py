"""The wire format of similar posts, nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from serve.api import Id, Level, Model, Number, Request
from serve.models import Near


class SimilarQuery(Request):
    """Ask for posts like a post."""

    post_id: Id
    zoom: Level = Field(
        default="fine",
        description="0 (coarse) = on the same subject, 1 (fine) = saying the same, between them "
        "(middle = 0.5) = both; auto = coarse where that settles the topic",
    )
    num: int = Field(default=10, ge=1, le=100, description="posts wanted; fewer may exist")


class SimilarPost(BaseModel):
    """One post that is like it."""

    post_id: int
    author_id: int = Field(description="0 = unknown")
    topic_ids: list[int]
    similarity: Number = Field(description="a · coarse + (1 - a) · fine, a = 1 - zoom / 2")
    coarse: Number = Field(description="cosine of the first part of the embedding")
    fine: Number = Field(description="cosine of the rest")


class SimilarResponse(BaseModel):
    """Posts like a post, most similar first; posts that nobody may see are left out.

    It is for no viewer, so follows, blocks and mutes do not count.
    """

    post_id: int
    zoom: float = Field(description="what was searched by; of auto, what was chosen")
    dims_read: int = Field(
        description="numbers of stored vectors compared, an index counting whole"
    )
    model: Model
    missing: list[str] = Field(
        default_factory=list, description="parts of the index that did not answer"
    )
    posts: list[SimilarPost]


def answer(
    request: SimilarQuery,
    model: Model,
    near: Near,
    facts: Mapping[str, NDArray],
    shown: NDArray[np.bool_],
) -> SimilarResponse:
    """The response: the first of `near` that are `shown` [n]."""
    rows = np.flatnonzero(shown)[: request.num]
    posts = [
        SimilarPost(
            post_id=int(near.post_id[row]),
            author_id=int(facts["author_id"][row]),
            topic_ids=[int(topic) for topic in facts["topic_ids"][row] if topic],
            similarity=near.similarity[row],
            coarse=near.coarse[row],
            fine=near.fine[row],
        )
        for row in rows
    ]
    return SimilarResponse(
        post_id=request.post_id,
        zoom=near.zoom,
        dims_read=near.dims_read,
        model=model,
        missing=list(near.missing),
        posts=posts,
    )
