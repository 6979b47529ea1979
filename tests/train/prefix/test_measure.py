"""What is measured of a head: pools, directions and what short prefixes save."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.prefix.measure import measure, route


def planted() -> tuple[list[torch.Tensor], np.ndarray]:
    """Prefixes of which the short one knows the coarse label alone, the long one both."""
    rng = np.random.default_rng(0)
    fine = rng.permutation(np.arange(600) % 12)
    labels = np.stack([fine // 4, fine], axis=1)
    coarse = np.eye(3)[labels[:, 0]] + rng.normal(0, 0.05, (600, 3))
    both = np.concatenate([coarse, 2 * np.eye(12)[fine] + rng.normal(0, 0.05, (600, 12))], axis=1)
    return [torch.from_numpy(part.astype(np.float32)) for part in (coarse, both)], labels


def test_a_planted_hierarchy_is_measured():
    """A prefix of coarse labels alone has them all, chance on the fine ones, and S near 3/4."""
    prefixes, labels = planted()
    train, test = ([p[rows] for p in prefixes] for rows in (slice(300), slice(300, 600)))
    record, items = measure(train, labels[:300], test, labels[300:])
    assert set(record["knn"]) == {"all", "train"}  # 300 texts are fewer than any fixed pool
    for pool in record["knn"].values():
        assert pool["L0"] == [1, 1]
        assert pool["L1"][1] == 1
        assert pool["L1"][0] == pytest.approx(0.25, abs=0.12)
    assert record["r_precision"]["L0"][0] == 1
    s = 1 - record["knn"]["train"]["L1"][0]
    assert items["knn"].mean() == pytest.approx(s)
    assert record["retrieval"]["L1"]["recall@1"][1] == 1
    assert record["probe"]["L1"][1] == 1


def test_pools_are_the_first_texts():
    """S of 500 texts is that of the first 500 alone."""
    prefixes, labels = planted()
    record, _ = measure(prefixes, labels, prefixes, labels, with_uses=False)
    first, _ = measure(prefixes, labels, [p[:500] for p in prefixes], labels[:500], with_uses=False)
    assert record["knn"]["500"] == first["knn"]["all"]
    assert "retrieval" not in record


def test_routing_by_hand():
    """A text stays at the first prefix that is trusted enough, and the last is always taken."""
    trust = np.array([[1.0, 0.4, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.2]])
    hits = np.array([[True, False, False], [False, True, False], [False, False, True]])
    found = route(trust, hits, np.array([64.0, 128.0, 256.0]), 0.6)
    assert found == {"accuracy": 1.0, "size": pytest.approx((64 + 128 + 256) / 3)}
    assert route(trust, hits, np.array([64.0, 128.0, 256.0]), 0.0)["size"] == 64
