"""The field of prefix vectors: in serving, in a search of blends, and where a bundle has none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from configs import load as load_config
from pipelines.feed.discover import FeedConfig
from pipelines.schema import POSTS
from serve.deployments import local_models
from serve.interference import InterferenceFields
from serve.models import Interfering
from serve.stores.profiles import ProfileStore
from tests.conftest import write_bundle
from tests.serve.feed_server import FEED, serving
from tests.serve.prefix_data import fitted, with_texts
from tests.train.models import field_oracle as oracle
from train.bundle import Bundle, BundleError, load
from train.bundle.versions import with_blend
from train.models.fractal.blend import InterferenceBlend
from train.models.fractal.config import FieldConfig
from train.models.fractal.liked import liked, signs
from train.prefix_index import split
from train.tuning.blended import Blended
from train.tuning.replayed import ModelsThen


@pytest.fixture(scope="module")
def data(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world with texts."""
    return with_texts(prepared, tmp_path_factory.mktemp("spaces") / "data")


@pytest.fixture(scope="module")
def with_prefix(data: Path) -> Bundle:
    """A bundle with prefix vectors, whose field is of them."""
    written = write_bundle(data, data.parent, prefix=fitted(data, data.parent))
    field = FieldConfig(base_scale=1.0)
    blend = InterferenceBlend(alpha=1.0, space="prefix", field=field, max_history=3)
    with_blend(written, data.parent / "of-prefixes", interference=blend)
    return load(data.parent / "of-prefixes")


def stored(bundle: Bundle) -> dict[int, np.ndarray]:
    """Whole vectors of the prefix index whose parts weigh the same."""
    index = bundle.load_prefix_index()
    parts = split(index.full.stored(), index.coarse_size)
    whole = np.concatenate(parts, axis=1) / np.sqrt(2)
    return dict(zip(index.full.post_id.tolist(), whole, strict=True))


def test_the_field_is_that_of_prefix_vectors(with_prefix):
    """The newest likes send waves from their prefix vectors, also to a post told since."""
    fields, vectors = InterferenceFields(with_prefix), stored(with_prefix)
    good, bad = signs(with_prefix.weights)
    store = ProfileStore(with_prefix.profiles)
    histories = [store.history(user) for user in range(1, 40)]
    history = next(h for h in histories if len(liked(h, good, bad, 9)) > 3)
    sources = liked(history, good, bad, 10**6)[-3:]
    ids = np.array(list(vectors)[:20])
    row = {"post_id": 10**6, "author_id": 1, "created_at_ms": 1, "text": "as the first"}
    text = with_prefix.facts.of_posts(ids[:1], "content")[0]

    fields.add_posts(pa.Table.from_pylist([row], POSTS.arrow), text)
    found = fields.interference(Interfering(history, np.append(ids, [10**6, 10**9])))

    points, at = (np.stack([vectors[one] for one in some.tolist()]) for some in (sources, ids))
    waves = np.random.default_rng(0).standard_normal((8, points.shape[1]))
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    expected = oracle.by_scale(points, np.ones(3), at, waves, 0.5 ** np.arange(4))
    by_scale = found.constructive + found.destructive
    np.testing.assert_allclose(by_scale[:20], expected, atol=1e-4)
    np.testing.assert_allclose(by_scale[20], by_scale[0], atol=1e-5)
    assert (by_scale[21] == 0).all()
    assert np.abs(expected).max() > 0.1


def test_a_search_knows_the_vectors_that_serving_uses(with_prefix, data):
    """A blend is tuned on the very vectors of each space, zeros of unknown posts included."""
    then, served = ModelsThen(with_prefix, data), InterferenceFields(with_prefix)
    ids = np.append(with_prefix.facts.post_id[:30], 10**9)

    for space in ("two_tower", "content", "prefix"):
        expected = served.vectors(ids, space)
        np.testing.assert_allclose(then.vectors(ids, space).of(ids), expected, atol=1e-6)
        assert expected[:30].any()


def test_without_prefix_vectors_it_is_refused(bundle, tmp_path):
    """Neither a card, a served feed.yaml nor a search may ask a bundle for what it has not."""
    feed = FEED.model_copy(update={"scorers": {"interference": {"mode": "on", "space": "prefix"}}})

    async def serve() -> None:
        async with serving(bundle, local_models(bundle), tmp_path / "log", feed):
            raise AssertionError("a feed without its vectors was served")

    with pytest.raises(BundleError, match="--prefix RUN"):
        with_blend(bundle.folder, tmp_path / "b", interference=InterferenceBlend(space="prefix"))
    with pytest.raises(BundleError, match=r"scorers\.interference\.space; no prefix vectors"):
        asyncio.run(serve())
    own = load_config("configs/feed.yaml", FeedConfig)
    for settings, given in (
        ({"interference.space": "prefix"}, own),
        ({"scorers.interference.space": "prefix"}, own),
        ({"interference.alpha": 1.0}, feed),
    ):
        with pytest.raises(BundleError, match="--prefix RUN"):
            Blended.of(bundle, given, settings)
