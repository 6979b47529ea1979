"""cluster.yaml is what `ray up` takes, and safe to put on a network."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cluster() -> dict:
    """cluster.yaml with Ray's defaults filled in, as `ray up` does before it checks."""
    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    return prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


def test_ray_accepts_it(cluster):
    """The file passes the schema check of `ray up`."""
    validate_config(cluster)


def test_ray_would_notice_a_mistake(cluster):
    """The check is real: a misspelt key is refused."""
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config({**cluster, "max_wrokers": 3})


def test_it_has_a_head_and_autoscaled_workers_of_both_kinds(cluster):
    """One head without work of its own, CPU workers and GPU workers that can go to none."""
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert types["cpu"]["max_workers"] > types["cpu"]["min_workers"] >= 1
    assert types["gpu"]["max_workers"] > types["gpu"]["min_workers"] == 0


def test_every_node_needs_the_token(cluster):
    """Ray starts with token authentication everywhere, and the dashboard on loopback."""
    starts = [
        command
        for group in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in cluster[group]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "/home/ray/.ray/auth_token" in cluster["file_mounts"]


def test_every_node_installs_the_lock_file(cluster):
    """Head and workers install exactly what was tested."""
    for group in ("head_setup_commands", "worker_setup_commands"):
        assert any("requirements.lock" in command for command in cluster[group])
