"""The application of configs/serve.yaml on a local cluster, one for all tests here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import ray
import yaml

from pipelines.data.encoder import EncoderSettings
from pipelines.runtime import connect
from serve.deploy import deploy, writing_to
from serve.rpc.scored_posts_pb2_grpc import ScoredPostsServiceStub
from serve.settings import Args
from tests.conftest import write_bundle
from tests.serve.prefix_data import fitted, with_texts
from tests.serve.served.feed import CONFIG, FEED, LOOPBACK, Served


@pytest.fixture(scope="package")
def served(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The application of configs/serve.yaml with a tiny bundle and room for 4 requests."""
    folder = tmp_path_factory.mktemp("served")
    data = with_texts(prepared, folder / "data", EncoderSettings())
    bundle_path = write_bundle(data, folder, prefix=fitted(data, folder))
    event_log = folder / "events"
    timeline = folder / "online" / "alpha" / "feed.yaml"  # where `train.online` would put another
    timeline.parent.mkdir(parents=True)
    shutil.copy(FEED, timeline)
    changes = {
        "bundle": str(bundle_path),
        **writing_to(folder),
        "event_log_max_age_s": 0.5,
        "feeds": Args().feeds | {"timeline": str(timeline)},
        "live": {**writing_to(folder)["live"], "training_log_max_age_s": 0.5},
        "limits": {"max_in_flight": 4, "retry_after_s": 3},
    }
    connect(num_cpus=2)
    from ray import serve

    url = deploy(CONFIG, changes)
    config = yaml.safe_load(CONFIG.read_text())
    config["applications"][0]["args"] |= changes
    channel = grpc.insecure_channel(f"{LOOPBACK}:{config['grpc_options']['port']}")
    with httpx.Client(base_url=url, timeout=30) as http, channel:
        yield Served(
            http, event_log, config, bundle_path, ScoredPostsServiceStub(channel), timeline
        )
    serve.shutdown()
    ray.shutdown()
