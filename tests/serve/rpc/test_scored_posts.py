"""The feed as gRPC messages: the same requests, pages and refusals as over HTTP, without Ray."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.feed.bloom import BloomFilter
from serve import api, api_feed
from serve.admission import OverloadedError
from serve.rpc import scored_posts_pb2 as pb
from serve.rpc.generate import NAMES, ROOT, generate
from serve.rpc.scored_posts import InvalidRequestError, feed_request, response_of, scored_posts

IDS = st.lists(st.integers(1, 2**63 - 1), max_size=5)
REQUESTS = st.fixed_dictionaries(
    {"viewer_id": st.integers(1, 2**63 - 1)},
    optional={
        "client_app_id": st.integers(0, 2**31 - 1),
        "country_code": st.sampled_from(["", "US", "DE"]),
        "language_code": st.sampled_from(["", "en", "pt-BR"]),
        **dict.fromkeys(("seen_ids", "served_ids", "topic_ids", "excluded_topic_ids"), IDS),
        **dict.fromkeys(("in_network_only", "is_bottom_request", "exclude_video"), st.booleans()),
        "limit": st.integers(1, 100),
        "surface": st.integers(0, 15),
    },
)
MODEL = api.Model(bundle="b", version="v1", as_of_ms=5)


class Context:
    """What an answer says beside the message."""

    def __init__(self) -> None:
        self.code: Any = None
        self.details = ""
        self.trailers: list[tuple[str, str]] = []

    def set_code(self, code: Any) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None:
        self.trailers = trailing_metadata


class Handler:
    """Answers every request with one page, or by raising."""

    def __init__(self, answer: api_feed.FeedResponse | Exception) -> None:
        self.answer, self.asked = answer, []

    async def feed(self, request: api_feed.FeedRequest) -> api_feed.FeedResponse:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def page(**post: Any) -> api_feed.FeedResponse:
    """A page of one post, which says this of itself."""
    plain = {"post_id": 11, "author_id": 3, "rank": 1, "score": 0.5, "sources": ["popular"]}
    plain |= {"p_action": {}, "adjustments": {}, "visibility": "allow", "reason": "liked"}
    return api_feed.FeedResponse(
        request_id="r1",
        feed="timeline",
        user_id=7,
        cold_start=False,
        degraded=["sources.two_tower"],
        arms={"test": "a"},
        now_ms=1234,
        model=MODEL,
        posts=[api_feed.Post(**plain | post)],
    )


def call(handler: Handler, **fields: Any) -> tuple[pb.ScoredPostsResponse, Context]:
    """One call, and what came of it."""
    context = Context()
    request = pb.ScoredPostsRequest(**fields)
    return asyncio.run(scored_posts(handler, request, context)), context  # type: ignore[arg-type]


def test_committed_code_is_what_the_proto_gives(tmp_path):
    """Made anew, every generated file is what is committed; else run `serve.rpc.generate`."""
    generate(tmp_path)
    for name in NAMES:
        assert (tmp_path / "serve/rpc" / name).read_text() == (
            ROOT / "serve/rpc" / name
        ).read_text(), f"{name}: run python -m serve.rpc.generate"


@given(fields=REQUESTS)
def test_a_request_asks_for_what_its_message_says(fields):
    """Every field arrives under its name; what is left out has the default of HTTP."""
    asked = feed_request(pb.ScoredPostsRequest(**fields))
    expected = {"user_id": fields["viewer_id"]} | fields
    del expected["viewer_id"]
    assert asked == api_feed.FeedRequest(**expected)


def test_every_field_of_the_message_is_read():
    """A field added to the request message and forgotten in the translation fails here."""
    read = set(api_feed.FeedRequest.model_fields) | {"viewer_id"}
    assert {field.name for field in pb.ScoredPostsRequest.DESCRIPTOR.fields} <= read
    assert {field.name for field in pb.BloomFilterEntry.DESCRIPTOR.fields} == set(
        api_feed.BloomFilterEntry.model_fields
    )


@given(ids=IDS, seed=st.integers(0, 2**64 - 1))
def test_a_bloom_filter_arrives_bit_by_bit(ids, seed):
    """The filter that the feed gets is the one that the client made."""
    made = BloomFilter.of(ids, seed=seed)
    entry = pb.BloomFilterEntry(
        bits=made.bits, num_bits=made.num_bits, num_hashes=made.num_hashes, seed=seed
    )
    asked = feed_request(pb.ScoredPostsRequest(viewer_id=1, bloom_filter_entries=[entry]))
    assert [one.filter() for one in asked.bloom_filter_entries] == [made]
    assert made.may_hold(np.array(ids, np.int64)).all()


@pytest.mark.parametrize(
    ("fields", "body", "where"),
    [
        ({}, {"user_id": 0}, "viewer_id"),
        ({"viewer_id": 2**63}, {"user_id": 2**63}, "viewer_id"),
        ({"viewer_id": 1, "limit": 101}, {"limit": 101}, "limit"),
        ({"viewer_id": 1, "surface": 16}, {"surface": 16}, "surface"),
        ({"viewer_id": 1, "country_code": "usa"}, {"country_code": "usa"}, "country_code"),
        ({"viewer_id": 1, "seen_ids": [4, 0]}, {"seen_ids": [4, 0]}, "seen_ids.1"),
        ({"viewer_id": 1, "client_app_id": -1}, {"client_app_id": -1}, "client_app_id"),
        ({"viewer_id": 1, "topic_ids": [1] * 101}, {"topic_ids": [1] * 101}, "topic_ids"),
    ],
)
def test_a_bad_request_is_refused_in_the_words_of_http(fields, body, where):
    """INVALID_ARGUMENT names the field of the message and says what a 422 says; nobody is asked."""
    with pytest.raises(ValidationError) as refused:
        api_feed.FeedRequest(**{"user_id": 1} | body)
    handler = Handler(page())
    answer, context = call(handler, **fields)
    assert context.code == grpc.StatusCode.INVALID_ARGUMENT
    assert context.details == f"{where}: {refused.value.errors()[0]['msg']}"
    assert (answer, handler.asked) == (pb.ScoredPostsResponse(), [])


def test_a_broken_bloom_filter_is_refused():
    """Bits that do not fit their number are an error with the place, not an empty filter."""
    entry = pb.BloomFilterEntry(bits=b"\1\2", num_bits=8, num_hashes=1)
    with pytest.raises(InvalidRequestError, match=r"bloom_filter_entries\.0: .* expected 1"):
        feed_request(pb.ScoredPostsRequest(viewer_id=1, bloom_filter_entries=[entry]))


def test_many_problems_are_told_in_few_words():
    """Ten thousand wrong ids do not burst the header that the details travel in."""
    _, context = call(Handler(page()), viewer_id=1, seen_ids=[0] * 9_000)
    assert context.details.endswith("; and 8995 more")
    assert len(context.details) < 1_000


def test_overload_says_when_to_try_again():
    """RESOURCE_EXHAUSTED, with the pushback that clients with a retry policy heed."""
    _, context = call(Handler(OverloadedError(7)), viewer_id=1)
    assert context.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert context.details == "too many requests at once; try again later"
    assert context.trailers == [("grpc-retry-pushback-ms", "7000")]


def test_an_answer_has_no_code():
    """A page ends the call as it should end: Serve says OK where nothing else was said."""
    answer, context = call(Handler(page()), viewer_id=1)
    assert (len(answer.posts), context.code, context.trailers) == (1, None, [])


def test_a_page_keeps_all_that_it_says():
    """Facts of the page and of its posts are in the message, with January's beside ours."""
    answer = response_of(
        page(
            repost_of_post_id=4,
            repost_author_id=5,
            quote_of_post_id=6,
            conversation_id=11,
            in_network=True,
            visibility="interstitial",
            visibility_reason="post_disputed",
        )
    )
    assert (answer.request_id, answer.cold_start, answer.now_ms) == ("r1", False, 1234)
    assert (answer.model_version, list(answer.degraded)) == ("v1", ["sources.two_tower"])
    assert dict(answer.arms) == {"test": "a"}
    (post,) = answer.posts
    assert post == pb.ScoredPost(
        post_id=11,
        author_id=3,
        repost_of_post_id=4,
        repost_author_id=5,
        score=0.5,
        in_network=True,
        served_type=["popular"],
        last_scored_timestamp_ms=1234,
        prediction_request_id="r1",
        visibility_reason="post_disputed",
        quote_of_post_id=6,
        conversation_id=11,
        reason="liked",
    )


def test_what_is_unknown_is_not_said():
    """A score that is none is NaN; a network that could not be told is absent, not false."""
    (post,) = response_of(page(score=math.nan, in_network=None)).posts
    assert math.isnan(post.score)
    assert not post.HasField("in_network")
    (post,) = response_of(page(in_network=False)).posts
    assert (post.HasField("in_network"), post.in_network) == (True, False)


@pytest.mark.parametrize(
    ("reply_to", "conversation", "ancestors"),
    [(0, 11, []), (0, 0, []), (8, 8, [8]), (8, 2, [8, 2]), (8, 0, [8]), (8, 11, [8])],
)
def test_ancestors_are_the_post_answered_and_the_first_of_the_thread(
    reply_to, conversation, ancestors
):
    """Each once, nearest first; a post is no ancestor of itself."""
    answer = response_of(page(reply_to_post_id=reply_to, conversation_id=conversation))
    (post,) = answer.posts
    assert (post.in_reply_to_post_id, list(post.ancestors)) == (reply_to, ancestors)
