"""All that crosses from training to serving, as one directory that never changes.

    ranker.safetensors retrieval.safetensors    weights
    config.json      resolved settings of both models
    schema.json      actions and columns the models depend on, with their hash
    blend.json       weight of each action in a post's score
    card.json        metrics beside their baselines, git commit, date, data fingerprint
    index/           FAISS index over the post tower's vectors
    tables/          posts (with popularity), users, follows, profiles, rates, text vectors

`python -m train.bundle --retrieval RUN --ranker RUN --data DIR --out DIR` writes one.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from pipelines.facts import Facts
from pipelines.schema import schema_hash, schema_spec
from train import git
from train.bundle_tables import observed_actions, write_tables
from train.index import PostIndex
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower

M = TypeVar("M", bound=nn.Module)
KINDS = {"retrieval": ("retrieval", "next_event"), "ranker": ("ranker",)}  # learning.kind of each
_JSON_FILES = ("card", "config", "schema", "blend")


class BundleError(ValueError):
    """A bundle that cannot be used; the text says which file and why."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle; models and index are read when asked for.

    Attributes:
        path: where it was loaded from.
        folder: its local copy.
        card: metrics, baselines and origin; `observed_actions` are those that it has learned.
        actions: names in the order of the ranker's outputs, A.
        weights: value of each action's probability, or of a second. float64 [A].
        as_of_ms: when the newest event known to the tables was shown.
    """

    path: str
    folder: Path
    card: dict[str, Any]
    config: dict[str, Any]
    actions: tuple[str, ...]
    weights: NDArray[np.float64]
    as_of_ms: int

    def load_ranker(self) -> Ranker:
        """The ranker with its trained weights, in evaluation mode."""
        model = Ranker(RankerConfig.model_validate(self.config["ranker"]))
        return _with_weights(model, self.folder / "ranker.safetensors")

    def load_two_tower(self) -> TwoTower:
        """Both towers with their trained weights, in evaluation mode."""
        model = TwoTower(RetrievalConfig.model_validate(self.config["retrieval"]))
        return _with_weights(model, self.folder / "retrieval.safetensors")

    def load_index(self) -> PostIndex:
        """The index over the post tower's vectors."""
        return PostIndex.load(self.folder / "index")

    @cached_property
    def facts(self) -> Facts:
        """What the models read of posts and viewers, as of the newest event."""
        return Facts.load(self.folder / "tables", self.actions)

    @cached_property
    def posts(self) -> pa.Table:
        """schema.POSTS, with popularity float64 in [0, 1] and num_shown int64."""
        return pq.read_table(self.folder / "tables" / "posts.parquet")

    @cached_property
    def users(self) -> pa.Table:
        """schema.USERS."""
        return pq.read_table(self.folder / "tables" / "users.parquet")

    @cached_property
    def follows(self) -> pa.Table:
        """schema.FOLLOWS."""
        return pq.read_table(self.folder / "tables" / "follows.parquet")

    @cached_property
    def profiles(self) -> pa.Table:
        """user_id and the history columns of schema.EXAMPLES: each viewer's newest events."""
        return pq.read_table(self.folder / "tables" / "profiles.parquet")


def load(path: str | Path) -> Bundle:
    """Open a bundle on any fsspec path; a remote one is copied to a temporary folder.

    Raises:
        BundleError: not a bundle, or its actions or columns differ from the code's.
    """
    folder = _local(str(path))
    try:
        files = {name: json.loads((folder / f"{name}.json").read_text()) for name in _JSON_FILES}
    except OSError as error:
        raise BundleError(f"{path}: not a bundle: {error.strerror}: {error.filename}") from error
    except json.JSONDecodeError as error:
        raise BundleError(f"{path}: a damaged bundle: {error}") from error
    _check_schema(str(path), files["schema"])
    return Bundle(
        path=str(path),
        folder=folder,
        card=files["card"],
        config=files["config"],
        actions=tuple(files["blend"]),
        weights=np.array(list(files["blend"].values())),
        as_of_ms=files["card"]["as_of_ms"],
    )


def write(retrieval: Path, ranker: Path, data: Path, out: Path, replace: bool = False) -> None:
    """Put two trained runs and the tables they serve with into one new directory.

    Args:
        retrieval: a run of python -m train with learning.kind retrieval or next_event.
        ranker: a run with learning.kind ranker.
        data: the prepared data both were trained on.
        out: where to; every reader sees all of it or nothing.
        replace: `out` may exist and is thrown away.

    Raises:
        BundleError: `out` exists, or a run is missing, of the other kind, or was
            trained on other data.
    """
    if ":/" in str(out):  # what Path makes of ://
        raise BundleError(f"{out}: a bundle is written to a folder; copy it from there")
    if out.exists() and not replace:
        raise BundleError(f"{out}: exists already, and a bundle never changes; see --replace")
    if out.exists() and not (out / "card.json").exists():
        raise BundleError(f"{out}: is no bundle, so it is not replaced")
    manifest = json.loads((data / "manifest.json").read_text())
    runs = {
        kind: _read_run(run, kind, manifest)
        for kind, run in (("retrieval", retrieval), ("ranker", ranker))
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        folder = Path(scratch) / "bundle"
        for name in ("index", "tables"):
            (folder / name).mkdir(parents=True)
        shutil.copyfile(ranker / "model.safetensors", folder / "ranker.safetensors")
        shutil.copyfile(retrieval / "model.safetensors", folder / "retrieval.safetensors")
        as_of_ms = write_tables(data, folder / "tables")
        observed = observed_actions(data, manifest["actions"])
        spec = schema_spec()
        card = {
            "name": manifest["name"],
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "git_commit": git.commit(),
            "data_fingerprint": manifest["fingerprint"],
            "action_names": manifest["action_names"],
            "as_of_ms": as_of_ms,
            "observed_actions": observed,
            "weights_sha256": {kind: _sha256(folder / f"{kind}.safetensors") for kind in runs},
            "metrics": {},  # python -m train.evaluate fills them in
        }
        weights = zip(manifest["actions"], manifest["action_weights"], strict=True)
        # What the log never shows was never learned: its prediction is noise and weighs nothing.
        blend = {name: weight if name in observed else 0.0 for name, weight in weights}
        contents = {
            "config": {kind: run["learning"]["model"] for kind, run in runs.items()},
            "schema": {"hash": schema_hash(spec), "spec": spec},
            "blend": blend,
            "card": card,
        }
        for name, content in contents.items():
            (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
        _write_index(load(folder), folder / "index")
        if out.exists():
            out.rename(Path(scratch) / "before")  # deleted with the scratch folder
        folder.rename(out)


def write_metrics(bundle: Bundle, metrics: dict[str, Any]) -> None:
    """Record in a local bundle's card how good its models are; nothing else changes.

    Raises:
        BundleError: the bundle was loaded from a remote path.
    """
    if "://" in bundle.path:
        raise BundleError(f"{bundle.path}: metrics are written to a local bundle only; copy it")
    card = bundle.card | {"metrics": metrics}
    (bundle.folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def _read_run(run: Path, kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
    try:
        config = json.loads((run / "config.json").read_text())
        result = json.loads((run / "result.json").read_text())
    except OSError as error:
        raise BundleError(f"{run}: not a finished run of python -m train") from error
    if config["learning"]["kind"] not in KINDS[kind]:
        raise BundleError(f"{run}: a {config['learning']['kind']} run, expected {kind}")
    theirs, ours = result["data_fingerprint"], manifest["fingerprint"]
    if theirs != ours:
        raise BundleError(f"{run}: trained on data {theirs}, not {ours}")
    num_outputs = config["learning"]["model"]["features"]["num_actions"]
    if num_outputs != len(manifest["actions"]):
        raise BundleError(f"{run}: {num_outputs} actions, the data has {len(manifest['actions'])}")
    return config


def _write_index(bundle: Bundle, folder: Path) -> None:
    """Run every post through its tower."""
    model = bundle.load_two_tower()
    spec = model.config.features
    post_id = bundle.posts["post_id"].to_numpy()
    author_id = pc.fill_null(bundle.posts["author_id"], 0).to_numpy()
    hashes = [spec.hashes("post", post_id), spec.hashes("author", author_id)]
    with torch.inference_mode():
        chunks = zip(*(torch.from_numpy(h).split(65_536) for h in hashes), strict=True)
        vectors = torch.cat([model.post(*chunk) for chunk in chunks])
    PostIndex.build(post_id, vectors.numpy()).save(folder)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _with_weights(model: M, file: Path) -> M:
    model.load_state_dict(load_file(file))
    return model.eval()


def _check_schema(path: str, theirs: dict[str, Any]) -> None:
    ours = schema_spec()
    if theirs["hash"] == schema_hash(ours):
        return
    changed = [
        f"{table}: {line}"
        for table in sorted(ours.keys() | theirs["spec"].keys())
        for line in difflib.ndiff(theirs["spec"].get(table, []), ours.get(table, []))
        if line[0] in "+-"
    ]
    raise BundleError(
        f"{path}: made for another schema; - the bundle's, + this code's:\n" + "\n".join(changed)
    )


def _local(path: str) -> Path:
    if "://" not in path:
        return Path(path).resolve()
    filesystem, root = fsspec.core.url_to_fs(path)
    folder = Path(tempfile.mkdtemp(prefix="bundle-"))
    filesystem.get(root.rstrip("/") + "/", str(folder) + "/", recursive=True)
    return folder


def main() -> int:
    """Write a bundle from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.bundle")
    for name in ("retrieval", "ranker", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--replace", action="store_true", help="put the new one in out's place")
    args = parser.parse_args()
    try:
        write(args.retrieval, args.ranker, args.data, args.out, args.replace)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.out}: bundle written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
