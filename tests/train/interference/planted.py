"""A small MovieLens-100K: viewers of two tastes, films of two kinds, all made up."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

NUM_VIEWERS, NUM_FILMS = 60, 80


def write_ml_100k(folder: Path, seed: int = 0) -> Path:
    """An archive in the layout of ml-100k.zip: even viewers like even films, odd ones odd."""
    rng = np.random.default_rng(seed)
    lines = []
    for viewer in range(NUM_VIEWERS):
        seen = rng.permutation(NUM_FILMS)[: rng.integers(24, 44)]
        for at, film in enumerate(seen):
            likes = (film % 2 == viewer % 2) != (rng.random() < 0.1)
            stars = rng.integers(4, 6) if likes else rng.integers(1, 3)
            lines.append(f"{viewer + 1}\t{film + 1}\t{stars}\t{1000 + at}")
    order = rng.permutation(len(lines))
    films = [
        f"{film + 1}|Film {film} (1990)|01-Jan-1990||http://x|" + "|".join(["0"] * 18 + ["1"])
        for film in range(NUM_FILMS)
    ]
    users = [f"{viewer + 1}|24|M|artist|00000" for viewer in range(NUM_VIEWERS)]
    file = folder / "ml-100k.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name, rows in (
            ("u.data", [lines[at] for at in order]),
            ("u.item", films),
            ("u.user", users),
        ):
            archive.writestr(f"ml-100k/{name}", "\n".join(rows) + "\n")
    return file
