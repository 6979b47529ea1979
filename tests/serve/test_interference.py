"""The interference field over HTTP: what a bundle says of it changes the feed, and is explained."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs import ConfigError, check
from pipelines.features import History
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve.deployments import Ranker, Retriever, Scorer, models_of
from serve.interference import InterferenceFields
from serve.models import Interfering
from tests.serve.feed_server import FEED, serving
from tests.train.models import field_oracle as oracle
from train.bundle import Bundle, BundleError, load
from train.bundle.versions import with_blend
from train.models.fractal.blend import InterferenceBlend
from train.models.fractal.config import FieldConfig
from train.models.fractal.liked import liked, signs

USER = 1


@pytest.fixture(scope="module")
def shared(bundle) -> tuple[Retriever, Ranker]:
    """Models that the field leaves as they are."""
    return Retriever(bundle), Ranker(bundle)


def feed_of(**settings: Any) -> FeedConfig:
    """The project's feed with the field set so, which waits for it as long as it takes."""
    values = FEED.model_dump()
    scorers = {**values["scorers"], "interference": {"timeout_ms": 600_000, **settings}}
    return check({**values, "scorers": scorers}, FeedConfig, "")


def page(
    bundle: Bundle, shared: tuple[Retriever, Ranker], folder: Path, **settings: Any
) -> tuple[list[int], dict[str, Any]]:
    """Posts served over HTTP, and the explanation of the first."""

    async def ask() -> tuple[list[int], dict[str, Any]]:
        feed, models = feed_of(**settings), models_of(*shared, Scorer(bundle))
        async with serving(bundle, models, folder, feed=feed) as (client, _):
            reply = await client.post("/v1/feed", json={"user_id": USER, "limit": 10})
            ids = [post["post_id"] for post in reply.json()["posts"]]
            query = {"user_id": USER, "post_id": ids[0]}
            told = (await client.get("/v1/explain", params=query)).json()["explanation"]
            return ids, told

    return asyncio.run(ask())


def tuned(bundle: Bundle, out: Path, alpha: float, *weights: float) -> Bundle:
    """The same bundle with another α and other weights of the scales."""
    field = FieldConfig(scale_weights=weights, base_scale=2.0)
    with_blend(bundle.folder, out, interference=InterferenceBlend(alpha=alpha, field=field))
    return load(out)


def note_of(told: dict[str, Any]) -> str:
    """What the explanation says of the field."""
    return next(note for note in told["score"]["notes"] if note.startswith("interference"))


def test_a_bundle_changes_the_feed_and_explain_says_why(bundle, shared, tmp_path):
    """α and scale weights of a bundle order the page anew; off and in shadow it stays as it was."""
    wide = tuned(bundle, tmp_path / "wide", 50.0, 1, 0, 0, 0)
    narrow = tuned(bundle, tmp_path / "narrow", 50.0, 0, 0, 0, 1)
    off, silent = page(wide, shared, tmp_path / "0")
    shadow, in_shadow = page(wide, shared, tmp_path / "1", mode="shadow")
    by_wide, told = page(wide, shared, tmp_path / "2", mode="on")
    by_narrow, _ = page(narrow, shared, tmp_path / "3", mode="on")
    by_settings, _ = page(wide, shared, tmp_path / "4", mode="on", scale_weights=[0, 0, 0, 1])

    assert off == shadow
    assert by_wide != off
    assert by_narrow != by_wide
    assert by_settings == by_narrow
    assert not [note for note in silent["score"]["notes"] if "interference" in note]
    assert note_of(in_shadow).startswith("interference in shadow (field ")
    note, score = note_of(told), told["score"]
    added = float(note.split()[1])
    assert added == pytest.approx(50 * float(note.split("field ")[1].split(";")[0]), abs=0.03)
    assert added > 1
    assert score["base_score"] - score["value"] >= added - 0.001
    assert note.count("+") >= 5
    assert "ρ" in note
    numbers = score["numbers"]["interference"]
    assert numbers["worth"] == pytest.approx(added, abs=0.001)
    by_scale = np.add(numbers["constructive"], numbers["destructive"])
    assert by_scale[0] == pytest.approx(numbers["field"], rel=1e-5)  # all weight is its own
    assert 0 < numbers["ratio"] < 1 < numbers["dimension"] * 10
    shadow_numbers = in_shadow["score"]["numbers"]["interference"]
    assert shadow_numbers["worth"] is None
    assert len(shadow_numbers["constructive"]) == 4
    assert silent["score"]["numbers"] == {}


def test_settings_of_the_feed_go_before_the_bundle(bundle, shared, tmp_path):
    """α of feed.yaml counts where it is given, and a bundle without a field adds nothing."""
    plain, _ = page(bundle, shared, tmp_path / "0")
    on, _ = page(bundle, shared, tmp_path / "1", mode="on")
    given, _ = page(bundle, shared, tmp_path / "2", mode="on", alpha=50.0)

    assert plain == on
    assert given != plain


def test_the_field_is_that_of_the_post_towers_vectors(bundle, tmp_path):
    """Liked posts send waves in the two towers' space; a post without a vector receives none."""
    made = tuned(bundle, tmp_path / "made", 1.0, 1, 1, 1, 1)
    fields = InterferenceFields(made)
    history = next(
        h for h in (local_history(made, user) for user in range(1, 40)) if (h.did & 1).sum() > 3
    )
    index = made.load_index()
    candidates = np.append(index.post_id[:20], 999_999_999)

    found = fields.interference(Interfering(history, candidates))

    good = sum(1 << i for i in range(len(made.actions)) if made.weights[i] > 0)
    bad = sum(1 << i for i in range(len(made.actions)) if made.weights[i] < 0)
    liked = history.post_id[((history.did & good) != 0) & ((history.did & bad) == 0)]
    vectors = dict(zip(index.post_id.tolist(), index.stored().astype(float), strict=True))
    sources = np.stack([vectors[p] for p in liked.tolist() if p in vectors])
    waves = np.random.default_rng(0).standard_normal((8, sources.shape[1]))
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    at = np.stack([vectors[p] for p in candidates[:20].tolist()])
    expected = oracle.by_scale(sources, np.ones(len(sources)), at, waves, 2 * 0.5 ** np.arange(4))
    by_scale = found.constructive + found.destructive
    np.testing.assert_allclose(by_scale[:20], expected, atol=1e-5)
    assert found.total[20] == 0
    content = fields.interference(Interfering(history, candidates, space="content"))
    assert np.isfinite(content.total).all()


def test_the_newest_likes_send_waves(bundle):
    """No more than `max_history`, counted back from the newest, and none that was disliked too."""
    good, bad = signs(bundle.weights)
    did = [good, good, 0, good | bad, good, good]
    ids, none = np.arange(11, 17), np.zeros(6, np.int64)
    history = History(USER, ids, none, np.array(did), none.astype(np.int16), none * 1.0, none)

    assert liked(history, good, bad, 2).tolist() == [15, 16]
    assert liked(history, good, bad, 99).tolist() == [11, 12, 15, 16]


@pytest.mark.parametrize(
    ("weights", "said"), [([1, 1, 1], "3 scale_weights for 4 scales"), ([0] * 4, "positive finite")]
)
def test_weights_that_no_field_has_stop_the_start(bundle, shared, tmp_path, weights, said):
    """Of a feed.yaml, before any request meets them."""
    with pytest.raises(BundleError, match=rf"scorers\.interference\.scale_weights: .*{said}"):
        page(bundle, shared, tmp_path, mode="shadow", scale_weights=weights)


@pytest.mark.parametrize("alpha", [-0.1, np.inf, np.nan])
def test_alpha_is_a_finite_number(alpha):
    """A bundle's and a feed.yaml's: what is none would make every score none."""
    with pytest.raises(ConfigError, match="alpha"):
        check({"alpha": alpha}, InterferenceBlend, place="card")
    with pytest.raises(ConfigError, match=r"scorers\.interference\.alpha"):
        Pipeline.build(feed_of(alpha=alpha))


def test_new_posts_receive_a_field(bundle):
    """A post told since the bundle was made is placed as the bundle's are, until it is removed."""
    fields = InterferenceFields(bundle)
    known = bundle.posts.slice(0, 2)
    shifted = known.set_column(
        known.schema.get_field_index("post_id"),
        known.schema.field("post_id"),
        [np.array([777_001, 777_002])],
    ).select([name for name in known.column_names if name not in ("popularity", "num_shown")])
    ids = np.array([777_001, 777_002])

    before = fields.vectors(ids, "two_tower")
    fields.add_posts(shifted, None)
    placed = fields.vectors(ids, "two_tower")
    fields.remove_posts(ids[:1])
    after = fields.vectors(ids, "two_tower")

    assert not before.any()
    assert np.abs(placed).sum(1).min() > 0.1
    assert not after[0].any()
    np.testing.assert_array_equal(after[1], placed[1])


def test_a_bundle_is_not_written_over(bundle, tmp_path):
    """A new field makes a new bundle with another version; an old one stays as it was."""
    made = tuned(bundle, tmp_path / "made", 2.0, 4, 3, 2, 1)

    assert made.interference.alpha == 2.0
    assert made.interference.field.scale_weights == (4, 3, 2, 1)
    assert bundle.interference.alpha == 0
    with pytest.raises(BundleError, match="exists already"):
        tuned(bundle, tmp_path / "made", 1.0, 1, 1, 1, 1)


def local_history(bundle: Bundle, user_id: int):
    """A viewer's history as the bundle tells it."""
    from serve.stores.profiles import ProfileStore

    return ProfileStore(bundle.profiles).history(user_id)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small products on one core."""
    torch.set_num_threads(1)
