"""GoEmotions: Reddit comments, 4 groups → 28 emotions, neutral among both.

Demszky et al. 2020. Comments with several emotions are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.downloads import member
from train.prefix.labelled import LabelledTexts

FETCH = (
    "fetch the folder of https://github.com/google-research/google-research/tree/master/goemotions "
    "with its data by group and original emotion (group/ and original/, each train.tsv, test.tsv "
    "and labels.txt), packed as goemotions.zip or in a folder goemotions"
)


def read(folder: Path) -> LabelledTexts:
    """Group and emotion of the comments that have just one."""
    fine_names, coarse_names = (_names(folder, level) for level in ("original", "group"))
    text, coarse, fine, test = [], [], [], []
    for part in ("train", "test"):
        rows = zip(_rows(folder, "original", part), _rows(folder, "group", part), strict=True)
        for (comment, emotion), (_, group) in rows:
            if "," in emotion or "," in group:
                continue
            text.append(comment)
            fine.append(fine_names[int(emotion)])
            coarse.append(coarse_names[int(group)])
            test.append(part == "test")
    return LabelledTexts.of("goemotions", text, (coarse, fine), np.array(test))


def _rows(folder: Path, level: str, part: str) -> list[tuple[str, str]]:
    lines = member(folder, "goemotions.zip", f"{level}/{part}.tsv", FETCH).decode()
    cells = [line.split("\t") for line in lines.split("\n") if line]
    return [(cell[0], cell[1]) for cell in cells]


def _names(folder: Path, level: str) -> list[str]:
    return member(folder, "goemotions.zip", f"{level}/labels.txt", FETCH).decode().split()
