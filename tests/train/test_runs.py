"""A run's folder holds a whole run, of settings that the data can serve."""

from __future__ import annotations

import json

import pytest

from tests.conftest import train_config, write_untrained
from tests.pipelines.test_whole import stop
from train.runs import MODEL, RESULT, RunError, new_run, origin, read_run, resolve


def test_a_failed_export_leaves_the_earlier_run(prepared, tmp_path):
    """Nothing of a run that was not written to its end is seen."""
    config = resolve(train_config("ranker", prepared, tmp_path), prepared)
    folder = write_untrained(config, prepared)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    with pytest.raises(OSError, match="full"), new_run(config, {}) as made:
        stop((made / MODEL).write_bytes(b"half"))

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_a_run_says_what_it_was_made_from(prepared, tmp_path):
    """What the block adds to the story is kept, and the origin of the run with it."""
    config, story = (
        resolve(train_config("ranker", prepared, tmp_path), prepared),
        {"total_steps": 3},
    )
    with new_run(config, story) as made:
        (made / MODEL).write_bytes(b"")
        story["shift"] = {"click": 0.1}
    settings, told = read_run(tmp_path / "ranker")

    assert settings == config.model_dump(mode="json")
    assert told == {"total_steps": 3, "shift": {"click": 0.1}} | origin(config)
    assert told["data_fingerprint"]


def test_half_a_run_is_none(prepared, tmp_path):
    """A folder without a story, or with a damaged one, is no finished run."""
    folder = write_untrained(train_config("ranker", prepared, tmp_path), prepared)
    (folder / RESULT).write_text('{"total_')

    for run in (folder, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=f"{run}: not a finished run"):
            read_run(run)


@pytest.mark.parametrize("name", ["history_len", "counted_len"])
def test_a_model_cannot_read_more_than_the_data_keep(name, prepared, tmp_path):
    """Longer histories than were prepared would be short in training and long in serving."""
    config = train_config("ranker", prepared, tmp_path)
    kept = json.loads((prepared / "manifest.json").read_text())["config"]["examples"]["history_len"]
    for length, allowed in ((kept, True), (kept + 1, False)):
        spec = config.learning.model.features.model_copy(update={name: length})
        model = config.learning.model.model_copy(update={"features": spec})
        asked = config.model_copy(
            update={"learning": config.learning.model_copy(update={"model": model})}
        )
        if allowed:
            resolve(asked, prepared)
            continue
        with pytest.raises(ValueError, match=rf"features\.{name}: {kept + 1}, but .* only {kept} "):
            resolve(asked, prepared)
