"""A bundle whose models read text, with and without its newest posts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data.encoder import EncoderSettings, identity
from pipelines.facts import CONTENT, CONTENT_IDS
from pipelines.prepared import note
from tests.conftest import train_config, write_untrained
from tests.serve.new_posts.world import LATER, SIZE, text_of
from train.bundle import Bundle, load
from train.bundle.writing import write
from train.models.likeness import LikenessConfig


@pytest.fixture(scope="session")
def both(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """A bundle by models that read text, and the same without its `LATER` newest posts."""
    folder = tmp_path_factory.mktemp("later")
    data = folder / "data"
    shutil.copytree(prepared, data)
    posts = pq.read_table(data / "posts.parquet").sort_by("post_id")
    texts = pa.array([f"post {one}" for one in posts["post_id"].to_pylist()])
    posts = posts.set_column(posts.schema.get_field_index("text"), "text", texts)
    pq.write_table(posts, data / "posts.parquet")
    ids = posts["post_id"].to_numpy()
    np.save(data / CONTENT_IDS, ids)
    np.save(data / CONTENT, np.stack([text_of(one) for one in ids.tolist()]))
    (folder / "encoder").mkdir()
    (folder / "encoder" / "weights").write_text("7")
    encoder = EncoderSettings(name=str(folder / "encoder"))
    said = {"encoder": encoder.model_dump(mode="json"), "identity": identity(encoder)}
    note(data, "content", said)
    runs = []
    for kind in ("retrieval", "ranker"):
        config = train_config(kind, data, folder)
        model = config.learning.model
        spec = model.features.model_copy(update={"content_size": SIZE})
        update: dict[str, object] = {"features": spec}
        if kind == "retrieval":
            update["post_context"] = True
        else:
            update["likeness"] = LikenessConfig()
        learning = config.learning.model_copy(update={"model": model.model_copy(update=update)})
        runs.append(write_untrained(config.model_copy(update={"learning": learning}), data))
    write(*runs, data, folder / "whole")
    known = pq.read_table(folder / "whole" / "tables" / "posts.parquet").sort_by("post_id")
    shutil.copytree(folder / "whole", folder / "early")
    pq.write_table(
        known.slice(0, len(known) - LATER), folder / "early" / "tables" / "posts.parquet"
    )
    whole = load(folder / "whole")
    index = whole.load_index()
    type(index).build(index.post_id[:-LATER], index.stored()[:-LATER].copy()).save(
        folder / "early" / "index"
    )
    assert (index.post_id == np.sort(index.post_id)).all()
    return whole, load(folder / "early")
