"""What the manifest says of a run: counts, ranges, actions and a fingerprint of the tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.data.gather import Gathered
from pipelines.data.reader import InputError, Reader
from pipelines.schema import SPLITS, action_weights, schema_hash, schema_spec


def row_counts(read: int, duplicates: int, rejected: int, kept: int) -> dict[str, int]:
    """Where the rows of one table went; the last three add up to the first."""
    return {"read": read, "duplicates": duplicates, "rejected": rejected, "kept": kept}


def fingerprint(digests: Mapping[str, str]) -> str:
    """One sha256 over file -> sha256: equal when all tables are equal to the byte."""
    lines = [f"{digest} {path}\n" for path, digest in sorted(digests.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def action_entries(reader: Reader) -> dict[str, Any]:
    """Actions in mask order with their weights, what the data set calls them, the schema hash."""
    actions = reader.actions
    return {
        "schema_hash": schema_hash(schema_spec(actions)),
        "actions": [action.name for action in actions],
        "action_weights": action_weights(actions).tolist(),
        "action_names": reader.action_names,
    }


def split_entries(gathered: Sequence[Gathered], in_time: bool) -> dict[str, dict[str, int]]:
    """Examples, candidates and the first and last shown_at_ms of each split.

    Args:
        gathered: of all partitions.
        in_time: all of train must be older than all of test.

    Raises:
        InputError: a row of train is as new as the oldest of test. A split by instants
            cannot do that; a split by days can, when the log's days do not follow its clock.
    """
    splits = {
        split: {
            "examples": sum(result.num_examples[split] for result in gathered),
            "candidates": sum(result.num_candidates[split] for result in gathered),
            **_range(gathered, split),
        }
        for split in SPLITS
    }
    newest, oldest = splits["train"].get("last_ms"), splits["test"].get("first_ms")
    if in_time and newest is not None and oldest is not None and newest >= oldest:
        raise InputError(
            f"split: train has a row shown at {newest} ms, test begins at {oldest} ms; "
            "choose other days, or split by instants"
        )
    return splits


def _range(gathered: Sequence[Gathered], split: str) -> dict[str, int]:
    found = [result.ranges[split] for result in gathered if split in result.ranges]
    if not found:
        return {}
    return {"first_ms": min(a for a, _ in found), "last_ms": max(b for _, b in found)}
