"""ScoredPostsService over the feed: requests, responses and errors as gRPC has them."""

from __future__ import annotations

import base64
import math
from typing import Protocol

import grpc
from pydantic import ValidationError

from serve import api_feed
from serve.admission import OverloadedError
from serve.feed_handler import FeedHandler
from serve.rpc.scored_posts_pb2 import ScoredPost, ScoredPostsRequest, ScoredPostsResponse

# Fields that both have under one name; where proto3 has no value, the default holds.
_SAME = (
    *("client_app_id", "country_code", "language_code", "surface"),
    *("in_network_only", "is_bottom_request", "exclude_video"),
)
_LISTS = ("seen_ids", "served_ids", "topic_ids", "excluded_topic_ids")
_MOST_PROBLEMS = 5  # told of one request: the details of an error travel in a header of 8 KiB


class InvalidRequestError(ValueError):
    """A request with a field that is missing or out of range; the text names each, and why."""


class Context(Protocol):
    """The part of ray.serve.grpc_util.RayServegRPCContext that an answer needs."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """How the call ends."""

    def set_details(self, details: str) -> None:
        """Why, in words."""

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None:
        """What is sent after the answer."""


async def scored_posts(
    handler: FeedHandler, request: ScoredPostsRequest, context: Context
) -> ScoredPostsResponse:
    """Answer GetScoredPosts; where there is no page, `context` says so and the answer is empty.

    A refusal is no exception: Serve would write a traceback to the log for each.
    """
    try:
        return response_of(await handler.feed(feed_request(request)))
    except InvalidRequestError as error:
        context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
        context.set_details(str(error))
    except OverloadedError as error:
        context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
        context.set_details(str(error))
        # Clients with a retry policy wait as long as this says (gRFC A6).
        wait_ms = 1000 * error.retry_after_s
        context.set_trailing_metadata([("grpc-retry-pushback-ms", str(wait_ms))])
    return ScoredPostsResponse()


def feed_request(request: ScoredPostsRequest) -> api_feed.FeedRequest:
    """What the message asks for, checked as over HTTP.

    Raises:
        InvalidRequestError: as HTTP would answer 422, with the same words.
    """
    values = {name: getattr(request, name) for name in _SAME}
    values |= {name: list(getattr(request, name)) for name in _LISTS}
    values["bloom_filter_entries"] = [
        {
            "bits": base64.b64encode(entry.bits),
            "num_bits": entry.num_bits,
            "num_hashes": entry.num_hashes,
            "seed": entry.seed,
        }
        for entry in request.bloom_filter_entries
    ]
    if request.limit:
        values["limit"] = request.limit
    try:
        return api_feed.FeedRequest.model_validate({"user_id": request.viewer_id, **values})
    except ValidationError as error:
        raise InvalidRequestError(_in_words(error)) from None


def response_of(response: api_feed.FeedResponse) -> ScoredPostsResponse:
    """The page as a message."""
    return ScoredPostsResponse(
        posts=[_scored_post(post, response) for post in response.posts],
        request_id=response.request_id,
        cold_start=response.cold_start,
        degraded=response.degraded,
        arms=response.arms,
        now_ms=response.now_ms,
        model_version=response.model.version,
    )


def _scored_post(post: api_feed.Post, response: api_feed.FeedResponse) -> ScoredPost:
    return ScoredPost(
        post_id=post.post_id,
        author_id=post.author_id,
        repost_of_post_id=post.repost_of_post_id,
        repost_author_id=post.repost_author_id,
        in_reply_to_post_id=post.reply_to_post_id,
        score=math.nan if post.score is None else post.score,
        in_network=post.in_network,
        served_type=post.sources,
        last_scored_timestamp_ms=response.now_ms,
        prediction_request_id=response.request_id,
        ancestors=_ancestors(post),
        visibility_reason=post.visibility_reason or "",
        quote_of_post_id=post.quote_of_post_id,
        conversation_id=post.conversation_id,
        reason=post.reason,
    )


def _ancestors(post: api_feed.Post) -> list[int]:
    """The post that it answers, then the first of the thread if that is another."""
    known = (post.reply_to_post_id, post.conversation_id) if post.reply_to_post_id else ()
    return [one for one in dict.fromkeys(known) if one not in (0, post.post_id)]


def _in_words(error: ValidationError) -> str:
    """Each wrong field and why, as in the body of a 422; the viewer is the message's viewer_id."""
    told = []
    for problem in error.errors():
        where = ".".join("viewer_id" if at == "user_id" else str(at) for at in problem["loc"])
        told.append(f"{where}: {problem['msg']}")
    more = len(told) - _MOST_PROBLEMS
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join([*told[:_MOST_PROBLEMS], *rest])
