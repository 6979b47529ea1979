"""arXiv titles and abstracts: 11 archives → 138 categories, 250 papers each.

The metadata are in the public domain (CC0). There is no public split.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from train.downloads import found
from train.prefix.labelled import LabelledTexts

FILE = "arxiv_balanced_250_per_category.parquet"
FETCH = (
    "fetch the metadata of https://www.kaggle.com/datasets/Cornell-University/arxiv, draw 250 "
    "papers of each primary category, and write them as Parquet with columns archive, primary_cat, "
    "title and abstract"
)


def read(folder: Path) -> LabelledTexts:
    """Archive and primary category of 34,500 papers."""
    columns = ["archive", "primary_cat", "title", "abstract"]
    papers = pl.read_parquet(found(folder, FILE, FETCH), columns=columns)
    text = (papers["title"] + ". " + papers["abstract"]).to_list()
    levels = (papers["archive"].to_list(), papers["primary_cat"].to_list())
    return LabelledTexts.of("arxiv", text, levels, None)
