"""A real bundle of untrained models on a small synthetic world, written in seconds without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from pipelines.data.synthetic import SyntheticConfig, World
from pipelines.schema import EXAMPLES
from tests.train.prepared import examples, prepare
from train.bundle import write
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower

NUM_USERS = 60
UNKNOWN_USER = 10_000


def write_bundle(folder: Path, seed: int = 0) -> Path:
    """Write `folder/bundle` and what it is made from; returns its path.

    Another seed gives the same tables and other models.
    """
    world = World.make(
        SyntheticConfig(num_users=NUM_USERS, num_authors=20, num_posts=600, num_events=2500)
    )
    data = prepare(world, folder / "data")
    if not (data / "profiles").exists():
        (data / "profiles").mkdir()
        pq.write_table(_profiles(world), data / "profiles" / "part-00000.parquet")
    fingerprint = json.loads((data / "manifest.json").read_text())["fingerprint"]
    torch.manual_seed(seed)
    models: dict[str, Ranker | TwoTower] = {
        "ranker": Ranker(RankerConfig(emb_size=16)),
        "retrieval": TwoTower(RetrievalConfig(emb_size=16)),
    }
    for kind, model in models.items():
        run = folder / kind
        run.mkdir()
        save_file(model.state_dict(), run / "model.safetensors")
        learning = {"learning": {"kind": kind, "model": model.config.model_dump(mode="json")}}
        (run / "config.json").write_text(json.dumps(learning))
        (run / "result.json").write_text(json.dumps({"data_fingerprint": fingerprint}))
    write(folder / "retrieval", folder / "ranker", data, folder / "bundle")
    return folder / "bundle"


def _profiles(world: World) -> pa.Table:
    """All of each viewer's events as their history, oldest first."""
    names = [field.name for field in EXAMPLES if field.name.startswith("history_")]
    histories: dict[int, dict[str, list]] = {}
    for split in examples(world).values():
        for row in split.to_pylist():
            history = histories.setdefault(row["user_id"], {name: [] for name in names})
            for name in names:
                side = name.removeprefix("history_")
                history[name] += row["shown_at_ms" if side == "at_ms" else side]
    rows = [{"user_id": user_id, **history} for user_id, history in sorted(histories.items())]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([f for f in EXAMPLES if f.name in ("user_id", *names)])
    )
