"""What the demo says about the viewers it shows; the whole of it runs with the README."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from serve.demo import STRANGER, _viewers


def test_viewers_are_introduced_by_their_events(bundle):
    """The fullest profile, the emptiest and a stranger; one event is not "events"."""
    profiles = pa.table({"user_id": [7, 8], "history_post_id": [[1], [1, 2, 3]]})
    few = replace(bundle)
    few.__dict__["profiles"] = profiles  # in place of the file's
    assert _viewers(few) == [
        (8, "3 events in the profile"),
        (7, "1 event in the profile"),
        (STRANGER, "never seen before"),
    ]
