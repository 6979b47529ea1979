"""Verification: what a ranker that minds blocks shows, what one that does not, and no rule read."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.schema import ACTION_NAMES, SPLITS
from train.preference.counterfactuals import Event, Posts, cases, scores, with_event
from train.preference.verification import (
    LIKED,
    behaviour,
    counterfactuals,
    flips,
    home_topics,
    probe,
    silhouette,
    worth,
)
from train.preference.verify import main
from train.rows import Past, flatten, read_examples

A = len(ACTION_NAMES)
BLOCK, LIKE = ACTION_NAMES.index("block_author"), ACTION_NAMES.index("favorite")
OBSERVED = ("favorite", "click", "block_author", "follow_author")


@pytest.fixture(scope="module")
def examples(prepared) -> pa.Table:
    """The small world's test visits."""
    return read_examples(prepared, "test")


@pytest.fixture(scope="module")
def past(prepared) -> Past:
    """All that its viewers were shown."""
    return Past.of(read_examples(prepared, *SPLITS))


@pytest.fixture(scope="module")
def posts(prepared) -> Posts:
    """Its posts."""
    return Posts.of(pq.read_table(prepared / "posts.parquet"))


def ranker(minds_blocks: bool, posts: Posts):
    """A stand-in that likes topics its viewer likes, and drops authors that were blocked."""

    def predict(table: pa.Table) -> np.ndarray:
        out = []
        for row in table.to_pylist():
            did = np.array(row["history_did"], np.int64)
            liked = posts.topic_of(np.array(row["history_post_id"], np.int64)[did >> LIKE & 1 == 1])
            blocked = np.array(row["history_author_id"], np.int64)[did >> BLOCK & 1 == 1]
            for post, author in zip(row["post_id"], row["author_id"], strict=True):
                value = np.full(A, 0.1)
                value[LIKE] += 0.02 * (liked == posts.topic_of(np.array([post]))[0]).sum()
                value[LIKE] += 1e-3 * len(did)
                if minds_blocks and author in blocked:
                    value[LIKE] = 0.0
                out.append(value)
        return np.array(out)

    return predict


def test_cases_are_of_authors_never_met(examples, past, posts):
    """Neither the author nor their posts are in the history, and the placebo is of another."""
    made = cases(examples, past, posts, 20)
    assert len(made) > 5
    assert len({case.example["user_id"] for case in made}) == len(made)
    for case in made:
        assert case.author_id not in case.example["history_author_id"]
        assert case.met not in case.candidates
        assert case.unrelated[1] not in (case.author_id, *case.example["history_author_id"])


def test_an_author_whom_a_short_history_forgot_was_met(examples, past, posts):
    """Who was shown to the viewer earlier in the log is met, though the history ends after it."""
    short = examples
    for name in (name for name in examples.column_names if name.startswith("history_")):
        newest = pa.array([each[-2:] for each in examples[name].to_pylist()], examples[name].type)
        short = short.set_column(short.column_names.index(name), name, newest)
    made = cases(short, past, posts, 20)
    assert len(made) > 5
    for case in made:
        viewer, at_ms = case.example["user_id"], case.example["at_ms"]
        earlier = past.post_id[(past.user_id == viewer) & (past.at_ms < at_ms)]
        assert case.author_id not in posts.author_of(earlier)


def test_an_event_is_added_to_the_history_alone(examples, past, posts):
    """The inserted event is the newest, and the candidates are the same with and without it."""
    case = cases(examples, past, posts, 1)[0]
    plain = with_event(case, None)
    row = with_event(case, Event(case.met, case.author_id, "block_author"))
    assert row["history_did"] == [*plain["history_did"], 1 << BLOCK]
    assert row["history_at_ms"][-1] < row["at_ms"]
    assert row["post_id"] == plain["post_id"] == case.candidates.tolist()
    assert {len(row[name]) for name in row if name.startswith("history_")} == {
        len(plain["history_did"]) + 1
    }


def test_an_event_keeps_the_order_of_time(examples, past, posts):
    """Also after something done seconds before the visit the inserted event is the newest."""
    for case in cases(examples, past, posts, 20):
        late = [*case.example["history_at_ms"][:-1], case.example["at_ms"] - 1_000]
        for example in (case.example, case.example | {"history_at_ms": late}):
            event = Event(case.met, case.author_id, "block_author")
            row = with_event(replace(case, example=example), event)
            assert row["history_at_ms"] == sorted(row["history_at_ms"])
            assert row["history_at_ms"][-1] < row["at_ms"]


def test_a_ranker_that_minds_blocks_passes(examples, past, posts):
    """Blocks always lower and the placebo never does."""
    found = counterfactuals(ranker(True, posts), cases(examples, past, posts, 15), OBSERVED)
    assert found["block_author"]["less_placebo"] == 1.0
    assert found["block_author"]["less_other_author"] == 1.0
    assert found["block_author"]["beyond_seen"]["share"] == 1.0
    assert "mute_author" not in found  # never learned


def test_a_ranker_that_ignores_blocks_fails(examples, past, posts):
    """A block that changes nothing but the length of the history is no better than a placebo."""
    found = counterfactuals(ranker(False, posts), cases(examples, past, posts, 15), OBSERVED)
    assert found["block_author"]["less_placebo"] == 0.0
    assert found["block_author"]["beyond_seen"]["share"] == 0.0


def test_a_ranker_that_shuns_whoever_was_seen_is_found_out(examples, past, posts):
    """It passes the placebo, but its blocks do no more than a glance, and a like lowers too."""

    def shuns(table: pa.Table) -> np.ndarray:
        rows = table.to_pylist()
        met = [author in row["history_author_id"] for row in rows for author in row["author_id"]]
        return np.where(met, 0.0, 0.1)[:, None] * np.ones(A)

    found = counterfactuals(shuns, cases(examples, past, posts, 15), OBSERVED)
    assert found["block_author"]["less_placebo"] == 1.0
    assert found["block_author"]["beyond_seen"]["share"] == 0.0
    assert found["favorite"]["moved"]["share"] == 0.0


def test_worth_leaves_negative_actions_out():
    """A rise of the chance of being blocked is no rise of worth."""
    value = worth(OBSERVED)
    assert value[BLOCK] == 0
    assert value.sum() == len(set(OBSERVED) & set(LIKED))


def test_scores_are_means_over_each_rows_candidates(examples, past, posts):
    """Rows of different lengths keep their own candidates."""
    rows = [with_event(case, None) for case in cases(examples, past, posts, 4)]
    rows[1] |= {k: v[:1] for k, v in rows[1].items() if isinstance(v, list) and "history" not in k}

    def numbered(table: pa.Table) -> np.ndarray:
        return np.array(flatten(table).post_id, float)[:, None] * np.ones(A)

    value = np.zeros(A)
    value[LIKE] = 1.0
    means = [np.mean(row["post_id"]) for row in rows]
    np.testing.assert_allclose(scores(numbered, rows, value), means)


def test_histories_turn_the_order_of_topics(examples, posts):
    """A ranker that reads histories flips with them; one that does not never does."""
    reads = flips(ranker(True, posts), examples, posts, OBSERVED)
    assert reads["flipped"]["share"] > reads["control"]["share"]

    def still(table: pa.Table) -> np.ndarray:
        return np.array(flatten(table).post_id, float)[:, None] * np.ones(A)

    ignores = flips(still, examples, posts, OBSERVED)
    assert ignores["flipped"]["share"] == 0


def test_home_topics_are_the_most_liked(examples, posts):
    """A home topic is one of the history, and the empty history has none."""
    home = home_topics(examples, posts)
    empty = np.array([not past for past in examples["history_post_id"].to_pylist()])
    assert (home[empty] == 0).all()
    assert (home > 0).any()


def test_true_rates_have_no_error(examples, posts):
    """What says each row's own outcome errs nowhere; what says 1 everywhere errs in many."""
    rows = flatten(examples)
    true = np.stack([(rows.did >> at) & 1 for at in range(A)], axis=1).astype(float)
    found = behaviour(true, examples, posts)
    assert found["mean_error"] == pytest.approx(0, abs=1e-12)
    assert found["within_0.15"] == 1.0
    assert behaviour(np.ones_like(true), examples, posts)["within_0.15"] < 0.5


def test_silhouette_of_groups_apart_is_one():
    """Two tight groups score near 1, dealt labels near 0, and one group nothing."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    vectors = np.eye(2)[labels] + 0.01 * rng.normal(size=(60, 2))
    found = probe(vectors, labels)
    assert found["silhouette"] > 0.98
    assert abs(found["by_chance"]) < 0.2
    assert np.isnan(silhouette(vectors, np.zeros(60, int)))


def test_the_command_measures_any_bundle(bundle_path, prepared, tmp_path, capsys):
    """An untrained bundle is measured in full, and fails: blocks mean nothing to it."""
    code = main(
        [str(bundle_path), "--data", str(prepared), "--viewers", "20", "--out", str(tmp_path)]
    )
    found = json.loads((tmp_path / "verify.json").read_text())
    assert code == {True: 0, False: 1, None: 2}[found["met"]]
    assert found["viewers"] == 20
    assert "Block rate less placebo" in capsys.readouterr().out


def test_a_ranker_that_tells_nothing_apart_has_a_page(
    bundle_path, prepared, tmp_path, capsys, monkeypatch
):
    """Of a ranker that scores all alike, which puts no topic first, the verdict is a miss."""
    monkeypatch.setattr(
        "train.preference.verify.predict",
        lambda ranker, examples, facts, quiet: np.full((len(flatten(examples).post_id), A), 0.1),
    )
    given = [str(bundle_path), "--data", str(prepared), "--viewers", "5"]
    assert main([*given, "--out", str(tmp_path)]) == 1
    assert "own history puts own topic first | 0.000" in capsys.readouterr().out
    assert json.loads((tmp_path / "verify.json").read_text())["flips"]["flipped"]["num"] == 0
    (tmp_path / "file").touch()
    assert main([*given, "--out", str(tmp_path / "file")]) == 2


@pytest.mark.parametrize("num", ["0", "-1"])
def test_no_viewers_are_refused(num, bundle_path, prepared):
    """Asking nobody is a wrong setting, not a fault of the data."""
    with pytest.raises(SystemExit, match="2"):
        main([str(bundle_path), "--data", str(prepared), "--viewers", num])


def test_other_data_are_refused(bundle_path, tmp_path, capsys):
    """Without the bundle's own data nothing is measured."""
    assert main([str(bundle_path), "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err
