"""Tables of the study's page, made from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.interference.measures import MEASURES
from train.report_tables import Lines, table


def measured(rows: Mapping[str, Mapping[str, Any]], first: str = "") -> Lines:
    """A row a ranker: mean over viewers ± standard error of each measure."""
    return table(
        (first, *MEASURES.values()),
        ((name, *(plus_minus(of[key]) for key in MEASURES)) for name, of in rows.items()),
    )


def plus_minus(value: Mapping[str, Any]) -> str:
    """Mean ± standard error."""
    if value["mean"] is None:
        return "–"
    error = value.get("error")
    return f"{value['mean']:.4f}" + (f" ± {error:.4f}" if error is not None else "")


def interval(value: Mapping[str, Any]) -> str:
    """A difference with its interval; bold where it is clear after correction."""
    if value.get("difference") is None:
        return "–"
    words = f"{value['difference']:+.4f} [{value['low']:+.4f}, {value['high']:+.4f}]"
    return f"**{words}**" if is_clear(value) else words


def is_clear(value: Mapping[str, Any]) -> bool:
    """Whether a difference differs from 0 after correction for how many were looked at."""
    p = value.get("p_holm")
    return p is not None and p < 0.05


def verdict(value: Mapping[str, Any]) -> str:
    """`gain`, `loss` or `null`."""
    if not is_clear(value):
        return "null"
    return "gain" if value["difference"] > 0 else "loss"
