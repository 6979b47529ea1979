"""The made-up pool: topics that make actions likelier, and where learning starts."""

from __future__ import annotations

import numpy as np

from train.preference.stakeholders import synthetic


def test_politics_is_blocked_more_and_entertainment_less():
    """What a topic makes likelier is so on average, and all are probabilities."""
    space = synthetic.space()
    block = space.features[:, synthetic.ACTION_NAMES.index("block_author")]
    by_topic = [block[space.topic == at].mean() for at in range(len(synthetic.TOPICS))]
    assert by_topic[2] > 2 * by_topic[1]
    assert by_topic[4] < 0.3 * by_topic[1]
    assert ((space.features >= 0) & (space.features <= 1)).all()


def test_stakeholders_differ_in_negative_actions_alone():
    """They agree on the positive ones; society minds negative ones most."""
    space = synthetic.space()
    assert (space.weights[:, ~space.negative] == space.weights[0, ~space.negative]).all()
    low = space.weights[:, space.negative].mean(axis=1)
    assert low[space.of_stakeholder("society")] == -4


def test_a_neutral_start_gives_nothing_away():
    """Without it learning begins at the user's own direction."""
    assert len(np.unique(synthetic.space(neutral=True).start)) == 1
    np.testing.assert_array_equal(synthetic.space().start, synthetic.space().weights[0])
