"""Pieces of a study's page that several studies have, made from plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from train.report import text

Lines = list[str]


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Lines:
    """A table; cells are plain values."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return [*lines, *(f"| {' | '.join(map(text, row))} |" for row in rows), ""]


def checks_section(checks: Iterable[Mapping[str, Any]]) -> Lines:
    """What a study must show: bars, values and verdicts; nothing where there are no checks.

    Args:
        checks: each with "check", "bar", "value" and "met"; perhaps "note", and "aim" where
            nobody must meet it.
    """
    rows = [
        (
            check["check"] + (f" ({check['note']})" if "note" in check else ""),
            ("aim: " if check.get("aim") else "") + check["bar"],
            check["value"],
            "met" if check["met"] else "**MISSED**",
        )
        for check in checks
    ]
    if not rows:
        return []
    return ["## Checks", "", *table(("check", "bar", "value", "verdict"), rows)]


def parts_section(parts: Mapping[str, Mapping[str, Any]]) -> Lines:
    """What each part of a report cost, and when it was made.

    Args:
        parts: each with "cpu_minutes", "date" and "git_commit".
    """
    columns = ("cpu_minutes", "date", "git_commit")
    rows = [(name, *(part[column] for column in columns)) for name, part in parts.items()]
    total = sum(part["cpu_minutes"] for part in parts.values())
    return [
        "## Cost",
        "",
        *table(("part", "CPU minutes", "date", "git commit"), rows),
        f"{total:.1f} CPU minutes in all, on one thread.",
        "",
    ]
