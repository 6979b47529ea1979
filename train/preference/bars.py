"""A figure of ours beside a published one: the row that says whether it is near enough."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

Results = Mapping[str, Any]
Check = dict[str, Any]


def near(name: str, value: float | None, wanted: float, within: float, **more: Any) -> Check:
    """Whether a value is `within` of the wanted one; a missing one is not."""
    met = value is not None and math.isfinite(value) and abs(value - wanted) <= within
    bar = f"{wanted:.4g} ± {within:.3g}"
    return {"check": name, "bar": bar, "value": value, "met": met, **more}


def largest(
    name: str, pairs: list[tuple[float, float]], within: float, **more: Any
) -> Iterator[Check]:
    """The largest of several differences to published figures; nothing where none was measured."""
    if not pairs:
        return
    worst = max(abs(ours - theirs) for ours, theirs in pairs)
    bar = f"{len(pairs)} figures ± {within:g}"
    told = f"largest difference {worst:.2g}"
    yield {"check": name, "bar": bar, "value": told, "met": worst <= within, **more}
