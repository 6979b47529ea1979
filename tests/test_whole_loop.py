"""Logs to examples to models to a served feed to impressions to logs: the whole loop, once."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from ray.util.state import list_actors
from safetensors.torch import load_file

from pipelines.data.job import prepare
from pipelines.data.spread import over_ray
from pipelines.data.synthetic import SyntheticConfig, World
from pipelines.facts import Facts
from pipelines.features import example_inputs
from pipelines.runtime import connect
from pipelines.schema import ACTION_NAMES
from serve.deploy import deploy, writing_to
from tests.conftest import UNKNOWN_USER, data_config, train_config
from train.bundle import Bundle, load
from train.bundle.writing import write
from train.metrics import auc
from train.rows import flatten, read_examples
from train.worker import _read, fit

pytestmark = pytest.mark.ray

BATCH, NUM_EPOCHS = 16, 1
MODEL = {
    "emb_size": 32,
    "transformer": {"num_layers": 1, "num_heads": 2, "num_kv_heads": 2, "key_size": 16},
    "features": {"history_len": 16, "user_vocab": 2000, "post_vocab": 8000, "author_vocab": 500},
}


@dataclass
class Round:
    """What one time round the loop left behind."""

    folder: Path
    world: World
    manifest: dict
    bundle: Bundle
    url: str
    killed: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def once_round(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    """One local cluster on which the whole loop is run."""
    folder = tmp_path_factory.mktemp("loop")
    world = World.make(
        SyntheticConfig(
            num_users=1200,
            num_authors=16,
            num_posts=2000,
            num_events=120_000,
            num_coarse=2,
            num_fine=2,
        )
    )
    world.write(folder / "log")
    connect(num_cpus=4)  # logical: what waits for CPUs on a small machine takes turns
    manifest = prepare(data_config(folder / "log", folder / "data"), over_ray)
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(folder / "ray", killed), daemon=True)
    killer.start()
    runs = {kind: fit(run_settings(kind, folder)) for kind in ("ranker", "retrieval")}
    killer.join()
    write(runs["retrieval"], runs["ranker"], folder / "data", folder / "bundle")
    url = deploy(
        "configs/serve.yaml",
        {"bundle": str(folder / "bundle"), **writing_to(folder)},
    )
    yield Round(folder, world, manifest, load(folder / "bundle"), url, killed)
    ray.shutdown()


def run_settings(kind: str, folder: Path, **more: object):
    """A run of a model that can find the planted tastes in seconds."""
    learning = {"kind": kind, "model": MODEL}
    optim = {"lr": 5e-3, "table_lr": 2e-2, "warmup_steps": 20}
    return train_config(
        kind,
        folder / "data",
        folder,
        **{
            "learning": learning,
            "optim": optim,
            "batch_size": BATCH,
            "num_epochs": NUM_EPOCHS,
            "checkpoint_every_steps": 200,
        }
        | more,
    )


def kill_a_worker(runs: Path, killed: list[int]) -> None:
    """Kill -9 the worker of the first run as soon as it has written a checkpoint."""
    while not list(runs.glob("ranker-*/checkpoint_*")):
        time.sleep(0.2)
    here = ray.get_runtime_context().gcs_address  # other clusters may run on the machine
    wanted = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
    alive = list_actors(address=here, filters=wanted)
    killed.extend(actor.pid for actor in alive)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)


def test_nothing_in_training_is_newer_than_the_test(once_round):
    """On the written examples, all of training is older than all of the test split."""
    train, test = (
        flatten(read_examples(once_round.folder / "data", split)).shown_at_ms
        for split in ("train", "test")
    )

    assert train.max() < test.min()
    assert once_round.manifest["rows"]["events"]["kept"] == len(once_round.world.events)


def test_killed_worker_costs_no_steps(once_round):
    """The run whose worker was killed made as many steps as one that was left alone."""
    result = json.loads((once_round.folder / "ranker" / "result.json").read_text())
    num_examples = once_round.manifest["splits"]["train"]["examples"]

    assert once_round.killed
    assert result["total_steps"] == NUM_EPOCHS * (num_examples // BATCH)


def test_result_says_each_observed_action(once_round):
    """A run's result holds log loss and rate of the actions that the held-out log observes."""
    result = json.loads((once_round.folder / "ranker" / "result.json").read_text())
    actions = result["epochs"][-1]["actions"]

    assert "click" in actions
    assert "dwell_time" not in actions
    assert all(entry["log_loss"] > 0 and 0 <= entry["rate"] <= 1 for entry in actions.values())


def test_same_seed_same_weights(once_round):
    """One worker, one seed: a run left alone gives the killed run's weights, to the bit."""
    again = fit(run_settings("ranker", once_round.folder, name="again"))
    first, second = (
        load_file(folder / "model.safetensors") for folder in (once_round.folder / "ranker", again)
    )

    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def test_rows_come_in_the_order_of_their_files(once_round, tmp_path):
    """Also when a large file is read beside small ones: one seed, one order of examples."""
    sizes = [400_000, *[10] * 15]
    for part, size in enumerate(sizes):
        rows = pa.table({"part": np.full(size, part), "text": ["some text"] * size})
        pq.write_table(rows, tmp_path / f"part-{part:05}.parquet")
    batches = _read(tmp_path).iterator().iter_batches(batch_size=None, batch_format="pyarrow")
    parts = np.concatenate([batch["part"].to_numpy() for batch in batches])

    assert len(parts) == sum(sizes)
    assert (np.diff(parts) >= 0).all()


def test_model_finds_the_planted_tastes(once_round):
    """On days it has not seen, the ranker orders likes and clicks far better than chance.

    The planted truth itself reaches about 0.77 and 0.72.
    """
    ranker = once_round.bundle.load_ranker()
    rows = read_examples(once_round.folder / "data", "test")
    inputs = example_inputs(rows, ranker.config.features, Facts.load(once_round.folder / "data"))
    predicted = ranker.predict({name: torch.from_numpy(a) for name, a in inputs.items()}).numpy()
    flat = flatten(rows)
    valid = inputs["candidate_post_hashes"][..., 0] != 0
    for name in ("favorite", "click"):
        action = ACTION_NAMES.index(name)
        assert auc(flat.label(action), predicted[valid][:, action]) > 0.62, name


def test_feed_of_a_known_viewer(once_round):
    """A viewer of the log gets ranked posts they have not seen, each with its reason."""
    page = feed(once_round, user_id=7, limit=10)
    seen = set(
        pq.read_table(once_round.folder / "data" / "profiles")
        .filter(pq.read_table(once_round.folder / "data" / "profiles")["user_id"].to_numpy() == 7)[
            "history_post_id"
        ][0]
        .as_py()
    )

    assert not page["cold_start"]
    assert page["degraded"] == []
    assert [post["rank"] for post in page["posts"]] == list(range(1, 11))
    assert not {post["post_id"] for post in page["posts"]} & seen
    assert all(
        post["reason"] and post["p_action"].keys() == set(ACTION_NAMES) for post in page["posts"]
    )
    scores = [post["score"] for post in page["posts"]]
    assert scores == sorted(scores, reverse=True)


def test_feed_of_a_stranger(once_round):
    """A viewer nobody has heard of gets a cold-start feed and is told so."""
    page = feed(once_round, user_id=UNKNOWN_USER, limit=5)

    assert page["cold_start"]
    assert len(page["posts"]) == 5


def test_impressions_become_the_next_log(once_round, tmp_path):
    """What was served is read back by the data job, row for row."""
    pages = [feed(once_round, user_id=user_id, limit=5) for user_id in range(20, 26)]
    served = {(p["request_id"], post["post_id"]) for p in pages for post in p["posts"]}
    events = once_round.folder / "events"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        written = [
            pq.read_table(f, columns=["request_id", "post_id"]) for f in events.glob("**/*.parquet")
        ]
        rows = {(r["request_id"], r["post_id"]) for table in written for r in table.to_pylist()}
        if served <= rows:
            break
        time.sleep(0.5)
    assert served <= rows

    config = data_config(once_round.folder / "log", tmp_path / "next")
    reader = config.reader | {"events": str(events), "users": None}  # a stranger was served too
    manifest = prepare(config.model_copy(update={"reader": reader}))

    assert manifest["rows"]["events"]["rejected"] == 0
    assert manifest["rows"]["events"]["kept"] >= len(served)
    assert manifest["splits"]["test"]["first_ms"] > int(
        np.max(once_round.world.events["shown_at_ms"].to_numpy())
    )


def feed(once_round: Round, **body: object) -> dict:
    """One request; its answer must be 200."""
    reply = httpx.post(f"{once_round.url}/v1/feed", json=body, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()
