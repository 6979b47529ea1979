"""The study of towers over prefix embeddings: the same towers, with and without."""

from __future__ import annotations

import json

import pytest

from tests.conftest import write_untrained_seeds
from tests.serve.prefix_data import FIT, with_texts
from train.report import plain
from train.runs import read_run
from train.studies import prefix_towers as module
from train.studies.content import Content
from train.studies.prefix_towers import TOWERS, PrefixTowers, prefix_towers


def test_on_and_off_differ_in_the_embeddings_alone(prepared, tmp_path, monkeypatch):
    """Each step is trained twice, alike but for the head, and judged on the same questions."""
    data = with_texts(prepared, tmp_path / "world")
    monkeypatch.setattr(module, "prepared_data", lambda config: data)
    monkeypatch.setattr(module, "encode", lambda *_: None)
    trained = {}

    def untrained(run, data, seeds):
        trained[run.name] = run
        return write_untrained_seeds(run, data, seeds, tmp_path)

    monkeypatch.setattr(module, "fit_seeds", untrained)
    settings = PrefixTowers(
        heads={"world": {"fit": FIT.model_dump(mode="json")}},
        content=Content(data={"world": 1}, out=str(tmp_path), emb_size=16),
    )
    found = prefix_towers(settings, (0, 1))["world"]

    head = tmp_path / "prefix-world"
    assert read_run(head)[1]["num_held_out"] > 0
    for step in TOWERS:
        name = f"content-world-{step}-towers"
        off, on = trained[name], trained[f"{name}-prefix"]
        assert (off.learning.prefix, on.learning.prefix) == (None, str(head))
        alike = {"name": name, "learning": off.learning}
        assert on.model_copy(update=alike) == off
        for measure in ("recall@10", "recall@100", "ndcg@10"):
            values, gain = found[step][measure]["values"], found[step][measure]["gain"]["on"]
            assert gain == pytest.approx(values["on"] - values["off"])
            assert "ease" in values
    json.dumps(plain(found), allow_nan=False)
