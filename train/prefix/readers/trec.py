"""TREC questions: what kind of answer is asked for, 6 kinds → 50 kinds.

Li and Roth 2002.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.downloads import member
from train.prefix.labelled import LabelledTexts

FETCH = (
    "fetch train_5500.label and TREC_10.label from "
    "https://cogcomp.seas.upenn.edu/Data/QA/QC/, packed as trec.zip or in a folder trec"
)


def read(folder: Path) -> LabelledTexts:
    """Kind of 5,452 questions to train on and 500 to test on."""
    rows, test = [], []
    for name in ("train_5500.label", "TREC_10.label"):
        lines = member(folder, "trec.zip", name, FETCH).decode("latin-1").splitlines()
        part = [line.split(" ", 1) for line in lines if line.strip()]
        rows += part
        test += [name == "TREC_10.label"] * len(part)
    fine = [label for label, _ in rows]
    coarse = [label.partition(":")[0] for label in fine]
    text = [text.strip() for _, text in rows]
    return LabelledTexts.of("trec", text, (coarse, fine), np.array(test))
