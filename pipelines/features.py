"""Rows of the log become model inputs: the same functions train and serve.

Axes: B examples, S history slots, C candidates, A actions, n hashes of one id.
Padding is id 0, on the right; hash 0 means "no such thing".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from configs import Config
from pipelines.encoding import HOUR_MS, hash_ids, hour_bucket, log_bucket, multi_hot, pad
from pipelines.facts import NUM_TOPICS, Facts
from pipelines.schema import ACTIONS, DWELL_TIME, EXAMPLES, MAX_ACTIONS
from pipelines.signals import SIGNALS, signals

Inputs = dict[str, NDArray]

# One salt per kind of id, so that post 7 and author 7 fall into unrelated rows.
_SALT = {"user": 1, "post": 2, "author": 3, "topic": 4, "attribute": 5}

# Columns of an event's context and how many values each has; they share one table, row 0 of each
# = unknown. A candidate has those of EVENT_CONTEXT that are known before it is shown.
_TOPICS = {f"topic_{i}": 1024 for i in range(NUM_TOPICS)}
CANDIDATE_CONTEXT = {"hour": 25, "post_age": 40, "duration": 32, **_TOPICS}
EVENT_CONTEXT = {**CANDIDATE_CONTEXT, "since": 40, "dwell": 32, "watched": 18}


class FeatureSpec(Config):
    """How ids become rows of embedding tables, and how much of the past is looked at."""

    history_len: PositiveInt = 32  # newest events kept, S
    # Viewers, posts and authors by tables of their ids. False: nothing is known but what lies
    # beside the ids, so that what was learned holds for posts never seen.
    ids: bool = True
    num_user_hashes: PositiveInt = 2
    num_post_hashes: PositiveInt = 2
    num_author_hashes: PositiveInt = 2
    user_vocab: int = Field(default=32_768, ge=2)  # rows of the table, row 0 = padding
    post_vocab: int = Field(default=32_768, ge=2)
    author_vocab: int = Field(default=32_768, ge=2)
    num_surfaces: PositiveInt = 16  # 0 = unknown
    num_actions: int = Field(default=len(ACTIONS), ge=len(ACTIONS), le=MAX_ACTIONS)
    dwell_cap_s: float = Field(default=30.0, gt=0)  # longer stays count as this long
    context: bool = True  # hour, age, duration and topics of posts; gap and dwell of events
    # How long before the request each event was. Off where one pass learns every point of a history
    # (learning.kind next_event), at most of which that moment has not come.
    since: bool = True
    rates: bool = True  # as-of rates by viewer, post, author, topic
    counted_len: PositiveInt = 64  # newest events that a viewer's own rates are counted over
    user_features: bool = True  # a token of profile facts
    attribute_vocab: int = Field(default=4_096, ge=2)
    num_code_levels: NonNegativeInt = 0  # of semantic ids
    content_size: NonNegativeInt = 0  # of the vectors of posts' text, E

    @property
    def num_signals(self) -> int:
        """Numbers that say how often something was done before, R."""
        return self.num_actions + len(SIGNALS) * (1 + self.num_actions)

    def hashes(self, kind: str, ids: ArrayLike) -> NDArray[np.int64]:
        """Table rows of `ids` of one kind ("user", "post", "author"). int64 [..., n]."""
        num_hashes = getattr(self, f"num_{kind}_hashes")
        return hash_ids(ids, num_hashes, getattr(self, f"{kind}_vocab"), _SALT[kind])


@dataclass(frozen=True)
class History:
    """What one viewer has done, oldest first; all arrays are [n] and n may be 0.

    Attributes:
        user_id: the viewer.
        post_id, author_id: int64, 0 = unknown author.
        did: int64 masks over ACTIONS.
        surface: int16, 0 = unknown.
        dwell_s: float32, NaN = not measured.
        at_ms: int64, 0 = unknown.
    """

    user_id: int
    post_id: NDArray[np.int64]
    author_id: NDArray[np.int64]
    did: NDArray[np.int64]
    surface: NDArray[np.int16]
    dwell_s: NDArray[np.float32]
    at_ms: NDArray[np.int64]

    @classmethod
    def empty(cls, user_id: int) -> History:
        """The history of a viewer nothing is known of."""
        ids, none = np.empty(0, np.int64), np.empty(0, np.float32)
        return cls(user_id, ids, ids, ids, ids.astype(np.int16), none, ids)

    def then(self, later: History) -> History:
        """What this and `later`, of the same viewer, tell one after the other."""
        return History(
            self.user_id,
            **{
                field.name: np.concatenate([getattr(self, field.name), getattr(later, field.name)])
                for field in fields(self)[1:]
            },
        )


def history_inputs(rows: pa.Table, spec: FeatureSpec, facts: Facts) -> Inputs:
    """The viewer's side of the model, from rows with the history columns of EXAMPLES.

    Returns:
        user_hashes int64 [B, n]; history_post_hashes, history_author_hashes int64
        [B, S, n]; history_actions float32 [B, S, A], where the dwell_time column holds
        min(dwell, cap) / cap; history_product_surface int64 [B, S]; and as `spec` asks
        history_context int64 [B, S, len(EVENT_CONTEXT)], history_codes int64 [B, S, L],
        history_content float32 [B, S, E], user_attributes int64 [B, F].
    """
    post_id, author_id, did, surface, dwell_s, at_ms = (
        pad(rows[f"history_{name}"], spec.history_len, newest=True)
        for name in ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms")
    )
    actions = multi_hot(did, spec.num_actions)
    actions[..., DWELL_TIME] = _dwell_share(dwell_s, spec)
    inputs: Inputs = {
        "user_hashes": spec.hashes("user", rows["user_id"].to_numpy()),
        "history_post_hashes": spec.hashes("post", post_id),
        "history_author_hashes": spec.hashes("author", author_id),
        "history_actions": actions,
        "history_product_surface": _surfaces(surface, spec),
        **_content("history", post_id, spec, facts),
    }
    if spec.context:
        shown = _post_context(post_id, at_ms, facts)
        with np.errstate(divide="ignore", invalid="ignore"):  # a length of 0 is an unknown one
            share = dwell_s / facts.of_posts(post_id, "duration_s")[0]
        since_s = np.full(at_ms.shape, np.nan)
        if spec.since:
            now_ms = rows["at_ms"].to_numpy()[:, None]
            since_s = np.where(at_ms > 0, (now_ms - at_ms) / 1000, np.nan)
        shown["since"] = log_bucket(since_s / 60, 1.5, EVENT_CONTEXT["since"])
        shown["dwell"] = log_bucket(dwell_s, 3, EVENT_CONTEXT["dwell"])
        shown["watched"] = log_bucket(share, 5, EVENT_CONTEXT["watched"])
        inputs["history_context"] = _in_one_table(shown, EVENT_CONTEXT)
    if spec.user_features:
        attribute = facts.attribute[facts.user_row(rows["user_id"].to_numpy())]
        hashed = hash_ids(attribute, 1, spec.attribute_vocab, _SALT["attribute"])
        inputs["user_attributes"] = hashed[..., 0]
    return inputs


def candidate_inputs(
    rows: pa.Table,
    post_id: NDArray[np.int64],
    author_id: NDArray[np.int64],
    surface: NDArray[np.int16],
    at_ms: NDArray[np.int64],
    spec: FeatureSpec,
    facts: Facts,
) -> Inputs:
    """The posts' side of the model; arrays are [B, C], id 0 = padding.

    Args:
        rows: whose candidates they are, with the history columns of EXAMPLES.
        post_id: 0 = padding.
        author_id: 0 = unknown.
        surface: where each is shown, 0 = unknown.
        at_ms: when each is shown.
        spec: what the model reads.
        facts: what is known of posts.

    Returns:
        candidate_post_hashes, candidate_author_hashes int64 [B, C, n];
        candidate_product_surface int64 [B, C]; and as `spec` asks candidate_context int64
        [B, C, len(CANDIDATE_CONTEXT)], candidate_signals float32 [B, C, R],
        candidate_codes int64 [B, C, L], candidate_content float32 [B, C, E].
    """
    inputs = {
        "candidate_post_hashes": spec.hashes("post", post_id),
        "candidate_author_hashes": spec.hashes("author", author_id),
        "candidate_product_surface": _surfaces(surface, spec),
        **_content("candidate", post_id, spec, facts),
    }
    if spec.context:
        context = _post_context(post_id, at_ms, facts)
        inputs["candidate_context"] = _in_one_table(context, CANDIDATE_CONTEXT)
    if spec.rates:
        inputs["candidate_signals"] = signals(
            rows, post_id, author_id, at_ms, facts, spec.num_actions, spec.counted_len
        )
    return inputs


def post_inputs(
    post_id: NDArray[np.int64], author_id: NDArray[np.int64], spec: FeatureSpec, facts: Facts
) -> Inputs:
    """Posts that nobody is shown just now; arrays are [N].

    Returns:
        pool_post_hashes, pool_author_hashes int64 [N, n]; and as `spec` asks pool_context int64
        [N, len(CANDIDATE_CONTEXT)], in which hour and age are unknown, pool_codes int64 [N, L],
        pool_content float32 [N, E].
    """
    inputs = {
        "pool_post_hashes": spec.hashes("post", post_id),
        "pool_author_hashes": spec.hashes("author", author_id),
        **_content("pool", post_id, spec, facts),
    }
    if spec.context:
        context = _post_context(post_id, np.zeros_like(post_id), facts)
        inputs["pool_context"] = _in_one_table(context, CANDIDATE_CONTEXT)
    return inputs


def example_inputs(rows: pa.Table, spec: FeatureSpec, facts: Facts) -> Inputs:
    """Both sides of the model for rows of EXAMPLES; C is the longest candidate list."""
    num_candidates = max(1, _longest(rows["post_id"]))
    post_id, author_id, surface, at_ms = (
        pad(rows[name], num_candidates)
        for name in ("post_id", "author_id", "surface", "shown_at_ms")
    )
    candidates = candidate_inputs(rows, post_id, author_id, surface, at_ms, spec, facts)
    return {**history_inputs(rows, spec, facts), **candidates}


def example_targets(rows: pa.Table, spec: FeatureSpec) -> Inputs:
    """What came of each candidate, for rows of EXAMPLES.

    Returns:
        labels float32 [B, C, A]: 1 = done; the dwell_time column holds seconds.
        label_mask float32 [B, C, A]: 1 = observed, 0 = padding or not in this log.
    """
    num_candidates = max(1, _longest(rows["post_id"]))
    labels = multi_hot(pad(rows["did"], num_candidates), spec.num_actions)
    labels[..., DWELL_TIME] = np.nan_to_num(pad(rows["dwell_s"], num_candidates))
    mask = multi_hot(pad(rows["observed"], num_candidates), spec.num_actions)
    return {"labels": labels, "label_mask": mask}


def history_rows(histories: Sequence[History], at_ms: Sequence[int]) -> pa.Table:
    """Histories, and when each is looked at, as rows with those columns of EXAMPLES."""
    lengths = [len(history.post_id) for history in histories]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())

    def lists(field: str) -> pa.ListArray:
        name = f"history_{field}"
        values = np.concatenate([getattr(h, field) for h in histories])
        return pa.ListArray.from_arrays(
            offsets, pa.array(values, EXAMPLES.field(name).type.value_type)
        )

    columns: Mapping[str, pa.Array] = {
        "user_id": pa.array([history.user_id for history in histories], pa.int64()),
        "at_ms": pa.array(at_ms, pa.int64()),
        **{
            f"history_{field}": lists(field)
            for field in ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms")
        },
    }
    return pa.table(columns)


def _longest(column: pa.ChunkedArray) -> int:
    lengths = column.combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    return int(lengths.max(initial=0))


def _surfaces(surface: NDArray, spec: FeatureSpec) -> NDArray[np.int64]:
    known = (surface >= 0) & (surface < spec.num_surfaces)
    return np.where(known, surface, 0).astype(np.int64)


def _dwell_share(dwell_s: NDArray, spec: FeatureSpec) -> NDArray[np.float32]:
    return np.clip(np.nan_to_num(dwell_s), 0, spec.dwell_cap_s) / np.float32(spec.dwell_cap_s)


def _content(side: str, post_id: NDArray, spec: FeatureSpec, facts: Facts) -> Inputs:
    """What is known of each post's text: its vector, its codes."""
    inputs: Inputs = {}
    if spec.num_code_levels:
        inputs[f"{side}_codes"] = facts.of_posts(post_id, "codes")[0]
    if spec.content_size:
        inputs[f"{side}_content"] = facts.of_posts(post_id, "content")[0]
    return inputs


def _post_context(post_id: NDArray, at_ms: NDArray, facts: Facts) -> Inputs:
    """Columns of CANDIDATE_CONTEXT for posts shown at some time. int64, shape of post_id."""
    created_ms, topic, duration_s = facts.of_posts(post_id, "created_at_ms", "topic", "duration_s")
    known = (created_ms > 0) & (at_ms > 0)
    age_h = np.where(known, np.maximum(at_ms - created_ms, 0) / HOUR_MS, np.nan)
    hashed = hash_ids(topic, 1, 1024, _SALT["topic"])[..., 0]
    return {
        "hour": hour_bucket(at_ms),
        "post_age": log_bucket(age_h, 2, CANDIDATE_CONTEXT["post_age"]),
        "duration": log_bucket(duration_s, 3, CANDIDATE_CONTEXT["duration"]),
        **{f"topic_{i}": hashed[..., i] for i in range(NUM_TOPICS)},
    }


def _in_one_table(columns: Inputs, sizes: Mapping[str, int]) -> NDArray[np.int64]:
    """Columns as rows of one table, in which each has its own part. int64 [..., columns]."""
    start = np.cumsum([0, *sizes.values()])[:-1]
    return np.stack([columns[name] for name in sizes], axis=-1) + start
