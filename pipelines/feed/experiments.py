"""Experiments: which viewers get a feed with other settings."""

from __future__ import annotations

import hashlib
from itertools import accumulate
from typing import Any

from pydantic import Field, model_validator

from configs import Config

_EXACT = 1e-9  # shares are decimal fractions: their sum is 1 but for rounding


class Arm(Config):
    """One way to serve, for a share of the viewers."""

    share: float = Field(gt=0, le=1)
    # As stage.component.setting: value, or stage.component: null to switch one off.
    settings: dict[str, Any] = Field(default_factory=dict)


class Experiment(Config):
    """Arms among which viewers are shared out, the same one for a viewer every time."""

    salt: str | None = None  # changed, all viewers are shared out anew; null = the name
    arms: dict[str, Arm] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares_add_up(self) -> Experiment:
        total = sum(arm.share for arm in self.arms.values())
        if abs(total - 1) > _EXACT:
            raise ValueError(f"the arms' shares add up to {total:g}, expected 1")
        return self

    def arm_of(self, name: str, user_id: int) -> str:
        """The viewer's arm in the experiment `name`: equal everywhere, whoever asks.

        The first 8 bytes of sha256(salt:user_id), as a fraction of 2^64, fall into one of the
        shares, which lie one after another in the order of the arms.
        """
        text = f"{name if self.salt is None else self.salt}:{user_id}"
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        ends = accumulate(arm.share for arm in self.arms.values())
        names = list(self.arms)
        return next((arm for arm, end in zip(names, ends, strict=True) if drawn < end), names[-1])
