"""Which runs may go into a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KINDS = {"retrieval": ("retrieval", "next_event"), "ranker": ("ranker",)}  # learning.kind of each


class BundleError(ValueError):
    """A bundle that cannot be used; the text says which file and why."""


def read_run(run: Path, kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Settings of the finished run in the folder `run`.

    Args:
        run: written by python -m train.
        kind: "retrieval" or "ranker".
        manifest: of the data that it must have been trained on.

    Raises:
        BundleError: the run is missing, of the other kind, or was trained on other data.
    """
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
