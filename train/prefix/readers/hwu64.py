"""HWU64: what people ask a home assistant, 18 scenarios → 64 intents, CC BY 4.0.

Liu et al. 2019. The public split is ten folds: none of them is the test split.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from train.downloads import member
from train.prefix.labelled import LabelledTexts

FETCH = (
    "fetch the test files of the ten folds of https://github.com/xliuhw/NLU-Evaluation-Data and "
    "write them as hwu64_cv_testsets.parquet with columns scenario, label_fine and "
    "answer_from_anno, packed as hwu64.zip or in a folder hwu64"
)


def read(folder: Path) -> LabelledTexts:
    """Scenario and intent of 11,036 utterances."""
    content = member(folder, "hwu64.zip", "hwu64_cv_testsets.parquet", FETCH)
    rows = pl.read_parquet(io.BytesIO(content)).filter(pl.col("answer_from_anno") != "")
    levels = (rows["scenario"].to_list(), rows["label_fine"].to_list())
    return LabelledTexts.of("hwu64", rows["answer_from_anno"].to_list(), levels, None)
