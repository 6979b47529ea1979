"""One public set of texts beside CLINC-150: own head, V5 and MRL."""

from __future__ import annotations

import itertools
from typing import Any

from train.prefix.scalars import all_scalars, bootstrap, mean_curves, summaries
from train.prefix.study import Arms, Runs, StudyConfig


def arms(study: StudyConfig, texts: str) -> Arms:
    """The conditions of all sets, and the encoder itself."""
    return study.set_arms(texts)


def results(study: StudyConfig, runs: Runs, story: dict[str, Any]) -> dict[str, Any]:
    """Curves and scalars by seed; what they say beside other sets is said by `sets`."""
    fixed = story["public_test"] is not None
    return {
        "conditions": {
            name: {
                "summary": summaries(values := all_scalars(found)),
                "by_seed": values,
                "r_precision": mean_curves(found, "r_precision"),
                "knn_train": mean_curves(found, "knn", "train"),
                "num_train": [record["num_train"] for record, _ in found],
                "num_test": [record["num_test"] for record, _ in found],
            }
            for (name,), found in runs.items()
        },
        "bootstrap": {
            "r_precision": {
                f"{a} - {b}": bootstrap(runs[(a,)], runs[(b,)], "r_precision", same_items=fixed)
                for a, b in itertools.combinations(study.set_conditions, 2)
            }
        },
    }
