"""The wire format of version 1: what several routes share. Each route's own is in api_*.py."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _finite(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


NO_BOOL = BeforeValidator(_no_bool)  # which is a number to Python, though not in JSON
Id = Annotated[int, NO_BOOL, Field(ge=1, le=2**63 - 1)]
SearchText = Annotated[str, Field(min_length=1, max_length=1_000)]
FeedName = Annotated[
    str, Field(max_length=64, description="which feed; those that the server was started with")
]
LEVELS = {"coarse": 0.0, "middle": 0.5, "fine": 1.0}  # names of zooms
Level = (
    Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    | Literal["coarse", "middle", "fine", "auto"]
)
Number = Annotated[float | None, BeforeValidator(_finite)]  # null = unknown; JSON has no NaN
Numbers = Annotated[list[Number] | Number, Field(union_mode="left_to_right")]
FROM_JSON = BeforeValidator(_from_json)  # of what a query string holds as JSON


class Request(BaseModel):
    """Base of requests: an unknown field is an error, so a typo is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(BaseModel):
    """What answered."""

    bundle: str = Field(description="path of the bundle")
    version: str = Field(description="changes with the bundle; its metrics do not count")
    as_of_ms: int = Field(description="newest event that the bundle knows; ms since 1970 UTC")


class Explained(BaseModel):
    """Base of what explains: read from the attributes of the pipeline's own."""

    model_config = ConfigDict(from_attributes=True)


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str
