from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoredPostsRequest(_message.Message):
    __slots__ = ("viewer_id", "client_app_id", "country_code", "language_code", "seen_ids", "served_ids", "in_network_only", "is_bottom_request", "bloom_filter_entries", "limit", "surface", "exclude_video", "topic_ids", "excluded_topic_ids")
    VIEWER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_APP_ID_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_CODE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    SEEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SERVED_IDS_FIELD_NUMBER: _ClassVar[int]
    IN_NETWORK_ONLY_FIELD_NUMBER: _ClassVar[int]
    IS_BOTTOM_REQUEST_FIELD_NUMBER: _ClassVar[int]
    BLOOM_FILTER_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_VIDEO_FIELD_NUMBER: _ClassVar[int]
    TOPIC_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_TOPIC_IDS_FIELD_NUMBER: _ClassVar[int]
    viewer_id: int
    client_app_id: int
    country_code: str
    language_code: str
    seen_ids: _containers.RepeatedScalarFieldContainer[int]
    served_ids: _containers.RepeatedScalarFieldContainer[int]
    in_network_only: bool
    is_bottom_request: bool
    bloom_filter_entries: _containers.RepeatedCompositeFieldContainer[BloomFilterEntry]
    limit: int
    surface: int
    exclude_video: bool
    topic_ids: _containers.RepeatedScalarFieldContainer[int]
    excluded_topic_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, viewer_id: _Optional[int] = ..., client_app_id: _Optional[int] = ..., country_code: _Optional[str] = ..., language_code: _Optional[str] = ..., seen_ids: _Optional[_Iterable[int]] = ..., served_ids: _Optional[_Iterable[int]] = ..., in_network_only: _Optional[bool] = ..., is_bottom_request: _Optional[bool] = ..., bloom_filter_entries: _Optional[_Iterable[_Union[BloomFilterEntry, _Mapping]]] = ..., limit: _Optional[int] = ..., surface: _Optional[int] = ..., exclude_video: _Optional[bool] = ..., topic_ids: _Optional[_Iterable[int]] = ..., excluded_topic_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class BloomFilterEntry(_message.Message):
    __slots__ = ("bits", "num_bits", "num_hashes", "seed")
    BITS_FIELD_NUMBER: _ClassVar[int]
    NUM_BITS_FIELD_NUMBER: _ClassVar[int]
    NUM_HASHES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    bits: bytes
    num_bits: int
    num_hashes: int
    seed: int
    def __init__(self, bits: _Optional[bytes] = ..., num_bits: _Optional[int] = ..., num_hashes: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class ScoredPostsResponse(_message.Message):
    __slots__ = ("posts", "request_id", "cold_start", "degraded", "arms", "now_ms", "model_version")
    class ArmsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    POSTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    COLD_START_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    posts: _containers.RepeatedCompositeFieldContainer[ScoredPost]
    request_id: str
    cold_start: bool
    degraded: _containers.RepeatedScalarFieldContainer[str]
    arms: _containers.ScalarMap[str, str]
    now_ms: int
    model_version: str
    def __init__(self, posts: _Optional[_Iterable[_Union[ScoredPost, _Mapping]]] = ..., request_id: _Optional[str] = ..., cold_start: _Optional[bool] = ..., degraded: _Optional[_Iterable[str]] = ..., arms: _Optional[_Mapping[str, str]] = ..., now_ms: _Optional[int] = ..., model_version: _Optional[str] = ...) -> None: ...

class ScoredPost(_message.Message):
    __slots__ = ("post_id", "author_id", "repost_of_post_id", "repost_author_id", "in_reply_to_post_id", "score", "in_network", "served_type", "last_scored_timestamp_ms", "prediction_request_id", "ancestors", "screen_names", "visibility_reason", "quote_of_post_id", "conversation_id", "reason")
    class ScreenNamesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    POST_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_ID_FIELD_NUMBER: _ClassVar[int]
    REPOST_OF_POST_ID_FIELD_NUMBER: _ClassVar[int]
    REPOST_AUTHOR_ID_FIELD_NUMBER: _ClassVar[int]
    IN_REPLY_TO_POST_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IN_NETWORK_FIELD_NUMBER: _ClassVar[int]
    SERVED_TYPE_FIELD_NUMBER: _ClassVar[int]
    LAST_SCORED_TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    SCREEN_NAMES_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_REASON_FIELD_NUMBER: _ClassVar[int]
    QUOTE_OF_POST_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    post_id: int
    author_id: int
    repost_of_post_id: int
    repost_author_id: int
    in_reply_to_post_id: int
    score: float
    in_network: bool
    served_type: _containers.RepeatedScalarFieldContainer[str]
    last_scored_timestamp_ms: int
    prediction_request_id: str
    ancestors: _containers.RepeatedScalarFieldContainer[int]
    screen_names: _containers.ScalarMap[int, str]
    visibility_reason: str
    quote_of_post_id: int
    conversation_id: int
    reason: str
    def __init__(self, post_id: _Optional[int] = ..., author_id: _Optional[int] = ..., repost_of_post_id: _Optional[int] = ..., repost_author_id: _Optional[int] = ..., in_reply_to_post_id: _Optional[int] = ..., score: _Optional[float] = ..., in_network: _Optional[bool] = ..., served_type: _Optional[_Iterable[str]] = ..., last_scored_timestamp_ms: _Optional[int] = ..., prediction_request_id: _Optional[str] = ..., ancestors: _Optional[_Iterable[int]] = ..., screen_names: _Optional[_Mapping[int, str]] = ..., visibility_reason: _Optional[str] = ..., quote_of_post_id: _Optional[int] = ..., conversation_id: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
