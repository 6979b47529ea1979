"""What leaves the server is JSON, whatever numbers are."""

from __future__ import annotations

import numpy as np

from serve.api_explain import Score


def test_numbers_that_json_does_not_have_are_null():
    """NaN and infinity leave the server as null."""
    score = Score.model_validate(
        {
            "basis": "value",
            "terms": [],
            "value": np.nan,
            "base_score": np.float64(np.inf),
            "multipliers": {"x": np.nan},
            "score": 1.5,
            "notes": [],
            "numbers": {"field": {"parts": (0.5, np.nan), "worth": np.nan}},
        }
    )
    assert score.model_dump_json() == (
        '{"basis":"value","terms":[],"value":null,"base_score":null,'
        '"multipliers":{"x":null},"score":1.5,"notes":[],"numbers":{"field":{"parts":[0.5,null],"worth":null}}}'
    )
