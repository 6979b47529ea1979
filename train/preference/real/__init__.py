"""Preferences that people showed: how well weights learned from pairs tell them.

One module a source; each has `measure(config) -> results`, and leaves itself out with an
InputError that says what to fetch.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import Any

from pipelines.data.reader import InputError

REAL = ("kuairand", "movielens")
_log = logging.getLogger(__name__)


def real_preferences(
    names: Sequence[str], config: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Results of each source, and of those that are missing what to fetch.

    Args:
        names: of REAL.
        config: the study's settings.
    """
    found, left_out = {}, {}
    for name in names:
        module = importlib.import_module(f"train.preference.real.{name}")
        try:
            found[name] = module.measure(config)
        except InputError as error:
            _log.warning("real preferences of %s: left out: %s", name, error)
            left_out[f"real_{name}"] = str(error)
    return found, left_out
