"""Public sets of texts with a hierarchy of labels: one file each, named as the set."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from configs import ConfigError, near_miss
from train.prefix.labelled import LabelledTexts


def names() -> list[str]:
    """Sets that have a reader."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def read(name: str, folder: Path) -> LabelledTexts:
    """All texts of a set.

    Args:
        name: one of `names()`.
        folder: of the downloads of all sets.

    Raises:
        ConfigError: no such set.
        MissingInputError: the set's file is not in the folder; the text says what to fetch.
    """
    if name not in names():
        raise ConfigError(f"sets.{name}: no such set of texts{near_miss(name, names())}")
    return importlib.import_module(f"{__name__}.{name}").read(folder)
