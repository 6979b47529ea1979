"""Writes a bundle: two trained runs, or other models, and the tables that they serve with."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from pipelines.prepared import read_manifest
from pipelines.schema import schema_hash, schema_spec
from pipelines.whole import new_folder, save_json
from train import git
from train.bundle import BundleError, load
from train.bundle.tables import observed_actions, write_tables
from train.index import index_posts
from train.preference.alignment import summary
from train.prefix.posts import prefix_story, read_prefix
from train.prefix_index import PREFIX, index_texts
from train.runs import MODEL, read_run_for


def write(
    retrieval: Path,
    ranker: Path,
    data: Path,
    out: Path,
    replace: bool = False,
    prefix: Path | None = None,
) -> None:
    """Put two trained runs and the tables they serve with into one new directory.

    Args:
        retrieval: a run of python -m train with learning.kind retrieval or next_event.
        ranker: a run with learning.kind ranker.
        data: the prepared data both were trained on.
        out: where to; every reader sees all of it or nothing.
        replace: `out` may exist and is thrown away.
        prefix: a run of train/prefix/posts.py; None = posts are not searched coarse to fine.

    Raises:
        BundleError: `out` exists.
        RunError: a run is missing, of the other kind, or was trained on other data.
    """
    check_out(out, replace)
    manifest = read_manifest(data)
    runs = {
        kind: (read_run_for(run, kind, manifest), run / MODEL)
        for kind, run in (("retrieval", retrieval), ("ranker", ranker))
    }
    weights = zip(manifest["actions"], manifest["action_weights"], strict=True)
    observed = observed_actions(data, manifest["actions"])
    # What the log never shows was never learned: its prediction is noise and weighs nothing.
    blend = {name: weight if name in observed else 0.0 for name, weight in weights}
    models = {
        kind: (run["learning"]["model"], load_file(file)) for kind, (run, file) in runs.items()
    }
    assemble(models, blend, observed, data, out, replace, prefix)


def assemble(
    models: dict[str, tuple[dict[str, Any], dict[str, Tensor]]],
    blend: dict[str, float],
    observed: list[str],
    data: Path,
    out: Path,
    replace: bool,
    prefix: Path | None = None,
) -> None:
    """Put models and tables into one new directory.

    Args:
        models: "retrieval" and perhaps "ranker" -> settings and weights.
        blend: what the ranker predicts, and the weight of each.
        observed: those of `blend` that it has learned.
        data: the prepared data.
        out: as for `write`, with its errors.
        replace: as for `write`.
        prefix: as for `write`.
    """
    check_out(out, replace)
    manifest = read_manifest(data)
    if prefix is not None:
        models = models | {PREFIX: read_prefix(prefix, manifest)}
    with new_folder(out) as folder:
        for name in ("index", "tables"):
            (folder / name).mkdir(parents=True)
        digests = {}
        for kind, (_, weights) in models.items():
            content = save(weights)
            digests[kind] = hashlib.sha256(content).hexdigest()
            (folder / f"{kind}.safetensors").write_bytes(content)
        spec = schema_spec()
        card = {
            "name": manifest["name"],
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "git_commit": git.commit(),
            "data_fingerprint": manifest["fingerprint"],
            "action_names": manifest["action_names"],
            "as_of_ms": write_tables(data, folder / "tables"),
            "observed_actions": observed,
            "content": manifest.get("content"),  # which encoder made the vectors of text
            PREFIX: None if prefix is None else prefix_story(prefix),
            "weights_sha256": digests,
            "audit": summary(blend),  # whom the blend serves; python -m train.preference.audit
            "metrics": {},  # python -m train.evaluate fills them in
        }
        files = {
            "config": {kind: config for kind, (config, _) in models.items()},
            "schema": {"hash": schema_hash(spec), "spec": spec},
            "blend": blend,
            "card": card,
        }
        for name, values in files.items():
            save_json(folder / f"{name}.json", values)
        written = load(folder)
        index = index_posts(written.load_two_tower(), written.posts, written.facts)
        index.save(folder / "index")
        if PREFIX in models:
            index_texts(written.prefix_head(), written.facts).save(folder / PREFIX)


def check_out(out: Path, replace: bool) -> None:
    """Refuse to write a bundle over what is none, or over one that is to stay.

    Raises:
        BundleError: as said.
    """
    if ":/" in str(out):  # what Path makes of ://
        raise BundleError(f"{out}: a bundle is written to a folder; copy it from there")
    if out.exists() and not replace:
        raise BundleError(f"{out}: exists already, and a bundle never changes; see --replace")
    if out.exists() and not (out / "card.json").exists():
        raise BundleError(f"{out}: is no bundle, so it is not replaced")
